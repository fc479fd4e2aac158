"""Reads the live events of tasks.

Owns the subscription: a flag with a lifetime makes workers publish, and is renewed while the events are read.
It is the only write of a query.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, NotRequired, TypedDict, get_args

import orjson

from streamq.calls import operator as operator_calls
from streamq.calls import question as question_calls
from streamq.flow import Ask, Flow, adrive, ask, drive
from streamq.keys import shard_keys
from streamq.namespace import namespace_of
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.subscription import AsyncSubscription, Subscription
from streamq.transport.sync_transport import SyncTransport

EventName = Literal[
    "started", "completed", "retried", "dead", "cancelled", "expired", "handed_back", "skipped", "run_skipped"
]
_NAMES: Final = frozenset(get_args(EventName))
Message = tuple[str, str]
FLAG_MS: Final = 15_000
RENEWED: Final = 5.0


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a task.

    event: its kind; `skipped` means `number` events that a busy worker left out, and `run_skipped` means
    `number` runs of a schedule that were not made: `id` ends with the name of the latest. seconds: in the
    handler; None if it was not called.
    """

    event: EventName
    id: str
    worker: str
    at_ms: int
    attempt: int = 0
    seconds: float | None = None
    number: int = 1
    error: str = ""
    """Of a `retried` or `dead` task: the error's name and message; the name only if payloads are sealed."""

    @property
    def type(self) -> str:
        """The task's type; '' if the event is not of one task."""
        return self.id.partition(":")[0]


class _BaseTail:
    """What the sync and the async tail share: the renewal of the flag, and the filter of messages."""

    def __init__(self, app: str, shards: int) -> None:
        self._keys = [shard_keys(app, shard) for shard in range(shards)]
        self._database = namespace_of(app).database
        self._workers: set[str] = set()
        self._renew_at = 0.0

    def _renew(self) -> Flow[None]:
        """Renew the flag that makes workers publish, if that is due."""
        if time.monotonic() < self._renew_at:
            return
        first = self._renew_at == 0.0
        self._renew_at = time.monotonic() + RENEWED
        for shard in self._keys:
            yield Ask(operator_calls.listen(shard, FLAG_MS, at_once=first))

    def _read(self, message: Message | None) -> Flow[list[Event]]:
        """Return the events of a message, if it is of this app."""
        if message is None or not (yield from self._is_ours(message[1])):
            return []
        return list(_events(message[1]))

    def _is_ours(self, text: str) -> Flow[bool]:
        """Return whether a message was published in this database. Workers of earlier releases do not name
        theirs; they are found in the database's list of workers."""
        worker, database = _publisher(text)
        if database is not None:
            return database == self._database
        if worker not in self._workers:
            self._workers = {name for name, _ in (yield from ask(question_calls.workers(self._keys[0])))}
        return worker in self._workers


class Tail(_BaseTail):
    """The live events of one app. A context manager: `with app.inspector.tail() as events`."""

    def __init__(self, transport: SyncTransport, app: str, shards: int) -> None:
        super().__init__(transport.address.namespace.app(app), shards)
        self._transport = transport
        self._subscription = Subscription(transport, self._keys[0].events)

    def __enter__(self) -> Tail:
        self._subscription.open()
        drive(self._transport, self._renew())
        return self

    def __exit__(self, *_: object) -> None:
        self._subscription.close()

    def next(self, timeout: float) -> list[Event]:
        """Return the next events; an empty list if there are none for `timeout` seconds. Raises
        RedisErrors."""
        drive(self._transport, self._renew())
        return drive(self._transport, self._read(self._subscription.next(timeout)))

    def __iter__(self) -> Iterator[Event]:
        """Yield events without end."""
        while True:
            yield from self.next(1.0)


class AsyncTail(_BaseTail):
    """The same in an event loop: `async with app.ainspector.tail() as events`."""

    def __init__(self, transport: AsyncTransport, app: str, shards: int) -> None:
        super().__init__(transport.address.namespace.app(app), shards)
        self._transport = transport
        self._subscription = AsyncSubscription(transport, self._keys[0].events)

    async def __aenter__(self) -> AsyncTail:
        await self._subscription.open()
        await adrive(self._transport, self._renew())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._subscription.aclose()

    async def next(self, timeout: float) -> list[Event]:
        """Return the next events, as `Tail.next` does."""
        await adrive(self._transport, self._renew())
        return await adrive(self._transport, self._read(await self._subscription.next(timeout)))

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events without end."""
        while True:
            for event in await self.next(1.0):
                yield event


def _publisher(text: str) -> tuple[str, int | None]:
    """Return the worker that published a message, and its database; None if that is not in it."""
    try:
        message = orjson.loads(text)
        return str(message["worker"]), message.get("database")
    except (ValueError, TypeError, KeyError, AttributeError):
        return "", None


def _events(text: str) -> Iterator[Event]:
    try:
        message = orjson.loads(text)
        worker, events, left_out = str(message["worker"]), message["events"], message["left_out"]
        yield from (_event(worker, stored) for stored in events)
        if left_out:
            yield Event("skipped", "", worker, 0, number=int(left_out))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
        return  # published by another program


class _Stored(TypedDict):
    event: EventName
    id: str
    at_ms: int
    attempt: int
    seconds: NotRequired[float | None]
    number: NotRequired[int]
    error: NotRequired[str]


def _event(worker: str, stored: _Stored) -> Event:
    seconds = stored.get("seconds")
    if stored["event"] not in _NAMES:
        raise ValueError(stored["event"])
    at_ms, attempt = int(stored["at_ms"]), int(stored["attempt"])
    datetime.fromtimestamp(at_ms / 1000, UTC)  # raises an error for a time that no worker can have written
    took = None if seconds is None else float(seconds)
    if took is not None and not math.isfinite(took):
        raise ValueError(seconds)
    number = int(stored.get("number", 1))
    error = str(stored.get("error", ""))[:300]
    return Event(stored["event"], str(stored["id"]), worker, at_ms, attempt, took, number, error)

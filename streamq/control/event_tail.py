"""Listens to what happens to tasks, as it happens.

Owns the listening: a flag with a lifetime has the workers tell, and is renewed while somebody reads. It
is the one thing that a question writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

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
    """Something that happened to a task.

    event: what; `skipped` stands for `number` events that a busy worker left out, and `run_skipped` for
    `number` runs of a schedule that were not made: `id` ends with the name of the latest. seconds: in the
    handler, None where it was not called.
    """

    event: EventName
    id: str
    worker: str
    at_ms: int
    attempt: int = 0
    seconds: float | None = None
    number: int = 1

    @property
    def type(self) -> str:
        """The task's type; '' where the event is about no one task."""
        return self.id.partition(":")[0]


class _Listening:
    """What the plain and the async tail know alike: whom to ask to tell, when again, and what concerns us."""

    def __init__(self, app: str, shards: int) -> None:
        self._keys = [shard_keys(app, shard) for shard in range(shards)]
        self._database = namespace_of(app).database
        self._workers: set[str] = set()
        self._renew_at = 0.0

    def _ask(self) -> Flow[None]:
        """Have the workers tell for a while, where that is due."""
        if time.monotonic() < self._renew_at:
            return
        first = self._renew_at == 0.0
        self._renew_at = time.monotonic() + RENEWED
        for shard in self._keys:
            yield Ask(operator_calls.listen(shard, FLAG_MS, at_once=first))

    def _read(self, message: Message | None) -> Flow[list[Event]]:
        """The events of a message that concerns us."""
        if message is None or not (yield from self._concerns_us(message[1])):
            return []
        return list(_events(message[1]))

    def _concerns_us(self, text: str) -> Flow[bool]:
        """Whether it was told in our database. Workers of earlier releases do not say which is theirs, but it
        has a list of its workers."""
        worker, database = _told_by(text)
        if database is not None:
            return database == self._database
        if worker not in self._workers:
            self._workers = {name for name, _ in (yield from ask(question_calls.workers(self._keys[0])))}
        return worker in self._workers


class Tail(_Listening):
    """Listens to one app. A context manager: `with app.inspector.tail() as events`."""

    def __init__(self, transport: SyncTransport, app: str, shards: int) -> None:
        super().__init__(transport.address.namespace.app(app), shards)
        self._transport = transport
        self._subscription = Subscription(transport, self._keys[0].events)

    def __enter__(self) -> Tail:
        self._subscription.open()
        drive(self._transport, self._ask())
        return self

    def __exit__(self, *_: object) -> None:
        self._subscription.close()

    def next(self, timeout: float) -> list[Event]:
        """Return what happened, an empty list where nothing did for `timeout` seconds. Raises RedisErrors."""
        drive(self._transport, self._ask())
        return drive(self._transport, self._read(self._subscription.next(timeout)))

    def __iter__(self) -> Iterator[Event]:
        """Events without an end."""
        while True:
            yield from self.next(1.0)


class AsyncTail(_Listening):
    """As Tail, in an event loop: `async with app.ainspector.tail() as events`."""

    def __init__(self, transport: AsyncTransport, app: str, shards: int) -> None:
        super().__init__(transport.address.namespace.app(app), shards)
        self._transport = transport
        self._subscription = AsyncSubscription(transport, self._keys[0].events)

    async def __aenter__(self) -> AsyncTail:
        await self._subscription.open()
        await adrive(self._transport, self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._subscription.aclose()

    async def next(self, timeout: float) -> list[Event]:
        """As `Tail.next`."""
        await adrive(self._transport, self._ask())
        return await adrive(self._transport, self._read(await self._subscription.next(timeout)))

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events without an end."""
        while True:
            for event in await self.next(1.0):
                yield event


def _told_by(text: str) -> tuple[str, int | None]:
    """The worker that told something, and its database; None where it does not say that."""
    try:
        said = orjson.loads(text)
        return str(said["worker"]), said.get("database")
    except (ValueError, TypeError, KeyError, AttributeError):
        return "", None


def _events(text: str) -> Iterator[Event]:
    try:
        said = orjson.loads(text)
        worker, events, left_out = str(said["worker"]), said["events"], said["left_out"]
        yield from (_event(worker, told) for told in events)
        if left_out:
            yield Event("skipped", "", worker, 0, number=int(left_out))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
        return  # said by somebody else


def _event(worker: str, told: dict[str, Any]) -> Event:
    seconds = told.get("seconds")
    if told["event"] not in _NAMES:
        raise ValueError(told["event"])
    at_ms, attempt = int(told["at_ms"]), int(told["attempt"])
    datetime.fromtimestamp(at_ms / 1000, UTC)  # a moment that none is was not said by a worker
    took = None if seconds is None else float(seconds)
    if took is not None and not math.isfinite(took):
        raise ValueError(seconds)
    return Event(
        told["event"], str(told["id"]), worker, at_ms, attempt, took, number=int(told.get("number", 1))
    )

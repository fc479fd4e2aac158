"""The relay: takes rows from an outbox, sends them, and deletes what was sent.

Owns the pass and the loop around it. A pass is one transaction: rows are locked, sent, deleted, committed.
What dies before the commit is sent again under the same keys. The tables are those of the subclasses.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from streamq.app.app import StreamQ
from streamq.options.checks import Duration, seconds, whole
from streamq.outbox.row import Row, now_ms
from streamq.outbox.sending import Later, Parked, Sent, Verdict, asend, send
from streamq.telemetry import logs

_PAUSE: Final = 5.0
"""Seconds without sending at once, after it has failed: the relay goes on meanwhile."""


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """What is in an outbox. waiting: rows to send; parked: rows that a person must look at. oldest: seconds
    since the oldest waiting row was written. tries: the most refusals of a waiting row. errors: of parked
    rows, up to ten."""

    waiting: int
    parked: int
    oldest: float
    tries: int
    errors: Mapping[str, str]


class Change(NamedTuple):
    """What a pass writes of a row that stays. not_before_ms: None parks it."""

    id: UUID
    not_before_ms: int | None
    tries: int
    error: str


class Claim(Protocol):
    """Rows that are locked by an open transaction."""

    rows: Sequence[Row]

    def settle(self, sent: Sequence[UUID], kept: Sequence[Change]) -> Any:
        """Delete rows and change others. May return an awaitable."""


def settled(rows: Sequence[Row], verdicts: Sequence[Verdict]) -> tuple[list[UUID], list[Change]]:
    """Return the rows to delete, and the changes of the others."""
    sent: list[UUID] = []
    kept: list[Change] = []
    now = now_ms()
    for row, verdict in zip(rows, verdicts, strict=True):
        match verdict:
            case Sent():
                sent.append(row.id)
            case Later(delay_ms, error):
                kept.append(Change(row.id, now + delay_ms, row.tries + 1, error))
            case Parked(error):
                kept.append(Change(row.id, None, row.tries + 1, error))
    return sent, kept


class Relay(ABC):
    """An outbox as its relay sees it. window: how long the key of a sent row is remembered: it must outlive
    the longest outage between a sending and its commit. batch: rows a pass. immediate: send the rows of a
    transaction at once after its commit, in the process that wrote them."""

    is_async: bool = False

    def __init__(self, *, window: Duration = "24h", batch: int = 500, immediate: bool = True) -> None:
        self.window_ms: int = round(1000 * seconds(window, "window", least=60.0))
        self.batch: int = whole(batch, "batch", least=1)
        self.immediate: bool = immediate
        self._quiet_until = 0.0
        self._log = logs.get_logger(outbox=type(self).__name__)

    @property
    @abstractmethod
    def app(self) -> StreamQ:
        """The app that the tasks are sent with."""

    @abstractmethod
    def claimed(self, ids: Sequence[UUID] | None = None) -> AbstractContextManager[Claim]:
        """Open a transaction and lock rows that are due, or those of `ids`, which others have not locked."""

    def aclaimed(self, ids: Sequence[UUID] | None = None) -> AbstractAsyncContextManager[Claim]:
        """As `claimed`, for an async engine."""
        raise NotImplementedError

    @abstractmethod
    def status(self) -> OutboxStatus:
        """Return what is in the outbox."""

    @abstractmethod
    def retry(self) -> int:
        """Let parked rows be sent again, as if they were new; return how many."""

    async def astatus(self) -> OutboxStatus:
        """As `status`, for an async engine."""
        raise NotImplementedError

    async def aretry(self) -> int:
        """As `retry`, for an async engine."""
        raise NotImplementedError

    def relay_once(self, ids: Sequence[UUID] | None = None) -> int:
        """Send the rows of one pass; return how many it took. Raises RedisErrors and what the database
        does."""
        with self.claimed(ids) as claim:
            rows = claim.rows
            if rows:
                claim.settle(*settled(rows, send(self.app, rows, self.window_ms)))
            return len(rows)

    async def arelay_once(self, ids: Sequence[UUID] | None = None) -> int:
        """Send the rows of one pass, as `relay_once` does."""
        async with self.aclaimed(ids) as claim:
            rows = claim.rows
            if rows:
                await claim.settle(*settled(rows, await asend(self.app, rows, self.window_ms)))
            return len(rows)

    def run(self, stop: threading.Event, *, interval: float = 1.0, once: bool = False) -> int:
        """Send rows until `stop` is set, or with `once` until none is due; return how many. With `once`
        errors are raised, else they are logged and tried again."""
        total = 0
        while not stop.is_set():
            try:
                taken = self.relay_once()
            except Exception as error:
                if once:
                    raise
                self._failed(error)
                taken = 0
            total += taken
            if taken < self.batch:
                if once:
                    return total
                stop.wait(interval)
        return total

    async def arun(self, stop: asyncio.Event, *, interval: float = 1.0, once: bool = False) -> int:
        """Send rows, as `run` does, in an event loop."""
        total = 0
        while not stop.is_set():
            try:
                taken = await self.arelay_once()
            except Exception as error:
                if once:
                    raise
                self._failed(error)
                taken = 0
            total += taken
            if taken < self.batch:
                if once:
                    return total
                try:
                    await asyncio.wait_for(stop.wait(), interval)
                except TimeoutError:
                    continue
        return total

    def send_now(self, ids: Sequence[UUID]) -> None:
        """Send rows whose transaction has just been committed. Never raises: the relay sends what is left."""
        if self._may_send():
            try:
                self.relay_once(ids)
            except Exception as error:  # noqa: BLE001 - the transaction is committed; nothing must look failed
                self._put_off(error)

    async def asend_now(self, ids: Sequence[UUID]) -> None:
        """Send rows, as `send_now` does."""
        if self._may_send():
            try:
                await self.arelay_once(ids)
            except Exception as error:  # noqa: BLE001 - as above
                self._put_off(error)

    def _may_send(self) -> bool:
        return self.immediate and time.monotonic() >= self._quiet_until

    def _put_off(self, error: Exception) -> None:
        self._quiet_until = time.monotonic() + _PAUSE
        self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._log.warning("outbox.failed", error=type(error).__name__, message=str(error)[:500])

"""Waits for tasks to end, in one event loop: any number of waits on a few connections.

Owns when a wait looks at its task: when its channel is subscribed, when a message arrives, and every few
seconds in case a message was lost. If the server refuses subscriptions a wait polls, at a rate that the
server can bear. Must not know a handle, nor decode a result.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from streamq.calls import listing as listing_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls.call import AnyCall, Call
from streamq.calls.locate import locate
from streamq.client.wait_reasons import Surroundings
from streamq.errors import RedisError, RedisUnavailable
from streamq.keys import ShardKeys, TypeKeys, shard_keys
from streamq.model.reply import Located
from streamq.model.task import LIVING
from streamq.outages import MOMENT
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.batching import QuestionBatcher
from streamq.transport.listener import ChannelWaiter, Listener

R = TypeVar("R")

LOOK_AGAIN: Final = 5.0
"""Seconds after which a wait looks again, in case a message was lost."""
MANY: Final = 1000
"""Waits up to which each looks that often; if there are more, each looks less often."""
FIRST_POLL: Final = 0.05
LONGEST_POLL: Final = 1.0
"""Seconds between two looks, at first and at most, if the server refuses subscriptions."""
POLLS: Final = 200
"""Looks a second of all waits together, in that case."""
SURROUNDINGS: Final = 1.0
"""Seconds that reading the reasons of a wait may take, and for which they are reused."""
GRACE: Final = 0.25
"""Seconds beyond its deadline that a wait may take to find out what it waits for."""


class Waiting:
    """The waits of one event loop."""

    def __init__(self, transport: AsyncTransport, patience: float) -> None:
        self._transport = transport
        self._patience = patience
        self._listener = Listener(transport)
        self._batchers: dict[int, QuestionBatcher] = {}
        self._surroundings: asyncio.Task[Surroundings | None] | None = None
        self._surroundings_until = 0.0

    @property
    def listener(self) -> Listener:
        """What wakes the waits, for others that wait for a channel."""
        return self._listener

    async def ask(self, shard: int, calls: Sequence[AnyCall], patience: float | None = None) -> list[Any]:
        """Ask about keys of one shard. Raises RedisErrors, at the latest when the patience is over."""
        patience = self._patience if patience is None else patience
        try:
            async with asyncio.timeout(patience + GRACE if patience > 0 else self._transport.reply_timeout):
                return await self.ask_untimed(shard, calls, patience)
        except TimeoutError:
            raise self._no_answer() from None

    async def ask_untimed(self, shard: int, calls: Sequence[AnyCall], patience: float | None) -> list[Any]:
        """Ask as `ask` does, for callers with a timeout of their own: a silent server is waited for
        longer."""
        return await self._batcher(shard).ask(calls, self._patience if patience is None else patience)

    async def ask_one(self, shard: int, call: Call[R]) -> R:
        """Ask one question. Raises RedisErrors, at the latest when the patience is over."""
        batcher, patience = self._batcher(shard), self._patience
        if batcher.free:
            until = time.monotonic() + (patience if patience > 0 else self._transport.reply_timeout)
            try:
                found: R = await batcher.ask_now(call, patience)
            except RedisUnavailable:
                left = until - time.monotonic()
                if left <= 0:
                    raise
                patience = min(patience, left)
            else:
                return found
        [found] = await self.ask(shard, [call], patience)
        return found

    def _batcher(self, shard: int) -> QuestionBatcher:
        batcher = self._batchers.get(shard)
        if batcher is None:
            batcher = self._batchers[shard] = QuestionBatcher(self._transport)
        return batcher

    def _no_answer(self) -> RedisUnavailable:
        return RedisUnavailable(f"{self._transport.address} does not answer in time")

    @property
    def pause(self) -> float:
        """Seconds after which each wait looks again."""
        return LOOK_AGAIN * max(1.0, len(self._listener) / MANY)

    def pause_after(self, polls: int) -> float:
        """Return the same for a wait that has looked so often without success."""
        if self._listener.refused is None:
            return self.pause
        _log_once(str(self._transport.address), self._listener.refused)
        own = min(LONGEST_POLL, FIRST_POLL * 2.0 ** min(polls, 10))
        return max(own, len(self._listener) / POLLS)

    async def wait_until_ended(
        self, keys: TypeKeys, local: str, deadline: float | None, seen: Located | None = None
    ) -> Located:
        """Wait until the task has ended, or until the deadline (monotonic); return its state then. An outage
        ends no wait before the deadline; without one, a server that is unreachable at the first look is
        waited for as long as in any call. seen: what the caller's own first look found, so that it is not
        repeated.

        Raises RedisErrors; RedisUnavailable if the state is unknown at the deadline.
        """
        patience = self._patience if self._patience > 0 else self._transport.reply_timeout
        until = time.monotonic() + patience if deadline is None else deadline
        if seen is None:
            seen = await self._look_now(keys, local, until)
        if seen is None and deadline is None:
            [seen] = await self.ask(keys.shard, [locate(keys, local)], max(MOMENT, until - time.monotonic()))
        if seen is not None and seen.state not in LIVING:
            return seen
        wait = _Wait(self, keys, local, deadline, seen)
        try:
            async with asyncio.timeout(None if deadline is None else wait.left() + GRACE):
                return await wait.run(self._listener)
        except TimeoutError:
            if wait.located is None:
                raise self._no_answer() from None
            return wait.located

    async def _look_now(self, keys: TypeKeys, local: str, until: float) -> Located | None:
        """Return the task's state if it can be asked at once and is answered: many tasks have ended by
        then."""
        batcher = self._batcher(keys.shard)
        if not batcher.free:
            return None
        try:
            patience = max(MOMENT, until - time.monotonic())
            found: Located = await batcher.ask_now(locate(keys, local), patience)
        except RedisUnavailable:
            return None
        return found

    async def surroundings(self, app: str) -> Surroundings | None:
        """Return the surroundings of an app's tasks, not older than a second; None if they cannot be read
        soon. Many waits whose time is over at the same moment ask once."""
        if self._surroundings is None or (
            self._surroundings.done() and time.monotonic() >= self._surroundings_until
        ):
            self._surroundings_until = time.monotonic() + SURROUNDINGS
            self._surroundings = self._transport.spawn(self._read_surroundings(shard_keys(app, 0)))
        done, _ = await asyncio.wait((self._surroundings,), timeout=SURROUNDINGS)
        return self._surroundings.result() if done else None

    async def _read_surroundings(self, keys: ShardKeys) -> Surroundings | None:
        calls = (
            question_calls.now(keys.workers),
            question_calls.workers(keys),
            question_calls.heartbeats(keys),
            listing_calls.paused(keys),
        )
        try:
            now, beats, details, paused = await self.ask(0, calls, SURROUNDINGS)
        except RedisError:
            return None  # a user without the rights, or a server that is unreachable
        return Surroundings.of(now, beats, details, paused)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._listener.aclose()
        for batcher in self._batchers.values():
            await batcher.aclose()

    def abandon(self) -> None:
        """Close the connections after the event loop was closed."""
        self._listener.abandon()
        for batcher in self._batchers.values():
            batcher.abandon()


_LOGGED: Final[set[str]] = set()


def _log_once(server: str, error: RedisError) -> None:
    """Log that waits have to poll, once for each server."""
    if server not in _LOGGED:
        _LOGGED.add(server)
        logs.get_logger().warning(
            "result.polled",
            server=server,
            error=str(error),
            fix="allow the user to SUBSCRIBE; until then results are polled for, so they arrive up to "
            f"{LONGEST_POLL:g} s later",
        )


class _Wait:
    """One wait. located: the task's state at the last look."""

    def __init__(
        self,
        waiting: Waiting,
        keys: TypeKeys,
        local: str,
        deadline: float | None,
        seen: Located | None,
    ) -> None:
        self._waiting = waiting
        self._keys, self._local, self._deadline = keys, local, deadline
        self._registered = 0
        self.located = seen

    def left(self) -> float:
        """Return the seconds until the deadline; until the next look if there is none."""
        if self._deadline is None:
            return self._waiting.pause
        return max(0.0, self._deadline - time.monotonic())

    async def run(self, listener: Listener) -> Located:
        """Wait until the task has ended or the time is over; return its last state."""
        located = self.located or await self._look([])
        if located.state not in LIVING:
            return located
        waiter = listener.join(self._keys.done(self._local))
        try:
            for polls in itertools.count():
                if located.state not in LIVING or self.left() <= 0:
                    break
                woken = await waiter.wait(min(self.left(), self._waiting.pause_after(polls)))
                try:
                    located = await self._look(self._register(waiter, again=not woken))
                except RedisUnavailable:
                    if self.left() <= 0:
                        raise
        finally:
            listener.leave(waiter)
        return located

    def _register(self, waiter: ChannelWaiter, *, again: bool) -> list[AnyCall]:
        """Return the call that registers for the task's message: before the first look of each subscription,
        and `again` before a look without a message, as a registration expires."""
        if not waiter.subscribed or (waiter.subscribed == self._registered and not again):
            return []
        self._registered = waiter.subscribed
        wait_ms = round((self.left() + 2 * self._waiting.pause) * 1000)
        return [producer_calls.wait(self._keys, self._local, wait_ms)]

    async def _look(self, before: list[AnyCall]) -> Located:
        calls = [*before, locate(self._keys, self._local)]
        patience = None if self._deadline is None else self.left()
        answers = await self._waiting.ask_untimed(self._keys.shard, calls, patience)
        located: Located = answers[-1]
        self.located = located
        return located

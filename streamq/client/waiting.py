"""Waiting for the ends of tasks, in one event loop: any number of waiters on a few connections.

Owns when a waiter looks: when its channel is subscribed, when it is told, and every few seconds in case a
message was lost; where nobody may subscribe, again and again, but no more often than the server takes well.
Knows no handle and decodes nothing.
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
from streamq.calls.call import Call
from streamq.calls.locate import locate
from streamq.client.wait_reasons import Scene
from streamq.errors import RedisError, RedisUnavailable
from streamq.keys import ShardKeys, TypeKeys, shard_keys
from streamq.model.reply import Located
from streamq.model.task import LIVING
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.lane import Lane
from streamq.transport.listener import Listener, Ring

R = TypeVar("R")

LOOK_AGAIN: Final = 5.0
"""Seconds after which a waiter looks again, in case a message was lost."""
MANY: Final = 1000
"""As many waiters look again so often; where there are more, each does so less often."""
FIRST_POLL: Final = 0.05
LONGEST_POLL: Final = 1.0
"""Seconds from one look to the next, at first and at most, where the server lets nobody subscribe."""
POLLS: Final = 200
"""Looks a second, of all waiters together, in that case."""
SCENE: Final = 1.0
"""Seconds that it may take to find out why a task has not ended, and for which that is believed."""
GRACE: Final = 0.25
"""Seconds beyond its deadline that a wait may take to say what it waits for."""


class Waiting:
    """Who waits in one event loop."""

    def __init__(self, transport: AsyncTransport, patience: float) -> None:
        self._transport = transport
        self._patience = patience
        self._listener = Listener(transport)
        self._lanes: dict[int, Lane] = {}
        self._scene: asyncio.Task[Scene | None] | None = None
        self._scene_until = 0.0

    async def ask(self, shard: int, asked: Sequence[Call[Any]], patience: float | None = None) -> list[Any]:
        """Ask about keys of one shard. Raises RedisErrors, when the patience is used up at the latest."""
        patience = self._patience if patience is None else patience
        try:
            async with asyncio.timeout(patience + GRACE if patience > 0 else self._transport.reply_timeout):
                return await self.ask_in_time(shard, asked, patience)
        except TimeoutError:
            raise self._silent() from None

    async def ask_in_time(self, shard: int, asked: Sequence[Call[Any]], patience: float | None) -> list[Any]:
        """The same for who has a clock of his own: a server that is silent is waited for a while longer."""
        return await self._lane(shard).ask(asked, self._patience if patience is None else patience)

    async def one(self, shard: int, call: Call[R]) -> R:
        """Ask one question. Raises RedisErrors, when the patience is used up at the latest."""
        lane, patience = self._lane(shard), self._patience
        if lane.free:
            until = time.monotonic() + (patience if patience > 0 else self._transport.reply_timeout)
            try:
                found: R = await lane.ask_now(call, patience)
            except RedisUnavailable:
                left = until - time.monotonic()
                if left <= 0:
                    raise
                patience = min(patience, left)
            else:
                return found
        [found] = await self.ask(shard, [call], patience)
        return found

    def _lane(self, shard: int) -> Lane:
        lane = self._lanes.get(shard)
        if lane is None:
            lane = self._lanes[shard] = Lane(self._transport)
        return lane

    def _silent(self) -> RedisUnavailable:
        return RedisUnavailable(f"{self._transport.address} does not answer in time")

    @property
    def pause(self) -> float:
        """Seconds after which each waiter looks again."""
        return LOOK_AGAIN * max(1.0, len(self._listener) / MANY)

    def pause_after(self, polls: int) -> float:
        """The same for one who has looked so often in vain."""
        if self._listener.refused is None:
            return self.pause
        _say_once(str(self._transport.address), self._listener.refused)
        own = min(LONGEST_POLL, FIRST_POLL * 2.0 ** min(polls, 10))
        return max(own, len(self._listener) / POLLS)

    async def ended(
        self, keys: TypeKeys, local: str, deadline: float | None, seen: Located | None = None
    ) -> Located:
        """Where the task is when it has ended, or at the deadline (monotonic). An outage ends no wait before
        that; but a server that is away at the first look, with no deadline, for no longer than a call's.
        seen: what the caller's own first look told, so that it is not repeated.

        Raises RedisErrors; RedisUnavailable where it is not known at the deadline.
        """
        if seen is None:
            seen = await self._seen(keys, local, deadline)
        if seen is not None and seen.state not in LIVING:
            return seen
        waiter = _Waiter(self, keys, local, deadline, seen)
        try:
            async with asyncio.timeout(None if deadline is None else waiter.left() + GRACE):
                return await waiter.run(self._listener)
        except TimeoutError:
            if waiter.located is None:
                raise self._silent() from None
            return waiter.located

    async def _seen(self, keys: TypeKeys, local: str, deadline: float | None) -> Located | None:
        """Where the task is, if that can be asked at once and is answered: many have ended by then."""
        lane = self._lane(keys.shard)
        if not lane.free:
            return None
        patience = self._patience if deadline is None else max(0.01, deadline - time.monotonic())
        try:
            found: Located = await lane.ask_now(locate(keys, local), patience)
        except RedisUnavailable:
            return None
        return found

    async def scene(self, app: str) -> Scene | None:
        """What there is around the tasks of an app, not older than a second; None where it cannot be asked
        soon. Many waiters whose time is up at the same moment ask once."""
        if self._scene is None or (self._scene.done() and time.monotonic() >= self._scene_until):
            self._scene_until = time.monotonic() + SCENE
            self._scene = self._transport.spawn(self._look_around(shard_keys(app, 0)))
        done, _ = await asyncio.wait((self._scene,), timeout=SCENE)
        return self._scene.result() if done else None

    async def _look_around(self, keys: ShardKeys) -> Scene | None:
        asked = (
            question_calls.now(keys.workers),
            question_calls.workers(keys),
            question_calls.heartbeats(keys),
            listing_calls.paused(keys),
        )
        try:
            now, beats, told, paused = await self.ask(0, asked, SCENE)
        except RedisError:
            return None  # a user who may not see it, or a server that is away
        return Scene.of(now, beats, told, paused)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._listener.aclose()
        for lane in self._lanes.values():
            await lane.aclose()


_SAID: Final[set[str]] = set()


def _say_once(server: str, why: RedisError) -> None:
    """Say that waiters have to ask, once for each server."""
    if server not in _SAID:
        _SAID.add(server)
        logs.get_logger().warning(
            "result.polled",
            server=server,
            error=str(why),
            fix="let the user SUBSCRIBE; until then who waits for a result asks for it, up to "
            f"{LONGEST_POLL:g} s later",
        )


class _Waiter:
    """One who waits. `located`: where the task was at the last look."""

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
        """Seconds until the deadline; those until the next look where there is none."""
        if self._deadline is None:
            return self._waiting.pause
        return max(0.0, self._deadline - time.monotonic())

    async def run(self, listener: Listener) -> Located:
        located = self.located or await self._look([])
        if located.state not in LIVING:
            return located
        ring = listener.join(self._keys.done(self._local))
        try:
            for polls in itertools.count():
                if located.state not in LIVING or self.left() <= 0:
                    break
                woken = await ring.heard(min(self.left(), self._waiting.pause_after(polls)))
                try:
                    located = await self._look(self._register(ring, again=not woken))
                except RedisUnavailable:
                    if self.left() <= 0:
                        raise
        finally:
            listener.leave(ring)
        return located

    def _register(self, ring: Ring, *, again: bool) -> list[Call[Any]]:
        """Ask to be told, before the first look of each subscription, and `again` before those that come of
        themselves: who is to be told is forgotten after a while."""
        if not ring.subscribed or (ring.subscribed == self._registered and not again):
            return []
        self._registered = ring.subscribed
        wait_ms = round((self.left() + 2 * self._waiting.pause) * 1000)
        return [producer_calls.wait(self._keys, self._local, wait_ms)]

    async def _look(self, before: list[Call[Any]]) -> Located:
        asked = [*before, locate(self._keys, self._local)]
        patience = None if self._deadline is None else self.left()
        answers = await self._waiting.ask_in_time(self._keys.shard, asked, patience)
        self.located = found = answers[-1]
        located: Located = found
        return located

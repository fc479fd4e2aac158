"""One subscription for all who wait in an event loop.

Owns its connection, which is there while somebody waits and a moment longer, and who waits on which channel.
A waiter is woken when its channel is subscribed, when something is said there, and when the connection is
lost or there again: it then looks for itself. Where the server lets nobody listen, it has to look by itself.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from streamq.errors import RedisError, RedisUnavailable, ServerError
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.server_wait import returned
from streamq.transport.subscription import AsyncSubscription

LINGER: Final = 5.0
"""Seconds for which the connection is kept after the last has left."""
AGAIN: Final = 0.05
AT_ONCE: Final = 500
"""Channels in one command."""
IN_VAIN: Final = 3
"""Subscriptions in a row that ended unconfirmed, on a server that answers, after which it counts as refused:
some proxies hang up at a SUBSCRIBE."""
DEAF_FOR: Final = 60.0
"""Seconds after a refusal for which nobody tries to subscribe again."""


class Ring:
    """A waiter's place on a channel."""

    __slots__ = ("_turn", "_woken", "channel", "subscribed")

    def __init__(self, channel: str, *, subscribed: int) -> None:
        self.channel: str = channel
        self.subscribed: int = subscribed  # how often its subscription was confirmed; 0 while there is none
        self._woken = False
        self._turn: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Have the waiter look."""
        self._woken = True
        if self._turn is not None:
            _end(self._turn)

    async def heard(self, timeout: float) -> bool:
        """Wait until there is a reason to look, or for so many seconds. Return whether there is one."""
        if not self._woken:
            loop = asyncio.get_running_loop()
            self._turn = turn = loop.create_future()
            timer = loop.call_later(timeout, _end, turn)
            try:
                await turn
            finally:
                timer.cancel()
                self._turn = None
        woken, self._woken = self._woken, False
        return woken


def _end(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


class Listener:
    """Wakes those who joined. Connects with the first of them. `refused`: why nobody is woken."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._rings: dict[str, set[Ring]] = {}
        self._subscription: AsyncSubscription | None = None
        self._sent: set[str] = set()
        self._awaited: dict[str, int] = {}
        self._touched: set[str] = set()
        self._confirmations = 0
        self._in_vain = 0
        self.refused: RedisError | None = None
        self._deaf_until = 0.0
        self._task: asyncio.Task[Any] | None = None

    def join(self, channel: str) -> Ring:
        """Listen to a channel, until `leave`."""
        rings = self._rings.setdefault(channel, set())
        there = channel in self._sent and channel not in self._awaited
        ring = Ring(channel, subscribed=self._confirmations if there else 0)
        rings.add(ring)
        if there:
            ring.wake()  # it may have been told before it joined
        if self._task is None and time.monotonic() >= self._deaf_until:
            self._task = self._transport.spawn(self._run())
        self._touch(channel)
        return ring

    def leave(self, ring: Ring) -> None:
        """Listen no more."""
        rings = self._rings.get(ring.channel, set())
        rings.discard(ring)
        if not rings and self._rings.pop(ring.channel, None) is not None:
            self._touch(ring.channel)

    def __len__(self) -> int:
        return len(self._rings)

    async def aclose(self) -> None:
        """Close the connection."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # -- the connection ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while self._rings:
                try:
                    await self._listen()
                except RedisUnavailable as error:
                    self._lost()
                    await returned(self._transport)
                    await asyncio.sleep(AGAIN)
                    self._in_vain += 1
                    if self._in_vain >= IN_VAIN:
                        raise ServerError(f"subscriptions end at once: {error}") from None
        except RedisError as error:
            self.refused, self._deaf_until = error, time.monotonic() + DEAF_FOR
        finally:
            subscription, self._subscription = self._subscription, None
            if self._task is asyncio.current_task():
                self._task = None  # who comes now has another begin
            self._lost()
            if subscription is not None:
                await subscription.aclose()

    async def _listen(self) -> None:
        """Connect, and hear what is said until nobody has waited for a while."""
        channels = list(self._rings)
        subscription = AsyncSubscription(self._transport, *channels)
        await subscription.open()
        self._subscription, self._sent, self._awaited = subscription, set(channels), {}
        self._in_vain, self.refused = 0, None
        for channel in channels:
            self._confirmed(channel)
        self._touched.update(self._rings.keys() ^ self._sent)
        self._transport.spawn(self._flush())
        while True:
            said = await subscription.receive(LINGER)
            for raw in said:  # all at once, so that those who are woken look together
                self._hear(raw[0], raw[1].decode("utf-8", "replace") if raw[1] else "")
            if not said and not self._rings:
                return

    def _hear(self, kind: bytes, channel: str) -> None:
        if kind == b"message":
            for ring in self._rings.get(channel, ()):
                ring.wake()
        elif kind == b"subscribe":
            self._awaited[channel] = self._awaited.get(channel, 1) - 1
            if self._awaited[channel] <= 0:
                del self._awaited[channel]
                self._confirmed(channel)

    def _confirmed(self, channel: str) -> None:
        self._confirmations += 1
        for ring in self._rings.get(channel, ()):
            ring.subscribed = self._confirmations
            ring.wake()

    def _lost(self) -> None:
        self._sent, self._awaited, self._touched = set(), {}, set()
        for rings in self._rings.values():
            for ring in rings:
                ring.subscribed = 0
                ring.wake()

    def _touch(self, channel: str) -> None:
        if not self._touched and self._subscription is not None:
            self._transport.spawn(self._flush())
        self._touched.add(channel)

    async def _flush(self) -> None:
        """Tell the server which channels have come and gone, in few commands."""
        touched, self._touched = self._touched, set()
        subscription = self._subscription
        if subscription is None or not subscription.connected:
            return
        come = [one for one in touched if one in self._rings and one not in self._sent]
        gone = [one for one in touched if one not in self._rings and one in self._sent]
        self._sent.difference_update(gone)
        self._sent.update(come)
        for one in come:
            self._awaited[one] = self._awaited.get(one, 0) + 1
        for command, channels in (("UNSUBSCRIBE", gone), ("SUBSCRIBE", come)):
            for n in range(0, len(channels), AT_ONCE):
                await subscription.change(command, channels[n : n + AT_ONCE])

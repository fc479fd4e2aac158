"""One subscription shared by all tasks of an event loop that wait for a channel.

Owns its connection, which exists while there are waiters and a moment longer, and which waiter is on which
channel. A waiter is woken when its channel is subscribed, when a message arrives there, and when the
connection is lost or restored: it then looks for itself. If the server refuses the subscription, waiters must
poll. Must not read what a message says.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from streamq.errors import RedisError, RedisUnavailable, ServerError
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.channel_reader import Push
from streamq.transport.server_wait import wait_until_ready
from streamq.transport.subscription import AsyncSubscription

LINGER: Final = 5.0
"""Seconds for which the connection is kept after the last waiter has left."""
RECONNECT_AFTER: Final = 0.05
CHANNELS_PER_COMMAND: Final = 500
MAX_UNCONFIRMED: Final = 3
"""Subscriptions in a row that ended unconfirmed on a reachable server before they count as refused: some
proxies close the connection at a SUBSCRIBE."""
REFUSED_FOR: Final = 60.0
"""Seconds after a refusal before the next attempt to subscribe."""


class ChannelWaiter:
    """One task that waits on a channel. subscribed: the number of its channel's last confirmation; 0 while
    the channel is not subscribed."""

    __slots__ = ("_turn", "_woken", "channel", "subscribed")

    def __init__(self, channel: str, *, subscribed: int) -> None:
        self.channel: str = channel
        self.subscribed: int = subscribed
        self._woken = False
        self._turn: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Wake the task, so that it looks for itself."""
        self._woken = True
        if self._turn is not None:
            _finish(self._turn)

    async def wait(self, timeout: float) -> bool:
        """Wait until there is a reason to look, or for so many seconds. Return whether there is a reason."""
        if not self._woken:
            loop = asyncio.get_running_loop()
            self._turn = turn = loop.create_future()
            timer = loop.call_later(timeout, _finish, turn)
            try:
                await turn
            finally:
                timer.cancel()
                self._turn = None
        woken, self._woken = self._woken, False
        return woken


def _finish(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


class Listener:
    """Wakes its waiters. Connects when the first joins. refused: why no waiter can be woken."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._waiters: dict[str, set[ChannelWaiter]] = {}
        self._subscription: AsyncSubscription | None = None
        self._sent: set[str] = set()
        self._unconfirmed: dict[str, int] = {}
        self._changed: set[str] = set()
        self._confirmations = 0
        self._failures = 0
        self.refused: RedisError | None = None
        self._refused_until = 0.0
        self._task: asyncio.Task[None] | None = None

    def join(self, channel: str) -> ChannelWaiter:
        """Listen to a channel, until `leave`."""
        waiters = self._waiters.setdefault(channel, set())
        subscribed = channel in self._sent and channel not in self._unconfirmed
        waiter = ChannelWaiter(channel, subscribed=self._confirmations if subscribed else 0)
        waiters.add(waiter)
        if subscribed:
            waiter.wake()  # its message may have come before it joined
        if self._task is None and time.monotonic() >= self._refused_until:
            self._task = self._transport.spawn(self._run())
        self._note_change(channel)
        return waiter

    def leave(self, waiter: ChannelWaiter) -> None:
        """Stop listening."""
        waiters = self._waiters.get(waiter.channel, set())
        waiters.discard(waiter)
        if not waiters and self._waiters.pop(waiter.channel, None) is not None:
            self._note_change(waiter.channel)

    def __len__(self) -> int:
        return len(self._waiters)

    async def aclose(self) -> None:
        """Close the connection."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def abandon(self) -> None:
        """Close the connection after the event loop was closed."""
        task, self._task = self._task, None
        if task is not None:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  # pyright: ignore[reportAttributeAccessIssue]
        if self._subscription is not None:
            self._subscription.abandon()

    # -- the connection ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while self._waiters:
                try:
                    await self._listen()
                except RedisUnavailable as error:
                    self._disconnected()
                    await wait_until_ready(self._transport)
                    await asyncio.sleep(RECONNECT_AFTER)
                    self._failures += 1
                    if self._failures >= MAX_UNCONFIRMED:
                        raise ServerError(f"each subscription ends at once: {error}") from None
        except GeneratorExit:  # the event loop has ended: nothing can be awaited
            raise
        except RedisError as error:
            self.refused, self._refused_until = error, time.monotonic() + REFUSED_FOR
            await self._ended()
        except BaseException:
            await self._ended()
            raise
        else:
            await self._ended()

    async def _ended(self) -> None:
        subscription, self._subscription = self._subscription, None
        if self._task is asyncio.current_task():
            self._task = None  # the next waiter starts another
        self._disconnected()
        if subscription is not None:
            await subscription.aclose()

    async def _listen(self) -> None:
        """Connect, and wake waiters until there has been none for a while."""
        channels = list(self._waiters)
        subscription = AsyncSubscription(self._transport, *channels)
        await subscription.open()
        self._subscription, self._sent, self._unconfirmed = subscription, set(channels), {}
        self._failures, self.refused = 0, None
        for channel in channels:
            self._confirmed(channel)
        self._changed.update(self._waiters.keys() ^ self._sent)
        self._transport.spawn(self._send_changes())
        while True:
            pushes = await subscription.receive(LINGER)
            for push in pushes:  # all at once, so that the waiters that are woken ask together
                self._handle(push)
            if not pushes and not self._waiters:
                return

    def _handle(self, push: Push) -> None:
        channel = push.channel
        if push.kind == b"message":
            for waiter in self._waiters.get(channel, ()):
                waiter.wake()
        elif push.kind == b"subscribe":
            self._unconfirmed[channel] = self._unconfirmed.get(channel, 1) - 1
            if self._unconfirmed[channel] <= 0:
                del self._unconfirmed[channel]
                self._confirmed(channel)

    def _confirmed(self, channel: str) -> None:
        self._confirmations += 1
        for waiter in self._waiters.get(channel, ()):
            waiter.subscribed = self._confirmations
            waiter.wake()

    def _disconnected(self) -> None:
        self._sent, self._unconfirmed, self._changed = set(), {}, set()
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.subscribed = 0
                waiter.wake()

    def _note_change(self, channel: str) -> None:
        if not self._changed and self._subscription is not None:
            self._transport.spawn(self._send_changes())
        self._changed.add(channel)

    async def _send_changes(self) -> None:
        """Subscribe to new channels and unsubscribe from unused ones, in few commands."""
        changed, self._changed = self._changed, set()
        subscription = self._subscription
        if subscription is None or not subscription.connected:
            return
        new = [one for one in changed if one in self._waiters and one not in self._sent]
        unused = [one for one in changed if one not in self._waiters and one in self._sent]
        self._sent.difference_update(unused)
        self._sent.update(new)
        for one in new:
            self._unconfirmed[one] = self._unconfirmed.get(one, 0) + 1
        for command, channels in (("UNSUBSCRIBE", unused), ("SUBSCRIBE", new)):
            for n in range(0, len(channels), CHANNELS_PER_COMMAND):
                await subscription.change(command, channels[n : n + CHANNELS_PER_COMMAND])

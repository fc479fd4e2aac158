"""Waits for the ends of flows, on the connections on which a program waits for its tasks.

Owns when a wait looks at its flow: when its channel is subscribed, when a message arrives there, and at
growing intervals in case a message was lost or was not sent, as workers of older releases send none. Must not
know what a flow's results mean: whoever waits says what is read.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Container
from typing import Final, NamedTuple, TypeVar

from streamq.calls.call import Call
from streamq.client.waiting import GRACE, Waiting
from streamq.errors import RedisUnavailable
from streamq.flow import Flow, adrive_by
from streamq.outages import Outages

R = TypeVar("R")

FIRST_PAUSE: Final = 0.25
"""Seconds after which a wait looks again without a message, doubled each time."""


class Ends(NamedTuple):
    """How to see that a flow has ended. look: reads its state, '' if there is none. over: the states in which
    it has. told: what is unknown where no server answers."""

    shard: int
    channel: str
    look: Call[str]
    over: Container[str]
    told: str


async def wait_until_over(waiting: Waiting, ends: Ends, deadline: float | None) -> str:
    """Wait until a flow has ended, or until the deadline (monotonic); return its state then. Outages are
    borne as `Outages` says.

    Raises RedisErrors; ResultTimeout if the state is unknown at the deadline.
    """
    outages = Outages(deadline)
    wait = _Wait(waiting, ends, deadline, outages)
    try:
        async with asyncio.timeout(None if deadline is None else wait.left() + GRACE):
            await wait.run()
    except TimeoutError:
        if not wait.state:
            outages.note(RedisUnavailable("the server does not answer in time"))
    outages.check(ends.told)
    return wait.state


async def read(waiting: Waiting, shard: int, flow: Flow[R]) -> R:
    """Carry out a flow of questions about keys of one shard: those of many waits share round trips."""
    return await adrive_by(lambda step: waiting.ask_one(shard, step.call), flow)


class _Wait:
    """One wait. state: that of the flow at the last look; '' before it."""

    def __init__(self, waiting: Waiting, ends: Ends, deadline: float | None, outages: Outages) -> None:
        self._waiting, self._ends, self._deadline = waiting, ends, deadline
        self._outages = outages
        self.state = ""

    def left(self) -> float:
        """Return the seconds until the deadline; until the next look if there is none."""
        if self._deadline is None:
            return self._waiting.pause
        return max(0.0, self._deadline - time.monotonic())

    async def run(self) -> None:
        """Look until the flow has ended or the time is over. The first look comes when the channel is
        subscribed: few flows have ended before."""
        listener = self._waiting.listener
        waiter = listener.join(self._ends.channel)
        try:
            for looks in itertools.count():
                await waiter.wait(min(self.left(), self._pause(looks)))
                with self._outages.borne():
                    await self._look()
                if self.state in self._ends.over or self.left() <= 0:
                    break
        finally:
            listener.leave(waiter)

    def _pause(self, looks: int) -> float:
        longest = self._waiting.pause_after(looks)
        if self._waiting.listener.refused is not None:
            return longest if looks else 0.0
        return min(longest, FIRST_PAUSE * 2.0 ** min(looks, 10))

    async def _look(self) -> None:
        [self.state] = await self._waiting.ask_untimed(
            self._ends.shard, [self._ends.look], self._outages.patience
        )

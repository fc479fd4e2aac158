"""Waiting for a server that is away: how often it is asked, and what ends the wait.

Owns the intervals. Asks through the transport and judges no error but that nobody answered.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

from streamq import calls
from streamq.errors import RedisUnavailable
from streamq.transport.aio import AsyncTransport

FIRST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
"""Seconds between two questions, at first and at most, a fifth more or less: each time every node of a
cluster may be asked."""
LATELY: Final = 0.3
"""Seconds for which it counts that of all servers nobody answered who asked around."""


async def answers(transport: AsyncTransport, key: str = "") -> bool:
    """Whether the server of a key does its work, or any where there is no key. Servers of whom nobody
    answered a moment ago are not asked: many may want to know. Raises as `returned`."""
    call = calls.ready(key)
    if transport.find(call) is None and time.monotonic() - transport.nobody_at < LATELY:
        return False
    try:
        await transport.run(call, patience=0)
    except RedisUnavailable:
        return False
    return True


async def returned(transport: AsyncTransport, key: str = "", *, stop: asyncio.Event | None = None) -> bool:
    """Wait until the server of a key does its work again, or any where there is no key; False, at once,
    when `stop` is set before. Raises RedisErrors of a server that is there, but refuses us."""
    asking = asyncio.ensure_future(_ask(transport, key))
    stopping = asyncio.ensure_future((stop or asyncio.Event()).wait())
    try:
        await asyncio.wait((asking, stopping), return_when=asyncio.FIRST_COMPLETED)
        return asking.done() and await asking
    finally:
        asking.cancel()
        stopping.cancel()
        await asyncio.gather(asking, stopping, return_exceptions=True)


async def _ask(transport: AsyncTransport, key: str) -> bool:
    seconds = FIRST_WAIT
    while not await answers(transport, key):
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))
        seconds = min(2 * seconds, LONGEST_WAIT)
    return True

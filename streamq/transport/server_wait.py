"""Waiting for a server that is away, or not there yet: how often it is asked, and what ends the wait.

Owns the intervals. Asks through the transport and judges no error but that nobody answered.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Coroutine
from typing import Any, Final

from streamq.calls import question as question_calls
from streamq.errors import RedisUnavailable
from streamq.transport.async_transport import AsyncTransport

FIRST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
"""Seconds between two questions, at first and at most, a fifth more or less: each time every node of a
cluster may be asked."""
SAY_AFTER: Final = 1.0
SAY_AGAIN: Final = 30.0
"""Seconds of silence after which a process that begins says what it waits for, and between two such lines."""
LATELY: Final = 0.3
"""Seconds for which it counts that of all servers nobody answered who asked around."""


async def answers(transport: AsyncTransport, key: str = "") -> bool:
    """Whether the server of a key does its work, or any where there is no key. Servers of whom nobody
    answered a moment ago are not asked: many may want to know. Raises as `returned`."""
    call = question_calls.ready(key)
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
    return await _unless(stop or asyncio.Event(), _ask(transport, key))


async def arrived(transport: AsyncTransport, log: Any, *, stop: asyncio.Event) -> bool:
    """As `returned`, for a process that begins: it says at once what it waits for, and now and then again."""
    telling = asyncio.ensure_future(_tell_of_silence(transport, log))
    try:
        return await _unless(stop, _ask_telling(transport, log, telling))
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _unless(stop: asyncio.Event, question: Coroutine[Any, Any, bool]) -> bool:
    asking = asyncio.ensure_future(question)
    stopping = asyncio.ensure_future(stop.wait())
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


async def _tell_of_silence(transport: AsyncTransport, log: Any) -> None:
    await asyncio.sleep(SAY_AFTER)
    log.warning("redis.waiting", server=str(transport.address), url_from=transport.address.source)


async def _ask_telling(transport: AsyncTransport, log: Any, silence: asyncio.Task[None]) -> bool:
    seconds, said = FIRST_WAIT, -math.inf
    while True:
        try:
            await transport.run(question_calls.ready(), patience=0)
        except RedisUnavailable as error:
            silence.cancel()
            if time.monotonic() - said >= SAY_AGAIN:
                said = time.monotonic()
                log.warning("redis.unavailable", doing="start", error=str(error), waiting="yes")
        else:
            if said > -math.inf:
                log.info("redis.connected", server=str(transport.address))
            return True
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))
        seconds = min(2 * seconds, LONGEST_WAIT)

"""The promoter while it does not know its types: it takes for granted that each has lanes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamq import Daemon, Lane, StreamQ
from streamq.errors import RedisUnavailable
from streamq.transport.async_transport import AsyncTransport
from tests.running import QUICK, begun


async def test_a_daemon_that_has_not_read_its_types_lets_nobody_past_an_ordered_lane(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it starts during a failover: what is due is promoted all the same, and asks its lane."""
    app = StreamQ("shop", url)

    @app.task(lane=Lane("order_id", order=True))
    async def ship(order_id: str) -> None: ...

    await ship.aenqueue("7")
    late = await ship.options(delay="10ms").aenqueue("7")
    run = AsyncTransport.run

    async def unavailable(self: AsyncTransport, call: Any, **more: Any) -> Any:
        if call.script is not None and call.script.name == "next_promotion":
            raise RedisUnavailable("a failover")
        return await run(self, call, **more)

    monkeypatch.setattr(AsyncTransport, "run", unavailable)
    daemon = Daemon(app.address, QUICK)
    task = await begun(daemon)
    try:
        async with asyncio.timeout(10):
            while (status := await late.astatus()) == "scheduled":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert status == "parked"
    finally:
        daemon.stop()
        await task
    await app.aclose()

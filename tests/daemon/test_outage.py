"""While every server is away a daemon asks seldom: it must not take a core to wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamq import calls
from streamq.daemon import loop
from streamq.daemon.rounds import Rounds
from streamq.errors import RedisUnavailable
from streamq.telemetry.sums import Sums
from streamq.transport import Address, AsyncTransport, aio
from tests.ports import free_port


@pytest.fixture
def gone() -> AsyncTransport:
    """A cluster of which no node is there."""
    return AsyncTransport(Address.parse(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}"))


async def test_a_server_that_is_away_is_asked_at_growing_intervals(
    gone: AsyncTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, paused = asyncio.Event(), list[float]()

    async def pause(stop: asyncio.Event, seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == 12:
            stop.set()

    async def chore() -> None:
        await gone.run(calls.now(), patience=0)

    monkeypatch.setattr(loop, "pause", pause)
    await loop.guarded("tidy", chore, gone, stop, Rounds(Sums()))
    assert paused[0] <= loop.AWAY_FIRST * 1.2
    assert all(0.8 * loop.AWAY_MOST <= seconds <= 1.2 * loop.AWAY_MOST for seconds in paused[6:])


async def test_one_chore_asks_for_all(gone: AsyncTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, asked, rounds = asyncio.Event(), list[float](), Rounds(Sums())

    async def pause(stop: asyncio.Event, seconds: float) -> None:
        await asyncio.sleep(0)
        asked.append(seconds)
        if len(asked) == 5:
            stop.set()

    async def chore() -> None:
        raise RedisUnavailable("away")

    monkeypatch.setattr(loop, "pause", pause)
    names = ["promote", "reclaim", "tidy", "sample"]
    await asyncio.gather(*(loop.guarded(name, chore, gone, stop, rounds) for name in names))
    assert len(asked) == 5


async def test_of_many_that_miss_a_cluster_one_asks_around(
    gone: AsyncTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, asked = aio.connect, list[str]()

    async def counted(address: Address, **more: Any) -> Any:
        asked.append(str(address))
        return await connect(address, **more)

    monkeypatch.setattr(aio, "connect", counted)
    for rounds in (1, 2):  # and it is asked again by those who come later
        answers = await asyncio.gather(
            *(gone.run(calls.now(), patience=0) for _ in range(8)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [RedisUnavailable] * 8
        assert len(asked) == 2 * rounds

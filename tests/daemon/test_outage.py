"""While every server is away a daemon asks seldom: it must not take a core to wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamq.calls import question as question_calls
from streamq.daemon import loop
from streamq.daemon.chore_status import ChoreStatus
from streamq.errors import RedisUnavailable
from streamq.telemetry.counters import Counters
from streamq.transport import async_connect, async_pool, server_wait
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from tests.ports import free_port
from tests.running import until


@pytest.fixture
def gone() -> AsyncTransport:
    """A cluster of which no node is there."""
    return AsyncTransport(Address.parse(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}"))


async def test_one_chore_asks_for_all(gone: AsyncTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, asked, chore_status = asyncio.Event(), list[str](), ChoreStatus(Counters())

    async def is_ready(_: AsyncTransport, key: str) -> bool:
        asked.append(key)
        return False

    async def chore(_: loop.Faults) -> None:
        raise RedisUnavailable("away")

    monkeypatch.setattr(server_wait, "is_ready", is_ready)
    names = ["promote", "reclaim", "tidy", "sample"]
    waiting = [asyncio.create_task(loop.run_round(name, chore, gone, stop, chore_status)) for name in names]
    await until(lambda: len(asked) == 2)
    stop.set()
    await asyncio.gather(*waiting)
    assert asked == ["", ""]


async def test_of_many_that_miss_a_cluster_one_asks_around(
    gone: AsyncTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, asked = async_connect.connect, list[str]()

    async def counted(address: Address, **more: Any) -> Any:
        asked.append(str(address))
        return await connect(address, **more)

    monkeypatch.setattr(async_connect, "connect", counted)
    monkeypatch.setattr(async_pool, "connect", counted)
    for rounds in (1, 2):  # and it is asked again by those who come later
        answers = await asyncio.gather(
            *(gone.run(question_calls.now(), patience=0) for _ in range(8)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [RedisUnavailable] * 8
        assert len(asked) == 2 * rounds

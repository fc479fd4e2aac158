"""Waiting for servers that are away: seldom enough to take no core, and no longer than one wants to."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from streamq.embedded import EmbeddedServer
from streamq.errors import RedisError
from streamq.transport import async_connect, async_pool, server_wait
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.server_wait import is_ready, wait_until_ready
from tests.ports import free_port


@pytest.fixture
def gone() -> AsyncTransport:
    """A cluster of which no node is there."""
    return AsyncTransport(Address.parse(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}"))


async def test_a_server_that_is_away_is_asked_at_growing_intervals(
    gone: AsyncTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept, stop, sleep = list[float](), asyncio.Event(), asyncio.sleep

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 12:
            stop.set()
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    assert not await wait_until_ready(gone, stop=stop)
    assert slept[0] <= server_wait.FIRST_WAIT * 1.2
    longest = server_wait.LONGEST_WAIT
    assert all(0.8 * longest <= seconds <= 1.2 * longest for seconds in slept[6:])
    assert len(set(slept[6:])) > 1  # so that many programs do not come in step


async def test_of_many_who_wait_for_a_cluster_one_asks_around(
    gone: AsyncTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, asked = async_connect.connect, list[str]()

    async def counted(address: Address, **more: Any) -> Any:
        asked.append(str(address))
        return await connect(address, **more)

    monkeypatch.setattr(async_connect, "connect", counted)
    monkeypatch.setattr(async_pool, "connect", counted)
    assert not any([await is_ready(gone, f"{{shop:{n}}}") for n in range(20)])
    assert len(asked) == 2
    gone.unanswered_at -= server_wait.SHARED_FOR
    assert not await is_ready(gone)
    assert len(asked) == 4


async def test_who_is_told_to_stop_waits_no_longer(gone: AsyncTransport) -> None:
    """Also in the middle of a question that is not answered."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for transport in (gone, AsyncTransport(Address.parse(f"redis://127.0.0.1:{port}/0"))):
            stop, began = asyncio.Event(), time.monotonic()
            asyncio.get_running_loop().call_later(0.05, stop.set)
            assert not await wait_until_ready(transport, stop=stop)
            assert time.monotonic() - began < 4


async def test_a_server_that_refuses_us_is_no_absent_one() -> None:
    with EmbeddedServer(port=free_port(), config={"requirepass": "secret"}) as server:
        transport = AsyncTransport(Address.parse(server.url.replace(":secret@", "")))
        with pytest.raises(RedisError):
            await wait_until_ready(transport)
        await transport.aclose()

"""Waiting for servers that are away: seldom enough to take no core, and no longer than one wants to."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from streamq.embedded import EmbeddedServer
from streamq.errors import RedisError
from streamq.transport import async_transport, server_wait
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.server_wait import answers, returned
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
    assert not await returned(gone, stop=stop)
    assert slept[0] <= server_wait.FIRST_WAIT * 1.2
    longest = server_wait.LONGEST_WAIT
    assert all(0.8 * longest <= seconds <= 1.2 * longest for seconds in slept[6:])
    assert len(set(slept[6:])) > 1  # so that many programs do not come in step


async def test_of_many_who_wait_for_a_cluster_one_asks_around(
    gone: AsyncTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, asked = async_transport.connect, list[str]()

    async def counted(address: Address, **more: Any) -> Any:
        asked.append(str(address))
        return await connect(address, **more)

    monkeypatch.setattr(async_transport, "connect", counted)
    assert not any([await answers(gone, f"{{shop:{n}}}") for n in range(20)])
    assert len(asked) == 2
    gone.nobody_at -= server_wait.LATELY
    assert not await answers(gone)
    assert len(asked) == 4


async def test_who_is_told_to_stop_waits_no_longer(gone: AsyncTransport) -> None:
    """Also in the middle of a question that is not answered."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for transport in (gone, AsyncTransport(Address.parse(f"redis://127.0.0.1:{port}/0"))):
            stop, began = asyncio.Event(), time.monotonic()
            asyncio.get_running_loop().call_later(0.05, stop.set)
            assert not await returned(transport, stop=stop)
            assert time.monotonic() - began < 4


async def test_a_server_that_refuses_us_is_no_absent_one() -> None:
    with EmbeddedServer(port=free_port(), config={"requirepass": "secret"}) as server:
        transport = AsyncTransport(Address.parse(server.url.replace(":secret@", "")))
        with pytest.raises(RedisError):
            await returned(transport)
        await transport.aclose()

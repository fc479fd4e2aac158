"""One timer looks after all answers that a connection owes."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from redis import exceptions as lib

from streamq.calls import producer as producer_calls
from streamq.keys import shard_keys, type_keys
from streamq.model.task import IdempotencyKey, NewTask
from streamq.transport.address import Address
from streamq.transport.async_connect import connect
from streamq.transport.budget import Budget
from streamq.transport.link import Link, serve


@asynccontextmanager
async def silent() -> AsyncGenerator[tuple[Link, asyncio.StreamWriter]]:
    """A connection to a server that answers the login, and then what it is told to."""
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read(1000)
        writer.write(b"+OK\r\n")
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = serve(await connect(Address.parse(f"redis://127.0.0.1:{port}/0"), budget=Budget(5)))
    try:
        yield link, writers[0]
    finally:
        await link.aclose()
        server.close()


async def test_a_shorter_wait_behind_a_longer_one_ends_in_its_own_time() -> None:
    async with silent() as (link, _):
        long = asyncio.ensure_future(link.ask("BLPOP", "x", 60, timeout=60))
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(lib.TimeoutError, match=r"0\.2 s"):
            await link.ask("PING", timeout=0.2)
        assert 0.15 < time.monotonic() - began < 5
        with pytest.raises(lib.TimeoutError):
            await long


async def test_the_timer_of_an_answered_call_ends_no_later_one() -> None:
    async with silent() as (link, server):
        first = asyncio.ensure_future(link.ask("PING", timeout=0.3))
        await asyncio.sleep(0)
        server.write(b"+PONG\r\n")
        assert await first == b"PONG"
        second = asyncio.ensure_future(link.ask("PING", timeout=30))
        await asyncio.sleep(0.6)
        server.write(b"+PONG\r\n")
        assert await second == b"PONG"
        assert link.usable()


async def test_many_answers_at_once_are_late_together() -> None:
    async with silent() as (link, _):
        answers = await link.ask_all([("PING",)] * 3, timeout=0.2)
        assert [type(answer) for answer in answers] == [lib.TimeoutError] * 3
        assert not link.usable()


@pytest.mark.parametrize("key", [None, IdempotencyKey("k", b"d" * 16, 1000)])
@pytest.mark.parametrize("number", [1, 3])
def test_an_enqueue_call_fits_the_header_of_its_script(number: int, key: IdempotencyKey | None) -> None:
    task = NewTask(b"{}", "normal", None, False, (), key)
    call = producer_calls.enqueue(type_keys("a", 0, "t"), shard_keys("a", 0), "w", 1, [task] * number)
    assert call.script is not None
    call.script.check(call.keys, call.args)
    assert len(call.keys) == 16 + (number if key else 0)

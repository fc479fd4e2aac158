"""A server that restarts: what is settled afterwards, and what must not be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamq import StreamQ, Worker, WorkerOptions
from streamq.calls import question as question_calls
from streamq.keys import GROUP, type_keys
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.faults import ServerChanged
from streamq.transport.reader import AsyncReader
from tests.running import clean, until, working
from tests.topology.servers import Node, free_ports, server_binary, server_words

OPTIONS = WorkerOptions(concurrency=2, block=30, heartbeat=0.2)
ANOTHER_HAS_IT = """
redis.call('XADD', KEYS[1], ARGV[2], unpack(ARGV, 4))
redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0')
return redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[3], 'STREAMS', KEYS[1], '>')
"""


@pytest.fixture
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Node]:
    kept = {"appendonly": "yes", "appendfsync": "always"} if request.param else {}
    [port] = free_ports(1)
    found = Node(port, tmp_path / "node", server_words(server_binary(), port, kept))
    found.start()
    yield found
    found.stop()


class Busy:
    """An app whose handler runs until it is told to end."""

    def __init__(self, node: Node) -> None:
        self.app = StreamQ("shop", f"redis://{node.address}", patience=10)
        self.stream = type_keys("shop", 0, "work").normal
        self.started = asyncio.Event()
        self.over = asyncio.Event()
        self.app.task(name="work", lease=30)(self.work)

    async def work(self, n: int) -> int:
        self.started.set()
        await self.over.wait()
        return n


def held(worker: Worker) -> int:
    return len(worker.parts.in_flight)


@pytest.mark.parametrize("node", [True], indirect=True)
async def test_what_the_server_still_has_is_settled(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    busy = Busy(node)
    async with working(busy.app, OPTIONS):
        handle = await busy.app.asend("work", {"n": 7})
        await busy.started.wait()
        await asyncio.to_thread(node.stop)
        await asyncio.to_thread(node.start)
        busy.over.set()
        assert await handle.aresult(10) == 7
        assert await (await busy.app.asend("work", {"n": 8})).aresult(10) == 8
    assert "server.changed" in capsys.readouterr().err
    clean(busy.app)


@pytest.mark.parametrize("node", [False], indirect=True)
@pytest.mark.parametrize("ends", ["before", "after"])
async def test_an_id_that_was_given_anew_is_not_settled(
    node: Node, ends: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server lost everything, and has given our entry's id to a task that another worker has.

    The handler ends before the server is back, or after the worker has noticed.
    """
    busy = Busy(node)
    async with working(busy.app, OPTIONS) as worker:
        handle = await busy.app.asend("work", {"n": 7})
        await busy.started.wait()
        entry = handle.id.rpartition(":n")[2]
        [[_, fields]] = node.command("XRANGE", busy.stream, entry, entry)
        await asyncio.to_thread(node.stop)
        if ends == "before":
            busy.over.set()
            await until(lambda: not worker.parts.runner.running())
        await asyncio.to_thread(node.start)
        args = (ANOTHER_HAS_IT, 1, busy.stream, GROUP, entry, "other", *fields)
        assert await asyncio.to_thread(node.command, "EVAL", *args)
        if ends == "after":
            await until(lambda: held(worker) == 0)
            busy.over.set()
        await until(lambda: held(worker) == 0)
        assert node.command("XPENDING", busy.stream, GROUP)[0] == 1
        assert node.command("XLEN", busy.stream) == 1
    assert "task.fenced" in capsys.readouterr().err


async def test_a_connection_that_was_opened_long_ago_is_not_believed(url: str) -> None:
    """What it said of its server then may be past: a new one is asked, and only that tells of a change."""
    transport = AsyncTransport(Address.parse(url))
    reader = AsyncReader(transport)
    await transport.run(question_calls.now())
    await reader.run(question_calls.now())
    node = transport.find(None)
    assert node is not None
    assert node.info is not None
    now = node.info.incarnation
    for asked in (transport, reader):
        node.idle[0].incarnation = "long ago"
        assert reader._link is not None
        reader._link.incarnation = "long ago"
        assert await asked.run(question_calls.now(), incarnation=now) > 0
        with pytest.raises(ServerChanged) as changed:
            await asked.run(question_calls.now(), incarnation="another")
        assert changed.value.incarnation == now
    await reader.aclose()
    await transport.aclose()

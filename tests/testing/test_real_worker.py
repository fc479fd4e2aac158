"""A real worker beside the test, and a queue on a server that others use."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from streamq import LifespanFailed, StreamQ, UsageError
from streamq.calls.call import Call
from streamq.embedded import EmbeddedServer
from streamq.testing import Queue
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as found:
        yield found


@pytest.fixture
def app() -> StreamQ:
    return StreamQ("shop")


def test_tasks_are_run_as_they_come(app: StreamQ, server: EmbeddedServer) -> None:
    seen: list[int] = []

    @app.task
    def double(n: int) -> int:
        seen.append(threading.get_ident())
        return 2 * n

    @app.task
    async def parent() -> int:
        return (await double.aenqueue(7)).id.count(":")

    with Queue(app, server) as queue:
        with queue.worker(concurrency=2):
            assert double.enqueue(4).result(30) == 8
            assert double.options(delay=0.2).enqueue(5).result(30) == 10
            assert parent.enqueue().result(30) == 2
        assert threading.get_ident() not in seen
        assert app.inspector.workers() == []
        app.inspector.audit()
        left = double.enqueue(1)  # without a worker it waits
        assert queue.run()[-1].id == left.id
    assert not [one for one in threading.enumerate() if one.name == "streamq-test-worker"]


def test_what_the_worker_fails_with_at_its_start(app: StreamQ, server: EmbeddedServer) -> None:
    @app.task
    def work() -> None: ...

    @app.lifespan
    async def resources(_app: StreamQ) -> AsyncIterator[None]:
        if app.name:
            raise LookupError("no database")
        yield

    with Queue(app, server) as queue, pytest.raises(LifespanFailed, match="no database"), queue.worker():
        raise AssertionError("it has not started")


def test_a_server_that_others_use(app: StreamQ, server: EmbeddedServer) -> None:
    @app.task(retention="1h")
    def work(n: int) -> int:
        return n

    server.start()
    others = SyncTransport(Address.parse(server.url, "code"))
    others.run(Call(None, (), ("FLUSHALL",), lambda reply: reply))
    others.run(Call(None, (), ("SET", "theirs", "1", "PX", 60_000), lambda reply: reply))
    with Queue(app, server.url) as queue:
        work.options(delay="2h").enqueue(1)
        assert [task.result for task in queue.advance("3h")] == [1]
        with Queue(StreamQ("shop"), server.url) as beside:
            assert beside.scheduled() == {}
    assert others.run(Call(None, (), ("KEYS", "*"), lambda reply: reply)) == [b"theirs"]
    assert others.run(Call(None, (), ("PTTL", "theirs"), lambda reply: reply)) > 10_000
    others.close()


def test_a_cluster_is_refused(app: StreamQ) -> None:
    with pytest.raises(UsageError, match="needs a single server"), Queue(app, "redis+cluster://127.0.0.1:1"):
        pass

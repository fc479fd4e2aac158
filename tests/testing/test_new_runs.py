"""Tasks that go on as new runs, in a queue under test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamq import StreamQ, get_context
from streamq.embedded import EmbeddedServer
from streamq.testing import Queue


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as found:
        yield found


def test_run_runs_them_to_the_last_and_advance_their_delays(server: EmbeddedServer) -> None:
    app = StreamQ("shop")

    @app.task
    def count(left: int, so_far: int = 0) -> int:
        if not left:
            return so_far
        return get_context().continue_as_new(count.bind(left - 1, so_far=so_far + left))

    @app.task
    async def poll(n: int) -> str:
        context = get_context()
        if n < 3:
            return context.continue_as_new(poll.options(delay="1h").bind(n + 1))
        return f"asked {context.generation + 1} times"

    with Queue(app, server) as queue:
        handle = count.enqueue(4)
        [ended] = queue.run()
        assert (ended.id, ended.state, ended.attempts, ended.result) == (handle.id, "completed", 1, 10)
        polling = poll.enqueue(1)
        assert queue.run() == []
        assert queue.advance("1h") == []
        [ended] = queue.advance("1h")
        assert ended.result == polling.result(0) == "asked 3 times"
        assert app.inspector.audit().problems == []

"""The start of a flow: one of a key, in one call where it is small, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamq import StreamQ
from streamq.calls.call import Call
from streamq.embedded import EmbeddedServer
from streamq.errors import (
    InvalidArguments,
    InvalidOption,
    PayloadError,
    ServerError,
    UnknownFlow,
    UsageError,
)
from streamq.keys import type_keys
from streamq.transport.sync_transport import SyncTransport
from tests.conftest import command
from tests.flows.stage import Diamond, books
from tests.running import clean, serving, until
from tests.variant import changed, without


async def test_one_key_is_one_flow(app: StreamQ) -> None:
    diamond = Diamond(app)
    handles = await asyncio.gather(*(diamond.wf.astart(key="import:17") for _ in range(20)))
    assert len(set(handles)) == 1
    assert sum(not one.duplicate for one in handles) == 1
    async with serving(app):
        assert await handles[0].aresult(20) == [2, 3]
        assert (await diamond.wf.astart(key="import:17")).duplicate
        assert not (await diamond.wf.astart(key="import:18")).duplicate
        await until(lambda: diamond.ran.count("join") == 2)
    clean(app)


def test_wrong_input_is_refused_in_its_line(app: StreamQ, valkey: EmbeddedServer) -> None:  # noqa: PLR0915
    @app.task
    async def fetch(url: str) -> str:
        return url

    @app.task
    async def count(n: int) -> int:
        return n

    other = StreamQ("other", valkey.url)

    @other.task
    async def foreign() -> None: ...

    wf = app.flow("wrong")
    node = wf.add(fetch.bind("a"))
    with pytest.raises(
        InvalidArguments, match="argument n of task type 'count' takes int, and node .* returns str"
    ):
        wf.add(count.bind(node.output))  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments, match="missing"):
        wf.add(count.bind())  # type: ignore[call-arg]
    with pytest.raises(InvalidOption, match="belongs to app 'other'"):
        wf.add(foreign.bind())
    with pytest.raises(InvalidOption, match="another flow"):
        app.flow("second").add(fetch.bind(node.output))
    with pytest.raises(InvalidOption, match="another flow"):
        app.flow("second").add(fetch.bind("b"), after=node)
    with pytest.raises(InvalidArguments, match="is not a call"):
        wf.add(fetch)  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments, match="a map goes over a list"):
        wf.map(count, node)  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments, match="output of a flow's node"):
        fetch.enqueue(node.output)
    with pytest.raises(InvalidOption, match="on_error='continue'"):
        wf.add(fetch.bind(wf.add(fetch.bind("c"), on_error="continue").output))
    with pytest.raises(InvalidOption, match="already"):
        wf.add(fetch.bind("d"), name="fetch")
    with pytest.raises(InvalidOption, match="no nodes"):
        app.flow("empty").start()
    with pytest.raises(InvalidOption, match="idempotency key"):
        wf.add(fetch.options(idempotency_key="x").bind("a"))
    with pytest.raises(PayloadError, match="at most 10,000 items"):
        wf.map(fetch, map(str, range(10_001)))
    with pytest.raises(UnknownFlow, match="is not the id of a flow"):
        app.flow_handle("nonsense")
    with pytest.raises(UnknownFlow, match="there is no flow"):
        app.flow_handle("import:0:1764547200000-402938475610").result(1)
    handle = wf.start()
    with pytest.raises(UsageError, match="has no node 'nobody'"):
        handle.results("nobody").__next__()
    handle.cancel()


def test_a_small_flow_starts_in_one_call(app: StreamQ, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent twice, as where its reply was lost, it changes nothing; of flows with one key one starts."""
    diamond = Diamond(app)
    diamond.wf.start()  # the types are known by now
    called: list[str] = []
    run = SyncTransport.run

    def twice(self: SyncTransport, call: Call[Any], **more: Any) -> object:
        called.append("" if call.script is None else call.script.name)
        if call.script is not None and call.script.name == "flow_start":
            run(self, call, **more)
        return run(self, call, **more)

    with monkeypatch.context() as patch:
        patch.setattr(SyncTransport, "run", twice)
        handle = diamond.wf.start()
        assert called == ["flow_start"]
        keyed = diamond.wf.start(key="one")
        again = diamond.wf.start(key="one")
    assert (handle.duplicate, keyed.duplicate, again.duplicate) == (False, False, True)
    assert again == keyed != handle
    for one in (handle, keyed):
        assert [node.state for node in one.nodes()] == ["released", *["waiting"] * 4]
        books(one)
    assert command(url, "HGET", type_keys(app.name, 0, "top").counters, "accepted") == b"3"
    clean(app)


def test_a_start_that_fails_is_not_tried_by_other_calls(app: StreamQ, url: str) -> None:
    """They would hide the fault, or store a flow of which the program is told that it has none."""
    diamond = Diamond(app)
    diamond.wf.start()
    broken = without("flow_start", "if why and", "if why + 1 and")
    with changed(broken), pytest.raises(ServerError, match="arithmetic"):
        diamond.wf.start()
    command(url, "SET", type_keys(app.name, 0, "top").normal, "nonsense")
    with pytest.raises(ServerError, match="nothing was written"):
        diamond.wf.start()
    assert len(list(app.flows.all())) == 1

"""Flows of an app whose payloads and results are sealed."""

from __future__ import annotations

import pytest

from streamq import KeyRing, StreamQ
from streamq.worker import flow_nodes
from streamq.worker.flow_nodes import FlowNodes
from tests.running import clean, serving

pytest.importorskip("cryptography")


@pytest.mark.parametrize("left_behind", [False, True])
async def test_results_are_sealed_on_their_way(
    url: str, left_behind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the worker dies that could have read the list of a map: a daemon cannot."""
    if left_behind:
        monkeypatch.setattr(FlowNodes, "settled", lambda *_: None)
        monkeypatch.setattr(flow_nodes, "LOOK", 0.5)
    app = StreamQ("shop", url, keys=KeyRing(current="a", keys={"a": b"0" * 32}))

    @app.task
    async def items(n: int) -> list[int]:
        return list(range(n))

    @app.task
    async def double(n: int, by: int) -> int:
        return n * by

    @app.task
    async def total(parts: list[int], first: list[int]) -> list[int]:
        return [sum(parts), len(first)]

    wf = app.flow("sealed")
    first = wf.add(items.bind(5))
    wf.add(total.bind(wf.map(double, first, fixed={"by": 3}).output, first.output))
    wf.map(double, [1, 2], fixed={"by": 2}, name="given")
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(40) == {"total": [30, 5], "given": [2, 4]}
    clean(app)

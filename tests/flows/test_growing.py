"""Nodes of flows whose handlers return or spawn children: these exist once, and are waited for."""

from __future__ import annotations

from typing import Any

import pytest

from streamq import Expand, FlowFailed, KeyRing, Lane, StreamQ, Unique, get_context
from streamq.errors import InvalidArguments, InvalidOption, PayloadError, UsageError
from streamq.flows.inputs import Failure
from tests.flows import handlers
from tests.flows.stage import books, ended
from tests.running import OPTIONS, clean, serving, tending, until, working


class Pages:
    """A node that expands to two types of children, and one that gets their results."""

    def __init__(self, app: StreamQ) -> None:
        self.ran: list[Any] = []
        self.broken: set[int] = set()

        @app.task(max_attempts=1)
        async def word(text: str) -> int:
            self.ran.append(text)
            return len(text)

        @app.task(max_attempts=1, priority="high")
        async def number(n: int) -> int:
            if n in self.broken:
                raise ValueError(f"{n} is broken")
            self.ran.append(n)
            return n

        @app.task(max_attempts=1)
        async def split(n: int) -> Expand[int]:
            self.ran.append("split")
            return Expand([number.bind(one) if one % 3 else word.bind("x" * one) for one in range(n)])

        @app.task(max_attempts=1)
        async def deep(n: int) -> Expand[Expand[int]]:
            return Expand([split.bind(one) for one in range(n)])

        @app.task
        async def total(parts: list[int]) -> int:
            self.ran.append("total")
            return sum(parts)

        @app.task
        async def totals(parts: list[list[int]]) -> list[int]:
            return [sum(part) for part in parts]

        self.split, self.deep, self.total, self.totals, self.number = split, deep, total, totals, number


async def test_the_results_of_children_are_the_nodes_own(app: StreamQ) -> None:
    pages = Pages(app)
    wf = app.flow("pages")
    wf.add(pages.total.bind(wf.add(pages.split.bind(450)).output))
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(30) == sum(range(450))
        assert await handle.aresult(30, node="split") == list(range(450))
        assert [one async for one in handle.aresults("split")] == list(range(450))
    assert pages.ran[0] == "split"
    assert pages.ran[-1] == "total"
    assert len(pages.ran) == 452
    info = handle.info()
    assert (info.nodes, info.done) == (452, 452)
    [split, _] = handle.nodes()
    assert dict(split.children) == {"completed": 450}
    books(handle)
    clean(app)


async def test_the_worker_itself_lets_children_run(app: StreamQ) -> None:
    """They do not wait for a daemon to look after their flow."""
    pages = Pages(app)
    wf = app.flow("pages")
    wf.add(pages.total.bind(wf.add(pages.split.bind(3)).output))
    handle = wf.start()
    async with working(app, OPTIONS):
        assert await handle.aresult(20) == 3
    books(handle)


async def test_a_child_expands_as_well_and_none_is_none(app: StreamQ) -> None:
    pages = Pages(app)
    wf = app.flow("pages")
    wf.add(pages.totals.bind(wf.add(pages.deep.bind(4)).output))
    over_a_list = wf.map(pages.split, [0, 2, 3])
    wf.add(pages.totals.bind(over_a_list.output), name="mapped")
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(30) == {"totals": [0, 0, 1, 3], "mapped": [0, 1, 3]}
        assert await handle.aresult(30, node="deep") == [[], [0], [0, 1], [0, 1, 2]]
    assert len([one for one in pages.ran if one == "split"]) == 7
    books(handle)
    clean(app)


async def test_a_failed_child_fails_the_flow_and_only_it_runs_again(app: StreamQ) -> None:
    pages = Pages(app)
    pages.broken = {4}
    wf = app.flow("pages")
    wf.add(pages.total.bind(wf.add(pages.split.bind(6)).output))
    async with serving(app):
        handle = await wf.astart()
        with pytest.raises(FlowFailed, match=r"node 'split\[4\]' .*4 is broken"):
            await handle.aresult(20)
        assert await ended(handle) == "failed"
        clean(app)
        before = list(pages.ran)
        pages.broken = set()
        assert await handle.aretry()
        assert await handle.aresult(20) == 15
        assert pages.ran[len(before) :].count("split") == 0
    assert sorted(map(str, pages.ran)) == sorted(["split", "total", "", "xxx", "1", "2", "4", "5"])
    books(handle)
    clean(app)


async def test_a_failure_of_a_child_may_be_handed_on(app: StreamQ) -> None:
    pages = Pages(app)
    pages.broken = {1}

    @app.task
    async def look(parts: list[int | Failure]) -> list[str]:
        return [type(one).__name__ for one in parts]

    wf = app.flow("lenient")
    wf.add(look.bind(wf.add(pages.split.bind(3), on_error="continue").outcome))
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(20) == ["int", "Failure", "int"]
        found = await handle.aresult(20, node="split")
    assert (found[0], found[1].node, found[2]) == (0, "split[1]", 2)
    books(handle)


async def test_what_is_spawned_is_waited_for(app: StreamQ) -> None:
    ran: list[str] = []

    @app.task
    async def crawl(depth: int) -> int:
        ran.append(f"crawl {depth}")
        if depth:
            get_context().spawn(*[crawl.bind(depth - 1)] * 2)
            get_context().enqueue(note.bind(depth))
        return depth

    @app.task
    async def note(depth: int) -> None:
        ran.append(f"note {depth}")

    @app.task
    async def last(depth: int) -> int:
        ran.append("last")
        return depth

    wf = app.flow("crawl")
    wf.add(last.bind(wf.add(crawl.bind(3)).output))
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(20) == 3
        await until(lambda: len(ran) == 23)
    assert [len([one for one in ran if one == f"crawl {n}"]) for n in range(4)] == [8, 4, 2, 1]
    assert max(ran.index(one) for one in ran if "crawl" in one) < ran.index("last")
    assert [one.name for one in handle.nodes()] == ["crawl", "last"]
    assert list(handle.results("crawl")) == [2, 2]
    books(handle)
    clean(app)


async def test_a_failed_attempt_leaves_no_children(app: StreamQ) -> None:
    ran: list[str] = []

    @app.task
    async def child(attempt: int) -> None:
        ran.append(f"child of {attempt}")

    @app.task(max_attempts=2, backoff=None)
    async def parent() -> None:
        attempt = get_context().attempt
        get_context().spawn(child.bind(attempt))
        if attempt == 1:
            raise ValueError("once more")

    wf = app.flow("again")
    wf.add(parent.bind())
    async with serving(app):
        await (await wf.astart()).aresult(30)
    assert ran == ["child of 2"]
    clean(app)


async def test_children_of_a_process(app: StreamQ, url: str) -> None:
    queue = handlers.at(url)
    wf = queue.flow("process")
    wf.add(handlers.expands.bind(3))
    wf.add(handlers.spawns.bind(2))
    async with serving(queue):
        handle = await wf.astart()
        assert await handle.aresult(30) == {"expands": [1, 2, 3], "spawns": 2}
        assert list(handle.results("spawns")) == [1, 2]
    clean(queue)


async def test_sealed_children(url: str) -> None:
    keys = KeyRing(current="a", keys={"a": bytes(range(32))})
    app = StreamQ("shop", url, keys=keys)
    pages = Pages(app)
    wf = app.flow("pages")
    wf.add(pages.total.bind(wf.add(pages.split.bind(5)).output))
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(20) == 10
    clean(app)
    await app.aclose()


async def test_a_daemon_makes_the_children_of_a_worker_that_died(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = Pages(app)
    wf = app.flow("pages")
    wf.add(pages.total.bind(wf.add(pages.split.bind(4)).output))
    handle = await wf.astart()
    with monkeypatch.context() as patch:
        patch.setattr("streamq.worker.flow_nodes.FlowNodes.settled", lambda *_: None)
        async with working(app):
            await until(lambda: "split" in pages.ran)
        assert handle.info().released == 1
        async with tending(app):
            await until(lambda: handle.info().released == 5)  # the node itself among them
        clean(app)
    async with serving(app):
        assert await handle.aresult(20) == 6
    clean(app)


async def test_lanes_hold_for_children(app: StreamQ) -> None:
    running, most = 0, 0

    @app.task(lane=Lane("who", running=1))
    async def one(who: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await until(lambda: True)
        running -= 1
        return who

    @app.task
    async def all_of(names: list[str]) -> Expand[str]:
        return Expand([one.bind(name) for name in names])

    wf = app.flow("lanes")
    wf.add(all_of.bind(["ada"] * 4))
    async with serving(app):
        assert await (await wf.astart()).aresult(20) == ["ada"] * 4
    assert most == 1
    clean(app)


async def test_what_cannot_be_a_child_is_told(app: StreamQ) -> None:
    pages = Pages(app)
    told: list[str] = []

    @app.task(unique=Unique(by=("key",)))
    async def alone(key: str) -> None: ...

    @app.task(max_attempts=1)
    async def wrong() -> Expand[int]:
        for make in (
            lambda: Expand([1]),  # type: ignore[arg-type]
            lambda: Expand([alone.bind("a")]),
            lambda: Expand([pages.number.bind(1)] * 10_001),
            lambda: Expand([pages.number.options(shard_key="a").bind(1)]),
            lambda: get_context().spawn(3),  # type: ignore[arg-type]
            lambda: get_context().spawn(*[pages.number.bind(1)] * 1_001),
        ):
            try:
                make()
            except (InvalidArguments, InvalidOption, PayloadError) as error:
                told.append(str(error))
        return [1]  # type: ignore[return-value]

    wf = app.flow("wrong")
    wf.add(wrong.bind())
    async with serving(app):
        with pytest.raises(FlowFailed, match=r"it is a list: return Expand"):
            await (await wf.astart()).aresult(20)
        plain = await pages.split.aenqueue(2)
        await until(lambda: plain.status() == "dead")
    assert [one.partition(":")[0][:40] for one in told] == [
        "1 is not a call",
        "task type 'alone'",
        "10,001 children",
        "shard_key",
        "3 is not a call",
        "1,001 children",
    ]


async def test_outside_a_flow_nothing_waits(app: StreamQ) -> None:
    pages = Pages(app)
    told: list[str] = []

    @app.task
    async def lonely() -> None:
        try:
            get_context().spawn(pages.number.bind(1))
        except UsageError as error:
            told.append(str(error))

    async with working(app):
        await (await lonely.aenqueue()).aresult(20)
    assert "is no node of a flow" in told[0]


async def test_children_are_returned_or_spawned_and_not_both(app: StreamQ) -> None:
    """Those that were spawned would be lost silently."""
    pages = Pages(app)

    @app.task(max_attempts=1)
    async def both() -> Expand[int]:
        get_context().spawn(pages.number.bind(1))
        return Expand([pages.number.bind(2)])

    wf = app.flow("both")
    wf.add(both.bind())
    async with serving(app):
        with pytest.raises(FlowFailed, match=r"'both' returns its children as Expand: put these calls there"):
            await (await wf.astart()).aresult(20)

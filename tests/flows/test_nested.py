"""Flows that run for a node of a flow, or for a plain task: their result, and their ends both ways."""

from __future__ import annotations

from itertools import count
from typing import Any
from urllib.parse import quote

import pytest
from tenacity import wait_none

from streamq import FlowCancelled, FlowFailed, FlowHandle, StreamQ, TaskDead, get_context
from streamq.app import child_flows, flow_builder
from streamq.app.child_flows import ChildFlows
from streamq.app.flow_graph import FlowGraph, declared_of
from streamq.audit import children
from streamq.calls.call import Call
from streamq.cli import main
from streamq.daemon import flow_keeper
from streamq.dashboard import dashboard
from streamq.doctor.queue import AppChecks
from streamq.errors import UsageError
from streamq.flow import Flow, drive
from streamq.flows import advancing, keeping
from streamq.flows.children import DEEPEST, parent_lives, tell_parent
from streamq.flows.flow_id import FlowId
from streamq.keys import shard_keys, type_keys
from streamq.model.task import TaskId
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.dashboard.shop import TRUSTED
from tests.dashboard.test_pages import client
from tests.flows.test_flows import books, ended
from tests.running import clean, serving, until


class Regions:
    """A node that runs a flow of three nodes for its argument; `broken` fail in the last of them."""

    def __init__(self, app: StreamQ, attempts: int = 1) -> None:
        self.app = app
        self.ran: list[str] = []
        self.broken: set[str] = set()
        self.undone: list[str] = []
        self.waiting = False

        @app.task(max_attempts=1)
        async def size(name: str) -> int:
            self.ran.append(f"size {name}")
            return len(name)

        @app.task
        async def unsize(size: int) -> None:
            self.undone.append(str(size))

        @app.task(max_attempts=1)
        async def add(parts: list[int], name: str) -> int:
            self.ran.append(f"add {name}")
            if name in self.broken:
                raise ValueError(f"{name} is broken")
            return sum(parts)

        @app.task(max_attempts=attempts, backoff=wait_none())
        async def region(name: str) -> int:
            wf = app.flow("region")
            parts = [wf.add(size.bind(name * n), undo=unsize) for n in (1, 2)]
            last = wf.add(add.bind([one.output for one in parts], name))
            if self.waiting:
                wf.wait("go", after=last)
            result: int = await get_context().run_flow(wf)
            self.ran.append(f"region {name}")
            return result

        @app.task
        async def total(parts: list[int]) -> int:
            return sum(parts)

        self.region, self.total = region, total

    def child(self) -> FlowHandle:
        [found] = [one for one in self.app.flows.all() if one.name == "region"]
        return self.app.flow_handle(found.id)


async def test_a_node_is_a_flow_and_its_result_is_that_of_the_flow(app: StreamQ) -> None:
    regions = Regions(app)
    wf = app.flow("world")
    parts = wf.map(regions.region, ["eu", "asia"])
    wf.add(regions.total.bind(parts.output))
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(30) == (2 + 4) + (4 + 8)
    for name in ("eu", "asia"):
        mine = [one for one in regions.ran if name in one]
        assert sorted(mine) == [f"add {name}", f"region {name}", f"size {name}", f"size {name * 2}"]
    books(handle)
    children = [one for one in app.flows.all() if one.name == "region"]
    assert len(children) == 2
    for one in children:
        assert one.parent.startswith("region:")
        assert FlowId.parse(one.id).shard == FlowId.parse(handle.id).shard
        books(app.flow_handle(one.id))
    assert [one.parent for one in app.flows.all() if one.name == "world"] == [""]
    clean(app)


async def test_a_plain_task_runs_a_flow_in_a_thread(app: StreamQ) -> None:
    regions = Regions(app)

    @app.task
    def outer(n: int) -> int:
        wf = app.flow("inner")
        wf.add(regions.total.bind([n, n]))
        other = app.flow("inner")
        other.add(regions.total.bind([n]))
        context = get_context()
        return int(context.run_flow_sync(wf)) * int(context.run_flow_sync(other, name="second"))

    async with serving(app):
        handle = await outer.aenqueue(3)
        assert await handle.aresult(30) == 18
    clean(app)


async def test_a_failure_comes_up_and_a_retry_goes_down(app: StreamQ) -> None:
    regions = Regions(app)
    regions.broken = {"eu"}
    wf = app.flow("world")
    wf.add(regions.total.bind([wf.add(regions.region.bind("eu")).output]))
    async with serving(app):
        handle = await wf.astart()
        with pytest.raises(FlowFailed, match="node 'region' .*eu is broken"):
            await handle.aresult(30)
        assert await ended(handle) == "failed"
        child = regions.child()
        assert child.status() == "failed"
        regions.broken, regions.undone = set(), []
        before = list(regions.ran)
        assert await handle.aretry()
        assert await handle.aresult(30) == 6
    assert sorted(regions.ran[len(before) :]) == [
        "add eu",
        "region eu",
        "size eu",
        "size eueu",
    ]  # undone before
    assert child.status() == "completed"
    books(handle)
    books(child)
    clean(app)


async def test_an_attempt_lets_a_flow_go_on_once(app: StreamQ) -> None:
    regions = Regions(app, attempts=3)
    regions.broken = {"eu"}
    async with serving(app):
        handle = await regions.region.aenqueue("eu")
        with pytest.raises(TaskDead, match="eu is broken"):
            await handle.aresult(30)
        assert regions.ran.count("add eu") == 3
        regions.broken = set()
        app.admin.requeue(handle.id)
        assert await handle.aresult(30) == 6
    assert regions.ran.count("add eu") == 4
    clean(app)


async def test_a_handler_may_go_on_after_a_failure(app: StreamQ) -> None:
    regions = Regions(app)
    regions.broken = {"eu"}

    @app.task(max_attempts=1)
    async def careful() -> str:
        wf = app.flow("inner")
        wf.add(regions.region.bind("eu"))
        context = get_context()
        try:
            await context.run_flow(wf)
        except FlowFailed as error:
            await context.sleep(0.05)
            return error.node
        raise AssertionError

    async with serving(app):
        assert await (await careful.aenqueue()).aresult(30) == "region"
    assert regions.ran.count("add eu") == 1
    clean(app)


@pytest.mark.parametrize("plain", [False, True])
async def test_a_cancel_goes_down(app: StreamQ, plain: bool) -> None:
    regions = Regions(app)
    regions.waiting = True
    wf = app.flow("world")
    wf.add(regions.region.bind("eu"))
    async with serving(app):
        handle: Any = await (regions.region.aenqueue("eu") if plain else wf.astart())
        await until(lambda: "add eu" in regions.ran and regions.child().info().released == 1)
        child = regions.child()
        await handle.acancel()
        await until(lambda: child.status() == "cancelled")
        await until(lambda: handle.status() == "cancelled")
        assert sorted(regions.undone) == ["2", "4"]
        if not plain:
            regions.waiting = False
            assert await handle.aretry()
            await until(lambda: child.status() == "running" and child.info().released == 1)
            assert await child.asignal("go") in ("delivered", "stored")
            await until(lambda: handle.status() == "completed")
    books(child)
    clean(app)


async def test_a_cancelled_child_fails_its_parent(app: StreamQ) -> None:
    regions = Regions(app)
    regions.waiting = True
    async with serving(app):
        handle = await regions.region.aenqueue("eu")
        await until(lambda: "add eu" in regions.ran and handle.status() == "scheduled")
        assert await regions.child().acancel()
        with pytest.raises(TaskDead, match=FlowCancelled.__name__):
            await handle.aresult(30)
    clean(app)


async def test_a_flow_in_a_flow_has_an_end(app: StreamQ) -> None:
    refused: list[str] = []

    @app.task(max_attempts=1)
    async def dig(left: int) -> int:
        if not left:
            return 0
        wf = app.flow("hole")
        wf.add(dig.bind(left - 1))
        try:
            return 1 + int(await get_context().run_flow(wf))
        except UsageError as error:
            refused.append(str(error))
            raise

    async with serving(app):
        assert await (await dig.aenqueue(DEEPEST)).aresult(60) == DEEPEST
        with pytest.raises(TaskDead):
            await (await dig.aenqueue(DEEPEST + 1)).aresult(60)
    [told] = refused
    assert f"{DEEPEST} deep" in told
    clean(app)


async def test_an_end_that_no_worker_tells_is_told_by_a_daemon(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untold(_s: object, _flow: str) -> Flow[bool]:
        return True
        yield

    monkeypatch.setattr(advancing, "tell_parent", untold)
    monkeypatch.setattr(flow_keeper, "KEEP_INTERVAL", 0.1)
    regions = Regions(app)
    async with serving(app):
        assert await (await regions.region.aenqueue("eu")).aresult(30) == 6
    clean(app)


async def test_one_whose_parent_is_gone_is_cancelled(app: StreamQ, url: str) -> None:
    regions, transport = Regions(app), SyncTransport(Address.parse(url))
    wf = app.flow("orphan")
    wf.sleep("1h")
    child = flow_builder.Child(0, "1796084272409-123456789012", "region:0:n1-1", 1)
    drive(transport, flow_builder.start(app.registry, declared_of(wf, app.registry), "", child))
    s = shard_keys(app.name, 0)
    handle = app.flow_handle(f"orphan:0:{child.local}")
    assert (handle.status(), handle.info().parent) == ("running", child.parent)
    drive(transport, keeping.keep(s, child.local, 1_796_084_272_409))
    assert handle.status() == "cancelled"
    assert regions.ran == []
    transport.close()
    clean(app)


async def test_an_attempt_that_fails_before_its_flow_has_started_leaves_it_to_the_next(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions, start, tries = Regions(app, attempts=2), flow_builder.start, list[str]()

    def failing(*args: Any) -> Flow[Any]:
        tries.append("try")
        if len(tries) == 1:
            raise OSError("the worker is gone")
        return (yield from start(*args))

    monkeypatch.setattr(child_flows, "start", failing)
    async with serving(app):
        assert await (await regions.region.aenqueue("eu")).aresult(30) == 6
    assert tries == ["try", "try"]
    assert regions.ran.count("add eu") == 1
    clean(app)


async def test_it_runs_in_the_shard_of_its_parent_and_expires_with_it(url: str) -> None:
    app = StreamQ("shop", url, shards=3)
    regions = Regions(app)
    async with serving(app):
        handles = [await regions.region.aenqueue("eu") for _ in range(3)]
        assert [await one.aresult(30) for one in handles] == [6, 6, 6]
        for one in app.flows.all():
            assert FlowId.parse(one.id).shard == TaskId.parse(one.parent).shard
        regions.waiting = True
        handle = await regions.region.options(expires="1s").aenqueue("asia")
        await until(lambda: handle.status() == "expired")
        [child] = [one.id for one in app.flows.all() if one.parent == handle.id]
        await until(lambda: app.flow_handle(child).status() == "cancelled")
    clean(app)


async def test_a_retry_right_after_a_cancel_lets_the_flow_run_again(app: StreamQ) -> None:
    """What tells the child that its task is over is still in the inbox when that begins anew."""
    regions = Regions(app)
    regions.waiting = True
    wf = app.flow("world")
    wf.add(regions.region.bind("eu"))
    async with serving(app):
        handle = await wf.astart()
        await until(lambda: "add eu" in regions.ran and regions.child().info().released == 1)
        child = regions.child()
        await handle.acancel()
        await until(lambda: handle.status() == "cancelled")
        regions.waiting = False
        assert child.status() == "running"
        assert await handle.aretry()
        await until(lambda: regions.ran.count("add eu") == 2 and child.info().released == 1, 30)
        assert await child.asignal("go", 6) in ("delivered", "stored")
        assert await handle.aresult(30) == 6
    assert sorted(regions.undone) == ["2", "4"]
    books(handle)
    books(child)
    clean(app)


async def test_a_flow_that_runs_again_tells_its_next_end(app: StreamQ, url: str) -> None:
    """Who was to tell an earlier end comes when the flow runs again."""
    regions, transport = Regions(app), SyncTransport(Address.parse(url))
    regions.waiting = True
    async with serving(app):
        handle = await regions.region.aenqueue("eu")
        await until(lambda: "add eu" in regions.ran and handle.status() == "scheduled")
        await until(lambda: regions.child().info().released == 1)
        child = FlowId.parse(regions.child().id)
        assert drive(transport, tell_parent(shard_keys(app.name, child.shard), child.local))
        assert handle.status() == "scheduled"
        await regions.child().asignal("go", 6)
        assert await handle.aresult(30) == 6
    transport.close()
    clean(app)


async def test_a_task_whose_flow_is_gone_is_told_and_runs_it_anew(
    app: StreamQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_flows, "LOOK_S", 3.0)
    regions, transport = Regions(app), SyncTransport(Address.parse(url))
    regions.waiting = True
    async with serving(app):
        handle = await regions.region.aenqueue("eu")
        await until(lambda: "add eu" in regions.ran and regions.child().info().released == 1)
        await until(lambda: handle.status() == "scheduled")
        child = FlowId.parse(regions.child().id)
        s, t = shard_keys(app.name, child.shard), type_keys(app.name, child.shard, "region")
        assert drive(transport, children.gone(s, t, 10)) == []
        for key in (s.flow(child.local), s.flow_states(child.local)):
            transport.run(Call(None, (key,), ("UNLINK", key), int))
        local = TaskId.parse(handle.id).local
        assert drive(transport, children.gone(s, t, 10)) == [(local, child.local)]
        assert "lost_child" in [one.code for one in app.inspector.audit().problems]
        told = [one for one in AppChecks(transport, app.name, 1).run([]) if one.status == "fault"]
        assert any(handle.id in one.finding and "is gone" in one.finding for one in told)
        regions.waiting = False
        assert await handle.aresult(30) == 6
    transport.close()


async def test_a_damaged_parent_costs_that_flow_only(app: StreamQ, url: str) -> None:
    regions, transport = Regions(app), SyncTransport(Address.parse(url))
    regions.waiting = True
    async with serving(app):
        handle = await regions.region.aenqueue("eu")
        await until(lambda: "add eu" in regions.ran and handle.status() == "scheduled")
        child = FlowId.parse(regions.child().id)
        s = shard_keys(app.name, child.shard)
        for garbage in (b"", b"\xff:0:x", b"region:7:h1-1", b"../x:0:h1-1"):
            key = s.flow(child.local)
            transport.run(Call(None, (key,), ("HSET", key, "parent", garbage, "depth", "-1e9"), int))
            assert drive(transport, tell_parent(s, child.local))
            assert not drive(transport, parent_lives(s, garbage))
        drive(transport, keeping.keep(s, child.local, 1))
        await until(lambda: regions.child().status() == "cancelled")
        await handle.acancel()
    transport.close()


async def test_an_attempt_that_ends_at_any_step_of_a_run_leaves_one_flow_to_the_next(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions, run, cuts = Regions(app, attempts=2), ChildFlows.run, dict[str, int]()
    cut: list[int] = []

    def cut_short(self: ChildFlows, graph: object, name: str | None, returns: object) -> Flow[Any]:
        task = str(self._task.id)  # pyright: ignore[reportPrivateUsage]
        last = -1 if task in cuts else cuts.setdefault(task, len(cuts))
        steps, answer = run(self, graph, name, returns), None
        for n in count():
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value
            if n == last:
                cut.append(n)
                raise OSError("the worker is gone")
            answer = yield step

    monkeypatch.setattr(ChildFlows, "run", cut_short)
    async with serving(app):
        handles = [await regions.region.aenqueue(f"r{n:02d}") for n in range(12)]
        assert [await one.aresult(30) for one in handles] == 12 * [9]
    assert sorted(cut) == list(range(len(cut)))
    assert len(cut) > 6
    assert len([one for one in app.flows.all() if one.name == "region"]) == 12
    assert {name for name in regions.ran if regions.ran.count(name) > 1} == set()
    clean(app)


async def test_the_result_of_a_node_is_asked_for_by_its_output(app: StreamQ) -> None:
    regions, refused = Regions(app), list[str]()

    @app.task(max_attempts=1)
    async def lenient(n: int) -> int:
        return n

    @app.task(max_attempts=1)
    async def outer() -> int:
        wf, other, ctx = app.flow("inner"), app.flow("other"), get_context()
        parts = wf.map(lenient, [1, 2, 3])
        last = wf.add(regions.total.bind(parts.output))
        wf.add(regions.total.bind([last.output]))
        may_fail = wf.add(lenient.bind(1), on_error="continue")
        race = wf.first(wf.wait("go"), wf.add(lenient.bind(1)))
        for wrong in (5, other.add(lenient.bind(1)).output, may_fail.output, race.output):
            try:
                await ctx.run_flow(wf, returns=wrong)
            except UsageError as error:
                refused.append(str(error))
        return sum(await ctx.run_flow(wf, returns=parts.output)) + int(
            await ctx.run_flow(_again(app, regions))
        )

    async with serving(app):
        assert await (await outer.aenqueue()).aresult(30) == 6 + 4
        wf = app.flow("typed")
        first = wf.add(lenient.bind(2))
        wf.add(regions.total.bind([first.output, first.output]))
        handle = await wf.astart()
        assert await handle.aresult(30, returns=first.output) == 2
        with pytest.raises(UsageError, match="not the output of a node of flow typed"):
            await handle.aresult(30, returns=app.flow("another").add(lenient.bind(1)).output)
    assert len(set(refused)) == 4
    clean(app)


def _again(app: StreamQ, regions: Regions) -> FlowGraph:
    wf = app.flow("again")
    wf.add(regions.total.bind([4]))
    return wf


async def test_who_looks_at_a_flow_or_a_task_finds_the_flows_that_ran_for_it(
    app: StreamQ, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    regions = Regions(app)
    regions.waiting = True
    wf = app.flow("world")
    parts = wf.map(regions.region, ["eu"])
    wf.add(regions.region.bind("asia"), name="asia")
    wf.add(regions.total.bind(parts.output))
    async with serving(app):
        handle = await wf.astart()
        await until(lambda: [one.state for one in app.flows.all()].count("running") == 3)
        await until(lambda: sum(one.released for one in app.flows.all() if one.name == "region") == 2)
        children = {one.parent: one for one in app.flows.all() if one.name == "region"}
        for parent, child in children.items():
            assert [one.id for one in app.inspector.task(parent).flows] == [child.id]
            await app.flow_handle(child.id).asignal("go", 3)
        await handle.aresult(30)
    [asia] = [one for one in app.flows.get(handle.id).nodes if one.name == "asia"]
    assert [(one.id, one.state) for one in asia.flows] == [(children[asia.task].id, "completed")]
    assert [one.id for one in app.inspector.task(asia.task).flows] == [children[asia.task].id]
    [[one], _] = app.flows.children(handle.id, parts.number)
    assert [each.id for each in one.flows] == [children[one.task].id]
    assert main(["flow", "show", handle.id, "--app", app.name, "--url", url]) == 0
    assert children[asia.task].id in capsys.readouterr().out
    assert main(["task", "show", asia.task, "--app", app.name, "--url", url]) == 0
    assert f"{children[asia.task].id} (completed)" in capsys.readouterr().out
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        link = f'href="/flows/{quote(children[asia.task].id)}"'
        for page in (f"/flows/{handle.id}", f"/tasks/{asia.task}"):
            assert link in (await browser.get(page)).text, page
        link = f'href="/flows/{quote(children[one.task].id)}"'
        assert link in (await browser.get(f"/flows/{handle.id}?map={parts.name}")).text
    clean(app)

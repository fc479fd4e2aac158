"""The ends of flows that run for a task: they go both ways, whoever dies, is cancelled, or is gone."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from streamq import FlowCancelled, StreamQ, TaskDead
from streamq.app import child_flows, flow_builder
from streamq.app.child_flows import ChildFlows
from streamq.app.flow_graph import declared_of
from streamq.audit import children
from streamq.calls.call import Call
from streamq.daemon import flow_keeper
from streamq.doctor.queue import AppChecks
from streamq.flow import Flow, drive
from streamq.flows import advancing, keeping
from streamq.flows.children import parent_lives, tell_parent
from streamq.flows.flow_id import FlowId
from streamq.keys import shard_keys, type_keys
from streamq.model.task import TaskId
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.flows.regions import Regions
from tests.flows.stage import books
from tests.running import clean, serving, until


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

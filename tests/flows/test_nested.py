"""Flows that run for a node of a flow, or for a plain task: their results, and who sees them."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from streamq import FlowFailed, StreamQ, TaskDead, Unique, get_context
from streamq.cli import main
from streamq.dashboard import dashboard
from streamq.errors import UsageError
from streamq.flows.children import DEEPEST
from streamq.flows.flow_id import FlowId
from streamq.model.task import TaskId
from tests.dashboard.shop import TRUSTED
from tests.dashboard.test_pages import client
from tests.flows.regions import Regions, again
from tests.flows.stage import books, ended
from tests.running import clean, serving, until


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


@pytest.mark.parametrize("as_node", [False, True], ids=["a task", "a node"])
async def test_each_round_of_a_loop_is_a_flow_of_its_own(app: StreamQ, as_node: bool) -> None:
    regions = Regions(app)

    @app.task(unique=None if as_node else Unique())
    async def sync(cursor: int, seen: int) -> int:
        context = get_context()
        assert context.generation == cursor
        wf = app.flow("round")
        wf.add(regions.total.bind([cursor + 1]))
        seen += await context.run_flow(wf)
        return context.continue_as_new(sync.bind(cursor + 1, seen)) if cursor < 3 else seen

    async with serving(app):
        if as_node:
            wf = app.flow("loop")
            wf.add(sync.bind(0, 0)).then(regions.total.bind([1]))
            flow = await wf.astart()
            assert await flow.aresult(30) == 1
            assert await flow.aresult(30, node="sync") == 1 + 2 + 3 + 4
            [loop, _] = [node.task for node in await flow.anodes()]
        else:
            task = await sync.aenqueue(0, 0)
            assert await task.aresult(30) == 1 + 2 + 3 + 4
            loop = task.id
    rounds = [one for one in app.flows.all() if one.name == "round"]
    assert (len(rounds), {one.parent for one in rounds}) == (4, {loop})
    for one in rounds:
        books(app.flow_handle(one.id))
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
            await ctx.run_flow(again(app, regions))
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

"""Flows as operators see them: the command line, the log of actions, the audit and the doctor."""

from __future__ import annotations

import asyncio
import json
import random
import re
from typing import Any

import pytest

from streamq import StreamQ, Worker
from streamq.calls import flows as calls
from streamq.calls.call import Call
from streamq.cli import main
from streamq.doctor import flows as doctor_flows
from streamq.doctor.queue import AppChecks
from streamq.errors import ServerError
from streamq.flows.keeping import DAY_MS
from streamq.keys import shard_keys
from streamq.transport.sync_transport import SyncTransport
from tests.conftest import command
from tests.flows.stage import Diamond, books, over
from tests.running import OPTIONS, begun, clean, serving, tending, until


def local(handle_id: str) -> str:
    return handle_id.rpartition(":")[2]


async def test_the_commands(app: StreamQ, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    diamond = Diamond(app)
    diamond.broken = {"left"}

    def streamq(*args: str, code: int = 0) -> str:
        assert main([*args, "--url", url, "--app", "shop"]) == code
        told = capsys.readouterr()
        return told.out + told.err

    assert "has no such flows" in streamq("flow")
    async with serving(app):
        handle = await diamond.wf.astart(key="one")
        await until(over(handle))
        capsys.readouterr()
        assert handle.id in streamq("flow", "list", "--state", "failed")
        assert "has no such flows" in streamq("flow", "list", "--state", "running")
        shown = streamq("flow", handle.id)
        for text in ("left is broken", "top > left > join", "skipped", "completed", "one"):
            assert text in shown
        told = json.loads(streamq("flow", "show", handle.id, "--json"))
        assert told["flow"]["cause"] == "left"
        assert [node["state"] for node in told["nodes"]][:2] == ["completed", "dead"]
        diamond.broken = set()
        assert "goes on" in streamq("flow", "retry", handle.id)
        await until(lambda: handle.status() == "completed")
        assert "has not failed" in streamq("flow", "retry", handle.id, code=1)
        assert "had ended already" in streamq("flow", "cancel", handle.id, "--yes", code=1)
    streamq("flow", "show", "nonsense", code=3)
    streamq("flow", "show", "import:0:1764547200000-402938475610", code=3)
    assert [one.verb for one in app.inspector.actions()] == ["retry flow"]
    clean(app)


def test_many_nodes_are_drawn_in_few_lines(
    app: StreamQ, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @app.task
    def step(n: int) -> int:
        return n

    @app.task
    def end() -> None: ...

    wf = app.flow("long")
    last = wf.add(step.bind(0), name="s0")
    for n in range(1, 60):
        last = wf.add(step.bind(n), name=f"s{n}", after=[last])
    wf.add(end.bind(), after=[last, wf.map(step, range(30), name="many")])
    handle = wf.start()

    def drawn(*more: str) -> list[str]:
        assert main(["flow", "show", handle.id, "--url", url, "--app", "shop", *more]) == 0
        lines = capsys.readouterr().out.splitlines()
        return lines[next(n for n, line in enumerate(lines) if line.startswith("NODE")) + 1 :]

    rows = drawn()
    for row, begin, told in zip(
        rows,
        ("> step x 60 in a row ", "  many x 30 ", ">   end "),
        ("1 ready", "30 ", "waiting"),
        strict=True,
    ):
        assert row.startswith(begin), rows
        assert told in row or "waiting" in row, rows
    assert len(drawn("--all")) == 62
    assert "earlier nodes" in drawn("--first", "61")[0]


def test_an_operator_cancels(app: StreamQ) -> None:
    handle = Diamond(app).wf.start()
    assert app.flows.acting_for("ada").cancel(handle.id)
    assert handle.status() == "cancelled"
    [action] = app.inspector.actions()
    assert (action.by, action.verb, action.what) == ("ada", "cancel flow", handle.id)
    clean(app)


async def test_a_node_whose_task_is_gone_is_found_and_written_off(app: StreamQ, url: str) -> None:
    handle = Diamond(app).wf.start()
    s = shard_keys(app.name, 0)
    task = handle.nodes()[0].task
    for stream in ("high", "normal", "low"):
        command(url, "DEL", f"{s.base}:top:{stream}")
    command(url, "HDEL", f"{s.base}:top:index", task.rpartition(":")[2])
    [problem] = [one for one in app.inspector.audit().problems if one.code == "lost_node"]
    assert problem.where == f"{local(handle.id)} 0"
    app.admin.repair()
    async with serving(app):
        await until(over(handle))
    assert handle.nodes()[0].state == "dead"
    books(handle)


def test_the_audit_finds_what_is_off(app: StreamQ, url: str) -> None:
    handle = Diamond(app).wf.start()
    s = shard_keys(app.name, 0)
    command(url, "HSET", s.flow(local(handle.id)), "waiting", 9)
    command(url, "ZADD", s.inbox, 1, f"{local(handle.id)} 0 d")
    found = {one.code: one.where for one in app.inspector.audit().problems}
    assert "waiting 9, counted 4" in found["flow_books_off"]
    assert found["stuck_flow"] == f"{local(handle.id)} 0 d"
    transport = SyncTransport(app.address)
    said = [one.finding for one in AppChecks(transport, app.name, 1).run([]) if "flows" in one.name]
    assert said == [
        f"{handle.id}: 1 flows do not go on, 1 ends of their nodes wait for a minute",
        f"{handle.id}: the numbers are off",
    ]
    transport.close()


def test_the_doctor_reads_only_flows_in_trouble(app: StreamQ, url: str) -> None:
    s, many = shard_keys(app.name, 0), 1_000
    transport = SyncTransport(app.address)

    def seed(number: int, state: str, due_ms: int) -> str:
        flow = f"1764547200000-{number:012d}"
        counts = [part for name in ("nodes", "done") for part in (name, 1)]
        command(url, "HSET", s.flow(flow), "state", state, "name", "f", "static", 1, "ended", number, *counts)
        command(url, "ZADD", s.flows, due_ms, flow)
        return f"f:0:{flow}"

    def examined() -> tuple[list[str], int]:
        before = _served(url)
        checks = [one.finding for one in doctor_flows.checks(transport, app.name, 1, transport_ask)]
        return checks, _served(url) - before

    def transport_ask(call: Call[Any], instead: object) -> Any:
        return transport.run(call)

    now = int(command(url, "TIME")[0]) * 1000  # type: ignore[index]
    for n in range(many):
        seed(n, "completed", now + DAY_MS)
    said, asked = examined()
    assert said == [f"{many:d} stored, none stands still; 0 failed"]
    assert asked < 100
    for n in range(3):
        seed(many + n, "failed", now + 30 * DAY_MS)
    stuck = seed(many + 3, "stuck", now + 30 * DAY_MS)
    said, asked = examined()
    assert [one.partition(":")[0] for one in said] == ["f"]
    assert said[0].startswith(f"{stuck}: an undo task failed")
    assert asked < 120
    transport.close()


def _served(url: str) -> int:
    """How many commands the server has carried out."""
    told = command(url, "INFO", "stats")
    found = re.search(rb"total_commands_processed:([0-9]+)", told if isinstance(told, bytes) else b"")
    assert found is not None
    return int(found[1])


def test_the_audit_reads_flows_in_pages(app: StreamQ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "LISTED_AT_ONCE", 2)
    diamond = Diamond(app)
    started = {diamond.wf.start().id for _ in range(5)}
    assert {one.id for one in app.flows.all()} == started
    assert app.inspector.audit().problems == []


async def test_every_key_has_the_lifetime_of_its_flow(app: StreamQ, url: str) -> None:
    diamond = Diamond(app)
    handle = diamond.wf.start(key="one")
    s, flow = shard_keys(app.name, 0), local(handle.id)

    def lives() -> list[float]:
        keys = command(url, "KEYS", f"{s.base}:flow*=*")
        assert isinstance(keys, list)
        found = [command(url, "PTTL", key) for key in keys]
        return [one / DAY_MS for one in found if isinstance(one, int)]

    assert all(89 < one <= 90 for one in lives())
    async with serving(app):
        assert await handle.aresult(20) == [2, 3]
        await until(lambda: all(0 < one <= 1 for one in lives()), 40)
    # It is gone: so is its name, and its key is free.
    for key in command(url, "KEYS", f"{s.base}:flow*=*"):  # type: ignore[attr-defined]
        command(url, "DEL", key)
    command(url, "ZADD", s.flows, 1, flow)
    async with tending(app):
        await until(lambda: command(url, "ZCARD", s.flows) == 0)
    assert command(url, "HLEN", s.flow_names) == 0
    assert not diamond.wf.start(key="one").duplicate


async def test_parts_of_a_program_that_died_expire(app: StreamQ, url: str) -> None:
    s = shard_keys(app.name, 0)
    transport = SyncTransport(app.address)
    transport.run(calls.build_part(s, "1-000000000001", "0", {"name": "f"}, [], running=False))
    life = command(url, "PTTL", s.flow("1-000000000001"))
    assert isinstance(life, int)
    assert 0 < life <= calls.BUILD_MS
    assert app.flows.all() == []
    transport.close()


async def test_ten_thousand_children_and_workers_that_vanish(app: StreamQ) -> None:
    """Workers are cut off in the middle, again and again: the join runs once, with all results in order."""
    joins: list[int] = []
    number = 10_000

    @app.task(lease=0.5, max_lost=50)
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    @app.task
    async def join(parts: list[int]) -> int:
        joins.append(len(parts))
        assert parts == [2 * n for n in range(number)]
        return sum(parts)

    wf = app.flow("big")
    wf.add(join.bind(wf.map(double, range(number)).output))
    handle = await wf.astart()
    dice = random.Random(7)
    async with tending(app):
        while not handle.info().done > number:
            worker = Worker(app, OPTIONS)
            task = await begun(worker)
            await asyncio.sleep(dice.uniform(0.3, 1.0))
            task.cancel()  # nothing is drained
            await asyncio.gather(task, return_exceptions=True)
            if handle.info().done > number // 2:
                break
        async with serving(app):
            assert await handle.aresult(60) == number * (number - 1)
    assert joins == [number]
    books(handle)
    clean(app)


@pytest.mark.parametrize(
    "damage",
    [
        {"state": "x", "todo": "0 1"},
        {"state": "failing", "todo": "0 1"},
        {"maps": "0:0:99999999999999 1:1:4", "next:0": "-1e308", "out:0": "-inf", "todo": "0 1"},
        {"maps": "1:0:9", "cause": "\u00b2", "last": "\u00b2 3"},
        {"maps": "0:0:5", "cause": "3"},
        {"maps": "9" * 5000 + ":1:1", "static": "9" * 5000, "cause": "9" * 5000},
    ],
)
async def test_a_damaged_record_holds_nobody_up(app: StreamQ, url: str, damage: dict[str, str]) -> None:
    """Neither a worker nor a daemon goes round in it; another flow goes on."""
    handle, good = Diamond(app).wf.start(), app.flow("good")
    good.add(app.task(name="fine")(_fine).bind())
    s = shard_keys(app.name, 0)
    command(url, "HSET", s.flow(local(handle.id)), *(word for pair in damage.items() for word in pair))
    command(url, "ZADD", s.inbox, 1, f"{local(handle.id)} look")
    command(url, "ZADD", s.flows, 1, local(handle.id))
    async with serving(app):
        assert await (await good.astart()).aresult(20) == 7
    assert good.name in {one.name for one in app.flows.all()}
    app.flows.cancel(handle.id) if app.flow_handle(handle.id).status() == "running" else None
    app.inspector.audit()


async def _fine() -> int:
    return 7


def test_a_key_of_another_kind_costs_its_flow_only(app: StreamQ, url: str) -> None:
    first, second = Diamond(app).wf.start(key="one"), app.flow("good")
    second.add(app.task(name="fine")(_fine).bind())
    other, s = second.start(), shard_keys(app.name, 0)
    key = s.flow(local(first.id))
    command(url, "SET", key, "x")
    assert [one.id for one in app.flows.all()] == [other.id]
    assert app.flows.faults == (f"flow {local(first.id)} cannot be read: {key} holds a string, not a hash",)
    with pytest.raises(ServerError, match="holds a string, not a hash"):
        app.flows.get(first.id)
    command(url, "HSET", s.flow(local(other.id)), "waiting", 9)
    found = {one.code for one in app.inspector.audit().problems}
    assert found >= {"wrong_kind", "flow_books_off"}

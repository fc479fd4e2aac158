"""Every operation of the public API, called and awaited: on one server and on a cluster, with the same answer
and the same queue afterwards."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson
import pytest

from streamq import (
    Admin,
    AsyncAdmin,
    AsyncFlows,
    AsyncInspector,
    AsyncSchedules,
    DeadSelection,
    Every,
    FlowHandle,
    Flows,
    Inspector,
    Schedules,
    StreamQ,
    TaskFilter,
    TaskHandle,
    TaskType,
    Unique,
)
from streamq.calls import worker as worker_calls
from tests.conformance.prepared import KEY, SHARD, SHARDS, WORKER, Prepared, shape
from tests.running import wait_until

Want = Callable[[Any], object]


class Case(NamedTuple):
    """An operation: on what, which, with which arguments, and what is true of its answer. `of`: the part of
    an answer that must be the same both ways."""

    on: str
    name: str
    args: Callable[[Prepared], tuple[Any, ...]]
    want: Want
    options: dict[str, Any]
    of: Want = lambda answer: answer


def case(
    path: str,
    *args: Any,
    want: Want,
    about: Callable[[Prepared], tuple[Any, ...]] | None = None,
    of: Want = lambda answer: answer,
    **options: Any,
) -> Any:
    on, _, name = path.rpartition(".")
    made = Case(on, name, about or (lambda _: args), want, options, of)
    said = " ".join([path, *map(str, args), *(f"{a}={b}" for a, b in options.items())])
    return pytest.param(made, id=said[:60])


def same(expected: Any) -> Want:
    return lambda answer: answer == expected


def raises(name: str, words: str = "") -> Want:
    return lambda answer: type(answer).__name__ == name and words in str(answer)


def refused_for_aof(answer: Any) -> bool:
    return type(answer).__name__ in ("ServerError", "ServerTooOld") and "durability='aof'" in str(answer)


ids: Callable[..., Any] = lambda *states: lambda p: ([p.id(state) for state in states],)  # noqa: E731
one: Callable[[str], Any] = lambda state: lambda p: (p.id(state),)  # noqa: E731
ALL: Final = DeadSelection("email")
SPAN: Final = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, 3, tzinfo=UTC)
STATES: Final = ("ready", "running", "scheduled", "completed", "dead", "cancelled", "expired")

CASES: Final = [
    # -- producers
    case("app.connect", want=same(None)),
    case("app.send", "email", {"n": 1}, shard_key=KEY, want=lambda handle: handle.id),
    case("app.send", "email", {"m": 1}, want=raises("InvalidArguments")),
    case("app.send", "email", {"n": 1}, shard_key=KEY, durability="aof", want=refused_for_aof),
    case("app.enqueue_many", about=lambda p: ([p.keyed.bind(n) for n in range(700)],), want=lambda r: r[699]),
    case(
        "app.enqueue_many",
        about=lambda p: ([p.email.options(idempotency_key="x").bind(1)] * 2,),
        want=lambda found: [handle.duplicate for handle in found] == [False, True],
        of=lambda found: [handle.duplicate for handle in found],
    ),
    case(
        "app.enqueue_many",
        about=lambda p: ([p.email.options(unique="k").bind(n) for n in range(3)],),
        want=lambda found: [handle.duplicate for handle in found] == [False, True, True],
        of=lambda found: [handle.duplicate for handle in found],
    ),
    case("app.send", "email", {"n": 1}, unique=Unique(by=("n",)), want=lambda handle: handle.id,
         of=lambda handle: handle.duplicate),
    case("app.enqueue_many", [1], want=raises("InvalidArguments")),
    case("app.idle", want=same(False)),
    case("app.idle", "nothing", want=raises("UnknownTaskType")),
    case("app.wait_idle", 0.05, want=same(False)),
    case("task.enqueue", 1, want=lambda handle: handle.id),
    case("task.enqueue", "a", "b", want=raises("InvalidArguments")),
    # -- handles
    *(case(f"{state}.status", want=same(state))
      for state in ("completed", "dead", "running", "ready", "scheduled", "unknown")),
    case("completed.result", 5, want=same(7)),
    case("dead.result", 5, want=raises("TaskDead", "ValueError: no such address")),
    case("ready.result", 0.05, want=raises("ResultTimeout"), of=lambda error: type(error).__name__),
    case("unknown.result", 5, want=raises("ResultUnavailable")),
    case("ready.cancel", want=same("cancelled")),
    case("running.cancel", want=same("requested")),
    case("completed.cancel", want=same("too late")),
    case("unknown.cancel", want=same("unknown")),
    case("ready.signal", "yes", 1, want=same("stored")),
    case("dead.signal", "yes", want=same("too late")),
    case("unknown.signal", "yes", want=same("unknown")),
    case("ready.signal", "", want=raises("InvalidOption")),
    # -- questions
    case("inspector.shards", want=same(SHARDS)),
    case("inspector.each", want=lambda found: list(found) == [0, 1]),
    case("inspector.types", want=same(["email"])),
    case("inspector.glance", want=same((["email"], 0))),
    case("inspector.stats", want=lambda found: [(one.type, one.dead) for one in found] == [("email", 3)]),
    case("inspector.stats", ["email", "none"], want=lambda found: [o.dead for o in found] == [3, 0]),
    case("inspector.type_stats", "email", want=lambda found: (found.running, found.scheduled) == (1, 1)),
    case("inspector.counts", "email", SHARD, want=lambda found: found.counters["accepted"] == 8),
    case("inspector.policy", "email", want=lambda found: found["handler"].endswith(":_email")),
    case("inspector.paused", want=same({})),
    case("inspector.rollups", "email", want=lambda found: len(found) == 60, of=len),
    case("inspector.rollups", "email", "day", want=lambda found: len(found) == 96, of=len),
    *(case("inspector.task", about=one(state), want=lambda info: info.payload is not None)
      for state in ("ready", "running", "scheduled", "dead")),
    case("inspector.task", about=one("completed"), want=lambda info: info.result == b"7"),
    case("inspector.task", "nonsense", want=raises("InvalidTaskId")),
    *(case("inspector.tasks", state, "email", want=lambda page: not page.faults,
           of=lambda page: page.rows) for state in STATES),
    case("inspector.tasks", "dead", limit=1, want=lambda page: page.cursor and len(page.rows) == 1,
         of=lambda page: page.rows),
    case("inspector.tasks", "dead", filter=TaskFilter(error="address"), want=lambda page: len(page.rows) == 3,
         of=lambda page: page.rows),
    case("inspector.tasks", "ready", limit=0, want=raises("UsageError")),
    case("inspector.lanes", "email", want=same([])),
    case("inspector.standstill", [], want=lambda found: not found.told()),
    case("inspector.dead_groups", want=lambda found: [group.count for group in found.groups] == [3]),
    case("inspector.count_dead", ALL, want=same(3)),
    case("inspector.count_dead", DeadSelection("email", error="ValueError"), want=same(3)),
    case("inspector.workers", want=lambda found: [(w.name, w.alive) for w in found] == [(WORKER, True)]),
    case("inspector.locks", "email", want=same([])),
    case("inspector.lock", "email", "a key by its text", want=same(None)),
    case("inspector.daemons", want=same([])),
    case("inspector.daemons_alive", want=same(0)),
    case("inspector.actions", want=same([])),
    case("inspector.server", want=lambda info: "used_memory" in info, of=lambda info: "used_memory" in info),
    case("inspector.key_use", want=lambda found: {one.key for one in found} == {""}),
    case("inspector.progress", ["email:0:n1-1"], want=same({})),
    case("inspector.now_ms", want=lambda ms: ms > 10**12),
    case("inspector.audit", want=lambda audit: audit.problems == [] and audit.checked > 5),
    # -- acts
    case("admin.pause", "email", "the relay is down", want=same(True)),
    case("admin.pause", "none", want=raises("UnknownTaskType")),
    case("admin.resume", "email", want=same(False)),
    case("admin.forget", "email", want=raises("UsageError", "serves it")),
    case("admin.forget", "none", want=raises("UnknownTaskType")),
    case("admin.drain", WORKER, want=same(SHARD == 0), of=lambda _: None),
    case("admin.drain", "nobody", want=same(False)),
    case("admin.dismiss", WORKER, want=raises("UsageError", "is alive")),
    case("admin.dismiss", "nobody", want=same(False)),
    case("admin.reseal", ["email"], want=raises("UsageError", "key ring")),
    case("admin.cancel", about=one("scheduled"), want=same("cancelled")),
    case("admin.cancel", about=one("dead"), want=same("too late")),
    case("admin.signal", about=lambda p: (p.id("scheduled"), "yes", 1), want=same("stored")),
    case("admin.signal", about=lambda p: (p.id("completed"), "yes"), want=same("too late")),
    case("admin.run_now", about=one("scheduled"), want=same(True)),
    case("admin.run_now", about=one("ready"), want=same(False)),
    case("admin.unlock", "email", "0" * 32, want=lambda answer: answer == ("free", "")),
    case("admin.unlock", "none", "0" * 32, want=raises("UnknownTaskType")),
    case("admin.unlock", "email", "a key's text", force=True, want=lambda answer: answer == ("free", "")),
    case("admin.limit", "email", lane="acme", running=2, want=raises("InvalidOption", "has no lanes")),
    case("admin.limit", "none", running=2, want=raises("UnknownTaskType")),
    case("admin.limit", "email", burst=2, want=raises("InvalidOption")),
    case("admin.pause_lane", "email", "acme", want=raises("InvalidOption", "has no lanes")),
    case("admin.resume_lane", "email", "acme", want=same(None)),
    case("admin.purge_lane", "email", "acme", want=same(0)),
    case("admin.repair", dry_run=True, want=lambda audit: audit.problems == []),
    case("admin.repair", want=lambda audit: audit.repaired == []),
    case("admin.requeue", about=ids("dead", "again"), want=same(2)),
    case("admin.requeue", about=one("ready"), want=same(0)),
    case("admin.requeue_type", "email", want=same(3)),
    case("admin.requeue_type", "none", want=raises("UnknownTaskType")),
    case("admin.requeue_selected", DeadSelection("email", fingerprint="aaa"), want=same(3)),
    case("admin.requeue_in_steps", ALL, want=lambda moved: sum(moved) == 3),
    case("admin.requeue_in_steps", DeadSelection("none"), want=raises("UnknownTaskType")),
    case("admin.purge", about=ids("purged"), want=same(1)),
    case("admin.purge_type", "email", want=same(3)),
    case("admin.purge_selected", DeadSelection("email", error="nothing"), want=same(0)),
    case("admin.purge_in_steps", ALL, action="0123456789abcdef", want=lambda moved: sum(moved) == 3),
    case("admin.purge_in_steps", ALL, action="nonsense", want=raises("UsageError")),
    case("admin.resubmit", about=lambda p: (p.id("dead"), b'{"n":9}'), want=lambda new: new[:6] == "email:"),
    case("admin.resubmit", about=lambda p: (p.id("ready"), b'{"n":9}'), want=same(None)),
    case("admin.resubmit", about=lambda p: (p.id("dead"), b"[]"), want=raises("PayloadError")),
    # -- schedules
    case("schedules.all", want=lambda listed: [one.name for one in listed] == ["nightly"]),
    case("schedules.get", "nightly", want=lambda info: info.standing == "active", of=lambda info: info.name),
    case("schedules.get", "ghost", want=raises("UnknownSchedule", "it has: nightly")),
    case(
        "schedules.put",
        about=lambda p: ("new", Every("1h"), p.email.bind(1)),
        want=lambda info: info.standing == "active",
        of=lambda info: info.name,
    ),
    case("schedules.put", about=lambda p: ("new", "1h", p.email.bind(1)), want=raises("InvalidOption")),
    case("schedules.pause", "nightly", "why", want=same(True)),
    case("schedules.resume", "nightly", want=same(False)),
    case("schedules.remove", "nightly", want=same(True)),
    case("schedules.remove", "ghost", want=same(False)),
    case("schedules.run_now", "nightly", want=lambda task: task.startswith("email:")),
    case("schedules.backfill", "nightly", *SPAN, want=same(3)),
    case("schedules.sync", want=same(0)),
    # -- flows
    case("flows.all", want=lambda listed: [one.name for one in listed] == ["import"]),
    case("flows.get", about=lambda p: (p.flow.id,), want=lambda view: view.path == ["first", "then"]),
    case("flows.get", "import:0:1764547200000-402938475610", want=raises("UnknownFlow")),
    case("flows.get", "nonsense", want=raises("UnknownFlow")),
    case("flows.cancel", about=lambda p: (p.flow.id,), want=same(True)),
    case("flows.retry", about=lambda p: (p.flow.id,), want=same(False)),
    case("flows.signal", about=lambda p: (p.flow.id, "go", 1), want=raises("UsageError")),
    case("flows.left_behind", want=same({})),
    case("flows.pulse", want=lambda found: len(found) > 0, of=len),
    case("flows.page", want=lambda page: ([one.name for one in page.flows], page.total) == (["import"], 1)),
    case("flows.page", cursor="nonsense", want=raises("UsageError")),
    case("flows.troubled", want=same(([], []))),
    case("flows.part", about=lambda p: (p.flow.id,), of=lambda part: part.declared,
         want=lambda part: [one.name for one in part.nodes] == ["first", "then"]),
    case("flows.children", about=lambda p: (p.flow.id, 0), want=same(([], -1))),
    case("flows.node_of", about=lambda p: (p.app.inspector.task(p.id("ready")),), want=same(None)),
    case("flow.status", want=same("running")),
    case("flow.info", want=lambda info: (info.nodes, info.released, info.waiting) == (2, 1, 1)),
    case("flow.nodes", want=lambda nodes: [one.state for one in nodes] == ["released", "waiting"]),
    case("flow.result", 0.05, want=raises("ResultTimeout"), of=lambda error: type(error).__name__),
    case("flow.results", "first", want=raises("UsageError")),
    case("flow.cancel", want=same(True)),
    case("flow.signal", "go", want=raises("UsageError")),
    case("flow.retry", want=same(False)),
]  # fmt: skip
AWAITED: Final = {"wait_idle": "await_idle"}
FACES: Final = ("inspector", "admin", "schedules", "flows")
"""What has an awaited twin of its own, `app.a…`."""


@pytest.mark.parametrize("made", CASES)
def test_it_is_the_same_called_and_awaited(server_url: str, made: Case) -> None:
    called, awaited = Prepared("called", server_url), Prepared("awaited", server_url)
    try:
        if made.on in ("flow", "flows"):
            called.start_flow()
            awaited.start_flow()
        plain = _called(called, made)
        other = asyncio.run(_awaited(awaited, made))
        for answer in (plain, other):
            assert made.want(answer), f"{answer!r}"
        assert shape(made.of(plain), called.name) == shape(made.of(other), awaited.name)
        assert _afterwards(called) == _afterwards(awaited)
    finally:
        called.app.close()
        awaited.app.close()


def _called(p: Prepared, made: Case) -> Any:
    on: Any = {
        "app": p.app, "task": p.keyed, "inspector": p.app.inspector, "admin": p.app.admin,
        "schedules": p.app.schedules, "flows": p.app.flows, "flow": p.flow, **p.handles,
    }  # fmt: skip
    try:
        answer = getattr(on[made.on], made.name)(*made.args(p), **made.options)
        return list(answer) if isinstance(answer, Iterator) else answer
    except Exception as error:
        return error


async def _awaited(p: Prepared, made: Case) -> Any:
    faces: Any = {name: getattr(p.app, f"a{name}") for name in FACES}
    on: Any = {"app": p.app, "task": p.keyed, "flow": p.flow, **p.handles} | faces
    name = made.name if made.on in faces else AWAITED.get(made.name, f"a{made.name}")
    try:
        answer = getattr(on[made.on], name)(*made.args(p), **made.options)
        return await answer if inspect.isawaitable(answer) else [part async for part in answer]
    except Exception as error:
        return error
    finally:
        await p.app.aclose()


def _afterwards(p: Prepared) -> Any:
    inspector = p.app.inspector
    schedules = [(one.name, one.standing, one.runs) for one in p.app.schedules.all()]
    found = (inspector.stats(), inspector.paused(), inspector.actions(), inspector.audit(), schedules)
    return shape(found, p.name)


# -- nothing is left out -------------------------------------------------------------------------------------

ASKS_NOBODY: Final = {
    StreamQ: {
        "task",
        "bound",
        "handle",
        "inspector",
        "ainspector",
        "admin",
        "aadmin",
        "schedules",
        "aschedules",
        "name",
        "around_attempt",
        "find",
        "include",
        "around_enqueue",
        "lifespan",
        "on",
        "overrides",
        "run_worker",
        "flow",
        "flow_handle",
        "flows",
        "aflows",
    },
    TaskType: {"name", "handler", "options", "bind", "upcast", "upcast_memo", "upcast_result"},
    TaskHandle: {"id", "duplicate", "events"},
    Inspector: {"app", "faults", "partial", "transport", "within", "without_keys"},
    Admin: {"app", "transport", "acting_for"},
    Schedules: {"app", "faults", "transport", "acting_for"},
    Flows: {"app", "faults", "transport", "acting_for", "without_keys"},
    FlowHandle: {"id", "duplicate"},
}
"""Public members that ask no server, so nobody has to wait for them."""
APART: Final = {"close", "tail"}
"""Operations that have a test of their own."""


def _public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def _awaited_one(member: object) -> bool:
    return inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)


@pytest.mark.parametrize("cls", [StreamQ, TaskType, TaskHandle, FlowHandle])
def test_every_operation_has_a_twin_that_is_awaited(cls: type) -> None:
    twins = {name for name in _public(cls) if _awaited_one(getattr(cls, name))}
    plain = _public(cls) - twins - ASKS_NOBODY[cls]
    assert {AWAITED.get(name, f"a{name}") for name in plain} == twins
    for name in plain:
        ours, other = getattr(cls, name), getattr(cls, AWAITED.get(name, f"a{name}"))
        assert inspect.signature(ours).parameters == inspect.signature(other).parameters
        assert inspect.isasyncgenfunction(other) or inspect.signature(ours) == inspect.signature(other)


@pytest.mark.parametrize(
    ("plain", "awaited"),
    [
        (Inspector, AsyncInspector),
        (Admin, AsyncAdmin),
        (Schedules, AsyncSchedules),
        (Flows, AsyncFlows),
    ],
)
def test_every_question_and_act_has_a_twin_that_is_awaited(plain: type, awaited: type) -> None:
    assert _public(plain) == _public(awaited)
    for name in _public(plain) - ASKS_NOBODY[plain] - APART:
        ours, other = getattr(plain, name), getattr(awaited, name)
        assert inspect.iscoroutinefunction(other) or "AsyncIterator" in str(inspect.signature(other))
        assert inspect.signature(ours).parameters == inspect.signature(other).parameters
        assert ours.__doc__ == other.__doc__


def test_every_operation_is_tried_here() -> None:
    tried = {(case.values[0].on, case.values[0].name) for case in CASES}
    handles = {name for on, name in tried if on not in (*FACES, "app", "task", "flow")}
    for on, cls in {
        "app": StreamQ,
        "task": TaskType,
        "inspector": Inspector,
        "admin": Admin,
        "schedules": Schedules,
        "flows": Flows,
        "flow": FlowHandle,
    }.items():
        twins = {name for name in _public(cls) if _awaited_one(getattr(cls, name))}
        wanted = _public(cls) - twins - ASKS_NOBODY[cls] - APART
        assert {name for where, name in tried if where == on} == wanted
    assert handles == {"status", "result", "cancel", "signal"}


# -- what happens, as it happens -----------------------------------------------------------------------------


def test_a_tail_is_heard_by_both(server_url: str) -> None:
    p = Prepared("shop", server_url)
    event = {"event": "started", "id": p.id("ready"), "attempt": 1, "at_ms": 1_700_000_000_000}
    said = orjson.dumps({"worker": WORKER, "events": [event], "left_out": 0, "database": 0})
    with p.app.inspector.tail() as events:
        p.transport.run(worker_calls.publish(p.events, said))
        wait_until(lambda: [one.id for one in events.next(1)] == [p.id("ready")])
    asyncio.run(_heard(p, said))
    p.app.close()


async def _heard(p: Prepared, said: bytes) -> None:
    async with p.app.ainspector.tail() as events:
        await asyncio.to_thread(p.transport.run, worker_calls.publish(p.events, said))
        async for one in events:
            assert one.id == p.id("ready")
            break
    await p.app.aclose()

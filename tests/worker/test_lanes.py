"""Lanes with real workers and daemons: no more at once than may, no faster, in turns, in order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
import structlog

from streamq import (
    InvalidOption,
    Lane,
    RateLimited,
    Retry,
    StreamQ,
    Unique,
    UsageError,
    WorkerOptions,
    get_context,
)
from streamq.client import flows
from streamq.control import lane_homes
from streamq.daemon.loop import Faults
from streamq.daemon.windower import Windower
from streamq.flow import drive
from streamq.keys import type_keys
from tests.running import OPTIONS, clean, serving, tending, until, working

WIDE = WorkerOptions(concurrency=40, drain_timeout=5, block=0.5, heartbeat=0.2)


class Gauge:
    """How many run at once, of each lane and in all."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.done = 0

    async def run(self, lane: str, seconds: float = 0.005) -> None:
        for name in (lane, "all"):
            self.now[name] += 1
            self.most[name] = max(self.most[name], self.now[name])
        await asyncio.sleep(seconds)
        self.now.subtract((lane, "all"))
        self.done += 1


async def test_no_more_of_a_lane_and_of_the_type_run_than_may(app: StreamQ) -> None:
    gauge = Gauge()

    @app.task(lane=Lane("customer_id", running=2), running=5)
    async def email(customer_id: int) -> None:
        await gauge.run(str(customer_id))

    async with serving(app, WIDE):
        await app.aenqueue_many([email.bind(n % 6) for n in range(120)])
        await until(lambda: gauge.done == 120)
    assert gauge.most["all"] <= 5
    assert max(gauge.most[str(n)] for n in range(6)) <= 2
    clean(app)


async def test_a_rate_spreads_starts(app: StreamQ) -> None:
    starts: list[float] = []

    @app.task(start_rate="50/s")
    async def email() -> None:
        starts.append(time.monotonic())

    async with serving(app):
        await app.aenqueue_many([email.bind() for _ in range(20)])
        await until(lambda: len(starts) == 20)
    assert starts[-1] - starts[0] >= 19 / 50 - 0.02
    clean(app)


async def test_a_lane_admits_without_a_daemon_when_one_ends(app: StreamQ) -> None:
    gauge = Gauge()

    @app.task(lane=Lane("of", running=1))
    async def email(of: str) -> None:
        await gauge.run(of)

    async with working(app):
        await app.aenqueue_many([email.bind("a") for _ in range(30)])
        await until(lambda: gauge.done >= 30)
    assert gauge.most["a"] == 1


async def test_an_ordered_lane_keeps_its_order_through_retries(app: StreamQ) -> None:
    seen: dict[str, list[int]] = {}
    fences: dict[str, list[int]] = {}
    tries: Counter[tuple[str, int]] = Counter()

    @app.task(lane=Lane("order_id", order=True))
    async def step(order_id: str, n: int) -> None:
        tries[order_id, n] += 1
        fences.setdefault(order_id, []).append(get_context().fence)
        if n == 1 and tries[order_id, n] < 4:
            raise Retry(after=0.03)
        seen.setdefault(order_id, []).append(n)

    async with serving(app):
        await app.aenqueue_many([step.bind(order, n) for n in range(5) for order in ("a", "b", "c")])
        await until(lambda: sum(map(len, seen.values())) == 15)
    assert seen == {order: [0, 1, 2, 3, 4] for order in "abc"}
    assert all(found == sorted(set(found)) for found in fences.values())
    clean(app)


async def test_rate_limited_holds_the_lane_and_counts_no_attempt(app: StreamQ) -> None:
    started: list[tuple[str, float]] = []
    attempts: list[int] = []

    @app.task(lane=Lane("api", running=1), max_attempts=1)
    async def call(api: str) -> None:
        started.append((api, time.monotonic()))
        attempts.append(get_context().attempt)
        if len(started) == 1:
            raise RateLimited(after=0.3)

    async with serving(app):
        first = await call.aenqueue("x")
        await until(lambda: len(started) == 1)
        for api in "xy":
            await call.aenqueue(api)
        await until(lambda: len(started) == 4)
    assert [api for api, _ in started] == ["x", "y", "x", "x"]
    assert started[2][1] - started[0][1] >= 0.29
    assert attempts == [1] * 4
    assert app.inspector.task(first.id).attempts_failed == 0
    clean(app)


async def test_rate_limited_without_lanes_delays_the_task_alone(app: StreamQ) -> None:
    attempts: list[int] = []

    @app.task(max_attempts=1)
    async def call() -> int:
        attempts.append(get_context().attempt)
        if len(attempts) == 1:
            raise RateLimited(after="50ms")
        return len(attempts)

    async with serving(app):
        handle = await call.aenqueue()
        assert await handle.aresult(timeout=20) == 2
    assert attempts == [1, 1]
    clean(app)


async def test_a_task_sent_by_name_is_in_the_lane_that_its_argument_names(app: StreamQ, url: str) -> None:
    @app.task(lane=Lane("customer_id", running=1))
    async def email(customer_id: int, text: str = "") -> None: ...

    await email.aenqueue(7)
    other = StreamQ("shop", url)
    for _ in range(2):
        await other.asend("email", {"customer_id": 7, "text": "hello"})
    other.send("email", {"customer_id": 7})
    other.send("email", {"customer_id": 8}, durability="master")
    [lane] = app.inspector.lanes("email")
    assert (lane.lane, lane.parked, lane.held, lane.why) == ("7", 3, 1, "limit")
    assert app.inspector.type_stats("email").ready == 2


async def test_a_call_names_its_lane_and_its_cost(app: StreamQ) -> None:
    @app.task(lane=Lane(rate="1/1h", burst=4))
    async def email() -> None: ...

    handles = [email.options(lane="acme", cost=cost).enqueue() for cost in (3, 2, 1)]
    assert [app.inspector.task(one.id).state for one in handles] == ["ready", "parked", "parked"]
    assert app.inspector.task(handles[1].id).detail["why"] == "rate"
    assert app.inspector.task(handles[2].id).detail["why"] == "rate"


async def test_lanes_take_turns_by_weight(app: StreamQ) -> None:
    started: list[str] = []

    @app.task(lane=Lane("tenant", fair=True))
    async def work(tenant: str) -> None:
        started.append(tenant)

    work.enqueue("warm")
    app.admin.limit("work", lane="a", weight=3)
    calls = [work.bind("a") for _ in range(900)] + [work.bind("b") for _ in range(500)]
    app.enqueue_many(calls)
    async with serving(app, OPTIONS):
        await until(lambda: len(started) == 1401)
    both = started[64:1064]
    assert both.count("a") / both.count("b") == pytest.approx(3, rel=0.05)
    clean(app)


@pytest.mark.long  # a comparison of rates, which other load on the machine decides
async def test_a_tenant_that_is_alone_gets_as_much_as_without_lanes(app: StreamQ) -> None:
    """Handlers of a few ms, so that waiting for the server is no more than it is for a plain type."""
    ended: Counter[str] = Counter()

    @app.task(lane=Lane("tenant", fair=True))
    async def fair(tenant: str) -> None:
        await asyncio.sleep(0.005)
        ended["fair"] += 1

    @app.task
    async def plain(tenant: str) -> None:
        await asyncio.sleep(0.005)
        ended["plain"] += 1

    async def rate(task: Any, name: str) -> float:
        app.enqueue_many([task.bind("a") for _ in range(300)])
        began, want = time.monotonic(), ended[name] + 300
        await until(lambda: ended[name] == want)
        return 300 / (time.monotonic() - began)

    async with serving(app, OPTIONS):
        await rate(fair, "fair")  # the daemon learns how much the workers need
        pairs = [(await rate(plain, "plain"), await rate(fair, "fair")) for _ in range(2)]
        while max(of_fair for _, of_fair in pairs) < 0.9 * max(of_plain for of_plain, _ in pairs):
            assert len(pairs) < 10, pairs  # other load on the machine
            pairs.append((await rate(plain, "plain"), await rate(fair, "fair")))
    clean(app)


async def test_a_newcomer_waits_for_a_window_and_not_for_the_backlog(app: StreamQ) -> None:
    started: list[str] = []

    @app.task(lane=Lane("tenant", fair=True))
    async def work(tenant: str) -> None:
        started.append(tenant)

    app.enqueue_many([work.bind("a") for _ in range(1_000)])
    work.enqueue("b")
    async with serving(app, OPTIONS):
        await until(lambda: "b" in started)
    assert started.index("b") <= 140


async def test_the_daemon_keeps_the_window_of_a_fair_type(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[None] = []
    look = Windower.round

    async def counted(windower: Windower, faults: Faults) -> None:
        await look(windower, faults)
        rounds.append(None)

    monkeypatch.setattr(Windower, "round", counted)

    @app.task(lane=Lane("tenant", fair=True))
    async def work(tenant: str) -> None:
        await asyncio.sleep(0.05)

    def window() -> int:
        return int(app.inspector.policy("work").get("window", 0))

    async with serving(app, OPTIONS):
        app.enqueue_many([work.bind(f"tenant {n % 9}") for n in range(300)])
        await until(lambda: 11 <= window() < 64)  # ten slots, and what completes in a tenth of a second
        await until(lambda: app.inspector.type_stats("work").counters["completed"] == 300)
        seen = len(rounds)
        await until(lambda: len(rounds) > seen + 1)  # one may have begun before
        kept = window()
        await until(lambda: len(rounds) > seen + 4)
        assert window() == kept > 11  # nobody works now: that says nothing about how fast the workers are
    clean(app)


async def test_limits_change_on_a_live_queue(app: StreamQ) -> None:
    gauge = Gauge()

    @app.task(lane=Lane("of", running=1))
    async def email(of: str) -> None:
        await gauge.run(of, 0.02)

    app.enqueue_many([email.bind("a") for _ in range(400)])
    app.admin.pause_lane("email", "a")
    async with serving(app):
        await until(lambda: gauge.done == 1)
        assert app.inspector.lanes("email")[0].limits == "0;;;"
        app.admin.resume_lane("email", "a")
        await until(lambda: gauge.done >= 5)
        app.admin.limit("email", lane="a", running=4)
        await until(lambda: gauge.done >= 30)
        assert app.admin.purge_lane("email", "a") > 0
        await until(lambda: app.inspector.type_stats("email").running == 0)
    assert 2 <= gauge.most["a"] <= 4
    clean(app)


async def test_removing_a_limit_lets_all_go_in_bounded_steps(app: StreamQ) -> None:
    @app.task(lane=Lane("of", running=1))
    async def email(of: int) -> None: ...

    app.enqueue_many([email.bind(n % 7) for n in range(700)])
    assert app.inspector.type_stats("email").parked == 693
    app.admin.limit("email", lane=None, running=None)
    plain = StreamQ("shop", str(app.address))

    @plain.task(name="email", lane=Lane("of"))
    async def later(of: int) -> None: ...

    later.enqueue(1)
    async with tending(app):
        await until(lambda: app.inspector.type_stats("email").parked == 0)
    assert app.inspector.type_stats("email").ready == 701
    clean(app)


async def test_a_daemon_counts_anew_what_was_deleted_behind_our_back(app: StreamQ) -> None:
    gauge = Gauge()

    @app.task(lane=Lane("of", running=1))
    async def email(of: str) -> None:
        await gauge.run(of)

    first = email.enqueue("a")
    app.enqueue_many([email.bind("a") for _ in range(3)])
    keys = type_keys("shop", 0, "email")
    transport = app.inspector.transport
    from streamq.calls.call import Call

    transport.run(Call(None, (), ("XDEL", keys.normal, first.id.rpartition(":")[2][1:]), lambda r: r))
    wrong = app.inspector.audit().problems
    assert "slots_differ" in {one.code for one in wrong}
    app.admin.repair(write_off=True)
    async with serving(app):
        await until(lambda: gauge.done == 3)
    clean(app)


def test_lanes_that_are_where_enqueue_puts_them_are_not_said_to_have_strayed(url: str) -> None:
    """Also of a type whose unique keys say nothing of the lane: all its tasks are in one shard."""
    app = StreamQ("shop", url, shards=5)

    @app.task(lane=Lane("customer", running=1), unique=Unique(by=("order",)))
    async def ship(customer: str, order: int) -> None: ...

    app.enqueue_many([ship.bind(f"customer {n}", n) for n in range(20)])
    assert drive(app.inspector.transport, lane_homes.strayed("shop", "ship", 5, 5)) == []


async def test_a_worker_warns_of_lanes_whose_older_tasks_are_in_another_shard(url: str) -> None:
    """The type has a limit, so all of it is in one shard: with 40 instead of one, in another."""
    for shards, warned in ((1, False), (40, True), (40, False)):
        app = StreamQ("shop", url, shards=shards)

        @app.task(running=1)
        async def email(of: str) -> None: ...

        with structlog.testing.capture_logs() as lines:
            async with working(app):
                if warned:
                    await until(lambda app=app: app.inspector.type_stats("email").counters["completed"] == 1)  # type: ignore[misc]
        found = [line for line in lines if line["event"] == "lanes.strayed"]
        assert [(line["type"], line["shards"]) for line in found] == ([("email", [0])] if warned else [])
        assert all("order does not hold" in line["consequence"] and line["fix"] for line in found)
        if not warned and shards == 1:
            email.enqueue("a")
        app.close()


BAD: list[tuple[dict[str, object], str]] = [
    ({"lane": "customer_id"}, r"lane='customer_id': write it as lane=Lane"),
    ({"running": -1}, r"running=-1: must be a whole number of at least 0"),
    ({"start_rate": "fast"}, r"start_rate='fast': write a rate as '5/s' or '100/1m'"),
    (
        {"start_rate": "5/s", "lane": Lane("nobody")},
        r"Lane\('nobody'\) names no argument of task type 'email': it has customer_id",
    ),
    ({"lane": Lane("customer_id", order=True), "priority": "high"}, r"priority='high' and Lane\(order"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "says"), BAD, ids=[says[:20] for _, says in BAD])
async def test_what_a_type_cannot_have(app: StreamQ, options: dict[str, object], says: str) -> None:
    def email(customer_id: int) -> None: ...

    with pytest.raises(InvalidOption, match=says):
        app.task(**options)(email)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"running": -1}, "Lane: running=-1: must be a whole number of at least 0"),
        ({"rate": "5"}, "Lane: rate='5': write a rate"), ({"rate": "0/s"}, "write a rate"),
        ({"rate": "5/never"}, "write a rate"), ({"burst": 3}, "burst needs a rate"),
        ({"rate": "5/s", "burst": 0}, "burst=0: must be a whole number of at least 1"),
        ({"weight": 0}, "weight=0: must be a number of at least 0.001"),
        ({"weight": True}, "weight=True"), ({"order": True, "running": 2}, "running=2 and order=True"),
        ({"weight": 2}, "weight needs fair=True"), ({"on_dead": "halt"}, "on_dead='halt' needs order=True"),
        ({"order": True, "on_dead": "stop"}, "on_dead='stop'"),
    ],
)  # fmt: skip
def test_what_a_lane_cannot_be(options: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidOption, match=says):
        Lane("customer_id", **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="name an argument of the handler"):
        Lane("customer id")


async def test_what_a_call_cannot_say(app: StreamQ) -> None:
    @app.task(lane=Lane("customer_id", rate="5/s", burst=2))
    async def email(customer_id: str) -> None: ...

    @app.task(lane=Lane("order_id", order=True))
    async def step(order_id: int) -> None: ...

    @app.task
    async def plain() -> None: ...

    with pytest.raises(
        InvalidOption, match="argument customer_id of email='xx.*at most 200 bytes .* has 201"
    ):
        email.enqueue("x" * 201)
    with pytest.raises(InvalidOption, match="a lane's name has at most 200 bytes and no zero byte"):
        email.options(lane="a\0b")
    with pytest.raises(InvalidOption, match="cost=3: no task of 'email' can cost more than its lane's burst"):
        email.options(cost=3).enqueue("x")
    with pytest.raises(InvalidOption, match="cost=0: must be a whole number of at least 1"):
        email.options(cost=0)
    with pytest.raises(InvalidOption, match="priority='high': the lanes of 'step' are ordered"):
        step.options(priority="high").enqueue(1)
    with pytest.raises(InvalidOption, match="task type 'plain' has no lanes: declare them"):
        plain.options(lane="a").enqueue()
    with pytest.raises(InvalidOption, match="lane and shard_key exclude each other"):
        email.options(lane="a", shard_key="b")


async def test_a_type_with_waiting_tasks_does_not_become_ordered(app: StreamQ, url: str) -> None:
    @app.task
    async def step(order_id: int) -> None: ...

    step.enqueue(1)
    other = StreamQ("shop", url)

    @other.task(name="step", lane=Lane("order_id", order=True))
    async def ordered(order_id: int) -> None: ...

    with pytest.raises(InvalidOption, match="'step' cannot become ordered: 1 of its tasks wait"):
        ordered.enqueue(1)


async def test_an_ordered_parked_task_cannot_be_brought_forward(app: StreamQ) -> None:
    @app.task(lane=Lane("order_id", order=True))
    async def step(order_id: int) -> None: ...

    step.enqueue(1)
    second = step.enqueue(1)
    assert app.inspector.task(second.id).detail["why"] == "order"
    with pytest.raises(UsageError, match="no task overtakes another"):
        app.admin.run_now(second.id)
    page = app.inspector.tasks("parked", "step")
    assert [row.id for row in page.rows] == [second.id]


async def test_a_lane_has_one_shard(url: str) -> None:
    app = StreamQ("shop", url, shards=4)

    @app.task(lane=Lane("customer_id", running=1))
    async def email(customer_id: str) -> None: ...

    @app.task(running=2)
    async def whole() -> None: ...

    handles = [email.enqueue("acme") for _ in range(6)]
    assert len({one.id.split(":")[1] for one in handles}) == 1
    assert app.inspector.type_stats("email").parked == 5
    assert len({whole.enqueue().id.split(":")[1] for _ in range(6)}) == 1
    assert app.inspector.type_stats("whole").parked == 4
    with pytest.raises(InvalidOption, match="idempotency_key and a lane exclude each other"):
        email.options(idempotency_key="order-7").enqueue("acme")


async def test_a_call_by_name_goes_to_the_home_of_its_lane_or_type(url: str) -> None:
    app, other = StreamQ("shop", url, shards=4), StreamQ("shop", url, shards=4)

    @app.task(lane=Lane("customer_id", running=1))
    async def email(customer_id: str) -> None: ...

    @app.task(lane=Lane("customer_id"), running=2)
    async def whole(customer_id: str) -> None: ...

    @app.task(running=2)
    async def alone() -> None: ...

    for shard in range(4):  # as a worker does
        for task in (email, whole, alone):
            app._client.drive(flows.register(app.registry, task.name, shard))
    homes = {
        task.name: task.enqueue(*args).id.split(":")[1]
        for task, args in ((email, ("acme",)), (whole, ("acme",)), (alone, ()))
    }
    told = {"customer_id": "acme"}
    for _ in range(5):
        assert other.send("email", told).id.split(":")[1] == homes["email"]
        assert other.send("email", told, lane="acme").id.split(":")[1] == homes["email"]
        assert (await other.asend("whole", told)).id.split(":")[1] == homes["whole"]
        assert other.send("whole", told, lane="acme").id.split(":")[1] == homes["whole"]
        assert other.send("whole", {"customer_id": "other"}, lane="other").id.split(":")[1] == homes["whole"]
        assert other.send("alone", {}).id.split(":")[1] == homes["alone"]
    assert app.inspector.type_stats("email").parked == 10
    assert app.inspector.type_stats("whole").parked == 14
    assert app.inspector.type_stats("alone").parked == 4

"""Lanes, one call at a time: given -> call -> want. How they work together is in test_lane_fuzz."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from streamq.calls import audit as audit_calls
from streamq.calls import daemon as daemon_calls
from streamq.calls import lanes as lane_calls
from streamq.calls import listing as listing_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls import worker as worker_calls
from streamq.calls.producer import NeedsLane
from streamq.errors import InvalidOption, ServerError, UsageError
from streamq.keys import GROUP
from streamq.model.delivery import Delivery
from streamq.model.effect import Hold
from streamq.model.outcome import Completed, Died, HandedBack, Outcome, Retried, Settlement
from streamq.model.reply import Note
from streamq.model.task import Accepted, BacklogFull, NewTask, TaskId
from streamq.transport.sync_transport import SyncTransport
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard
from tests.lua.test_lane_fuzz import PROFILES, Fuzz, bounded
from tests.variant import changed, own_clock

UNTIL = 2 * 10**12


def policy(rules: Rules, **more: str) -> dict[str, str]:
    return {"gate": rules.gate(), "lane": "customer", "max_backlog": "1000000000000000", **more}


def laned(transport: SyncTransport, rules: Rules, **more: str) -> Shard:
    return Shard(transport, policy(rules, **more))


def put(shard: Shard, lane: str = "a", *, cost: int = 1, delay_ms: int | None = None, **fields: str) -> str:
    joins = json.dumps({"lane": lane, "cost": cost})
    new = NewTask(b"{}", "normal", delay_ms, fields=tuple(fields.items()), joins=joins)
    [answer] = shard.enqueue(new)
    assert isinstance(answer, Accepted)
    return answer.local


def settle(shard: Shard, held: list[Delivery], outcome: Outcome, *effects: Hold) -> list[bool]:
    items = [Settlement(one.place, one.local, outcome, rich=True, effects=effects) for one in held]
    return shard.run(worker_calls.settle(shard.t, shard.s, "settler", shard.sequence(), items))


def plainly(shard: Shard, held: list[Delivery], outcome: Outcome) -> None:
    """Settle as a worker of a release that does not know lanes."""
    items = [Settlement(one.place, one.local, outcome) for one in held]
    settled = shard.run(worker_calls.settle(shard.t, shard.s, "older", shard.sequence(), items))
    assert settled == [True] * len(held)


def why(shard: Shard, local: str) -> str:
    located = shard.locate(local)
    return located.detail["why"] if located.state == "parked" else located.state


def held(shard: Shard, lane: str) -> int:
    _, [row] = shard.run(lane_calls.listed(shard.t, "", 1, lane))
    return row.held


def test_a_task_is_ready_while_its_lane_has_a_slot_and_parked_else(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=2))
    ids = [put(shard) for _ in range(3)]
    assert [why(shard, one) for one in ids] == ["ready", "ready", "limit"]
    assert why(shard, put(shard, "b")) == "ready"
    assert shard.snapshot().counters == {"accepted": 4}


def test_the_next_is_admitted_in_the_step_that_ends_one(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    first, second = put(shard), put(shard)
    assert settle(shard, shard.fetch(), Completed()) == [True]
    assert [shard.state(first), why(shard, second)] == ["unknown", "ready"]


def test_a_limit_of_the_type_and_one_of_the_lane_hold_together(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(running=3, lane_running=2))
    for lane in "aaabbb":
        put(shard, lane)
    assert (held(shard, "a"), held(shard, "b")) == (2, 1)
    settle(shard, shard.fetch(budget=1), Completed())
    assert held(shard, "a") + held(shard, "b") == 3


def test_tasks_of_no_lane_have_no_limit_but_that_of_the_type(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(running=3, lane_running=1))
    ids = [put(shard, "") for _ in range(4)]
    assert [why(shard, one) for one in ids] == ["ready"] * 3 + ["limit"]


def test_a_rate_lets_a_burst_go_and_then_one_at_a_time(transport: SyncTransport) -> None:
    with changed(own_clock):
        fuzz = Fuzz(transport, Rules(lane_interval=100_000, lane_burst=2), 1)
        shard = fuzz.shard
        ids = [put(shard) for _ in range(4)]
        assert [why(shard, one) for one in ids] == ["ready", "ready", "rate", "rate"]
        next_due = shard.run(daemon_calls.promote(shard.t, 10, rich=True)).next_due_ms
        assert next_due == fuzz.now // 1000 + 101  # rounded up: never before its time
        fuzz.now = next_due * 1000
        shard.command("DEL", "clock")
        shard.command("RPUSH", "clock", fuzz.now // 10**6, fuzz.now % 10**6)
        shard.run(daemon_calls.promote(shard.t, 10, rich=True))
        assert [why(shard, one) for one in ids[2:]] == ["ready", "rate"]


def test_a_dear_task_takes_as_many_tokens(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_interval=60_000_000, lane_burst=3))
    assert [why(shard, put(shard, cost=cost)) for cost in (2, 2)] == ["ready", "rate"]
    # One that costs more than the burst is charged the burst: else it would never go.
    assert why(shard, put(shard, "b", cost=99)) == "ready"


def test_a_scheduled_task_asks_its_lane_when_it_is_due(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    late, first = put(shard, delay_ms=1), put(shard)
    while shard.run(daemon_calls.promote(shard.t, 10, rich=True)).moved == 0:
        pass
    assert [why(shard, first), why(shard, late)] == ["ready", "limit"]


def test_a_retried_task_gives_its_slot_back_while_it_waits(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    first, second = put(shard), put(shard)
    settle(shard, shard.fetch(), Retried(60_000, b"[]"))
    assert [shard.state(first), why(shard, second), held(shard, "a")] == ["scheduled", "ready", 1]


def test_a_retry_at_once_passes_the_gate_again(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_interval=60_000_000))
    first = put(shard)
    settle(shard, shard.fetch(), Retried(0, b"[]"))
    assert why(shard, first) == "rate"


def test_an_ordered_lane_waits_for_a_retry(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(order=True))
    first, second = put(shard), put(shard)
    settle(shard, shard.fetch(), Retried(60_000, b"[]"))
    assert [why(shard, first), why(shard, second), held(shard, "a")] == ["rate", "order", 0]
    assert why(shard, put(shard, "b")) == "ready"


def test_rate_limited_holds_the_whole_lane_and_counts_no_attempt(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=2))
    first, second, third = put(shard), put(shard), put(shard)
    running = shard.fetch()
    assert settle(shard, running[:1], HandedBack(started=True), Hold(60_000)) == [True]
    assert [why(shard, one) for one in (first, second, third)] == ["rate", "running", "rate"]
    assert "a" not in _fields(shard, first)
    assert shard.run(lane_calls.open_lane(shard.t, "a"))
    assert [why(shard, first), why(shard, third)] == ["ready", "limit"]
    assert not shard.run(lane_calls.open_lane(shard.t, "a"))


def _fields(shard: Shard, local: str) -> set[str]:
    return {name.decode() for name in shard.locate(local).fields[::2]}


def test_a_handed_back_task_keeps_its_slot(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    first, second = put(shard), put(shard)
    settle(shard, shard.fetch(), HandedBack())
    assert [why(shard, first), why(shard, second), held(shard, "a")] == ["ready", "limit", 1]


def test_what_a_worker_of_an_older_release_hands_back_late_keeps_its_slot(transport: SyncTransport) -> None:
    """It knows no lanes, and settles plainly."""
    shard = laned(transport, Rules(lane_running=1))
    first, second = put(shard), put(shard)
    plainly(shard, shard.fetch(), HandedBack(delay_ms=1, times=1))
    while shard.run(daemon_calls.promote(shard.t, 10, rich=True)).moved == 0:
        pass
    assert [why(shard, first), why(shard, second), held(shard, "a")] == ["ready", "limit", 1]
    assert shard.recount() == {}


def test_what_a_worker_hands_back_late_gives_its_slot_back_and_asks_again(transport: SyncTransport) -> None:
    """It knows lanes, and lacks something else that the task needs."""
    shard = laned(transport, Rules(lane_running=1))
    first, second = put(shard), put(shard)
    assert shard.settle(shard.fetch(), HandedBack(delay_ms=1, times=1)) == [True]
    assert [shard.state(first), why(shard, second), held(shard, "a")] == ["scheduled", "ready", 1]
    while shard.run(daemon_calls.promote(shard.t, 10, rich=True)).moved == 0:
        pass
    assert [why(shard, first), held(shard, "a")] == ["limit", 1]
    assert settle(shard, shard.fetch(), Completed()) == [True]
    assert [why(shard, first), held(shard, "a")] == ["ready", 1]


def test_a_lost_delivery_keeps_its_slot_and_a_dead_one_gives_it_back(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1), max_lost="1")
    first, second = put(shard), put(shard)
    [delivery] = shard.fetch()
    shard.age(delivery, 600_000)
    assert shard.reclaim().dead == 1
    assert [shard.state(first), why(shard, second), held(shard, "a")] == ["dead", "ready", 1]


@pytest.mark.parametrize("when", ["parked", "ready", "scheduled"])
def test_cancelling_gives_back_what_there_is(transport: SyncTransport, when: str) -> None:
    shard = laned(transport, Rules(lane_running=1))
    later = put(shard, delay_ms=60_000)
    first, second, third = put(shard), put(shard), put(shard)
    local = {"parked": second, "ready": first, "scheduled": later}[when]
    assert shard.run(producer_calls.cancel(shard.t, shard.s, TaskId("email", 0, local))) == "cancelled"
    assert (shard.state(local), held(shard, "a")) == ("cancelled", 1)
    assert why(shard, second if when == "ready" else first) == "ready"
    assert why(shard, third) == "limit"
    assert shard.snapshot().counters["cancelled"] == 1


def test_a_parked_task_expires_without_a_worker(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    put(shard)
    local, last = put(shard, x="0"), put(shard)
    assert shard.run(daemon_calls.expire(shard.t, 10)) == (1, 1)
    assert [shard.state(local), why(shard, last)] == ["expired", "limit"]
    assert shard.snapshot().counters["expired"] == 1


def test_run_now_brings_a_parked_task_to_the_front_and_force_past_the_gate(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    _, second, third, fourth = (put(shard) for _ in range(4))
    assert shard.run(operator_calls.run_now(shard.t, fourth))
    assert shard.run(operator_calls.run_now(shard.t, third, force=True))
    assert [why(shard, one) for one in (second, third, fourth)] == ["limit", "ready", "limit"]
    assert held(shard, "a") == 2
    settle(shard, shard.fetch(), Completed())
    assert [why(shard, one) for one in (second, fourth)] == ["limit", "ready"]


def test_run_now_is_refused_in_an_ordered_lane(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(order=True))
    put(shard)
    second = put(shard)
    with pytest.raises(UsageError, match="waits in an ordered lane, where no task overtakes another"):
        shard.run(operator_calls.run_now(shard.t, second))


def test_force_makes_a_scheduled_task_ready_past_a_full_lane(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    later = put(shard, delay_ms=60_000)
    put(shard)
    assert shard.run(operator_calls.run_now(shard.t, later, force=True))
    assert (why(shard, later), held(shard, "a")) == ("ready", 2)


@pytest.mark.parametrize("how", ["requeue", "purge", "resubmit", "resume"])
def test_a_halted_lane_opens_with_its_letter(transport: SyncTransport, how: str) -> None:
    shard = laned(transport, Rules(order=True, halt=True))
    first, second, third = put(shard), put(shard), put(shard)
    settle(shard, shard.fetch(), Died("attempts", b"[]"))
    assert [why(shard, one) for one in (first, second, third)] == ["dead", "order", "order"]
    if how == "requeue":
        shard.run(operator_calls.requeue(shard.t, 10, UNTIL, [first]))
        assert [why(shard, one) for one in (first, second)] == ["ready", "order"]
    elif how == "purge":
        shard.run(operator_calls.purge(shard.t, 10, UNTIL))
        assert [why(shard, one) for one in (second, third)] == ["ready", "order"]
    elif how == "resubmit":
        new = shard.run(operator_calls.resubmit(shard.t, first, b'{"a":1}', Note("action", b"{}")))
        assert [why(shard, one) for one in (new, second)] == ["ready", "order"]
    else:
        assert shard.run(lane_calls.open_lane(shard.t, "a"))
        assert why(shard, second) == "ready"
    shard.snapshot()


def test_without_halt_a_dead_letter_lets_the_next_go(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(order=True))
    _, second = put(shard), put(shard)
    settle(shard, shard.fetch(), Died("attempts", b"[]"))
    assert why(shard, second) == "ready"


def test_the_fence_of_an_ordered_lane_only_grows(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(order=True))
    put(shard)
    fences: list[int] = []
    for outcome in (HandedBack(), Retried(0, b"[]"), HandedBack()):
        [entry] = shard.fetch_raw()
        fields = dict(zip(entry.fields[::2], entry.fields[1::2], strict=True))  # type: ignore[index]
        fences.append(int(fields[b"g"]))
        item = Settlement(entry.place, fields.get(b"i", entry.place.encode()).decode(), outcome, rich=True)
        shard.run(worker_calls.settle(shard.t, shard.s, "settler", shard.sequence(), [item]))
    assert fences == sorted(set(fences))


def test_what_repair_appends_anew_has_a_new_fence(transport: SyncTransport) -> None:
    """Its consumer was deleted, and may run it still."""
    shard = laned(transport, Rules(order=True))
    put(shard)
    fences: list[int] = []
    for _ in range(3):
        [entry] = shard.fetch_raw()
        fields = dict(zip(entry.fields[::2], entry.fields[1::2], strict=True))  # type: ignore[index]
        fences.append(int(fields[b"g"]))
        shard.command("XACK", shard.t.normal, GROUP, entry.place[1:])
        assert shard.run(daemon_calls.repair(shard.t, "n", "-", 100)) == ("", 1)
    assert fences == sorted(set(fences))


def test_a_limit_holds_at_once_and_stops_nobody(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=3))
    ids = [put(shard) for _ in range(5)]
    assert shard.run(lane_calls.limit(shard.t, "a", "1;;;")) == ""
    running = shard.fetch()
    settle(shard, running[:2], Completed())
    assert [why(shard, one) for one in ids[3:]] == ["limit", "limit"]
    assert shard.run(lane_calls.limit(shard.t, "a", "0")) == "1;;;"
    settle(shard, running[2:], Completed())
    assert why(shard, ids[3]) == "limit"
    shard.run(lane_calls.limit(shard.t, "a", ""))
    assert [why(shard, one) for one in ids[3:]] == ["ready", "ready"]
    assert shard.run(lane_calls.rules(shard.t)) == {}


def test_a_changed_policy_is_brought_to_all_lanes_by_the_daemon(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    ids = [put(shard, lane) for lane in "abc" for _ in range(2)]
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", policy(Rules(lane_running=2))))
    [due], [rich] = shard.run(daemon_calls.next_promotion([shard.t]))
    assert due is not None
    assert (due <= 0, rich) == (True, daemon_calls.Lanes.THERE)
    shard.run(daemon_calls.promote(shard.t, 10, rich=True))
    assert [why(shard, one) for one in ids] == ["ready"] * 6
    assert shard.run(daemon_calls.next_promotion([shard.t])) == ([None], [daemon_calls.Lanes.THERE])


def test_a_type_without_lanes_any_more_lets_all_go(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    ids = [put(shard) for _ in range(3)]
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", {}))
    shard.run(daemon_calls.promote(shard.t, 10, rich=True))
    assert [why(shard, one) for one in ids] == ["ready"] * 3
    assert settle(shard, shard.fetch(), Completed()) == [True] * 3
    assert shard.command("EXISTS", shard.t.slots, shard.t.lanes, shard.t.turns) == 0


def test_a_task_without_a_lane_is_refused_with_the_argument_that_names_it(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    with pytest.raises(NeedsLane) as needs:
        shard.put()
    assert needs.value.argument == "customer"
    with pytest.raises(NeedsLane):
        shard.enqueue(NewTask(b"{}"), NewTask(b"{}", joins='{"lane": "a"}'))
    assert shard.snapshot().counters == {}


def test_parked_tasks_count_for_the_backlog(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1), max_backlog="2")
    put(shard)
    put(shard)
    assert shard.enqueue(NewTask(b"{}", joins='{"lane": "a"}')) == [BacklogFull()]


@pytest.mark.parametrize(
    "joins",
    [{"lane": "x" * 201}, {"lane": "a\0b"}, {"lane": 3}, {"lane": "a", "cost": 0}, {"lane": "a", "cost": 1.5},
     {"cost": 1}, {"lane": "a", "cost": "1"}, {"lane": "a", "cost": 10**7}],
)  # fmt: skip
def test_what_names_no_lane_is_refused_before_anything_is_written(
    transport: SyncTransport, joins: dict[str, Any]
) -> None:
    shard = laned(transport, Rules(lane_running=1))
    with pytest.raises(ServerError, match="MALFORMED task 2; nothing was written"):
        shard.enqueue(NewTask(b"{}", joins='{"lane": "a"}'), NewTask(b"{}", joins=json.dumps(joins)))
    assert shard.snapshot().counters == {}


@pytest.mark.parametrize("effects", ["{", "3", '{"hold":-1}', '{"hold":"1"}', '{"later":1}'])
def test_effects_that_cannot_be_are_refused_before_anything_is_written(
    transport: SyncTransport, effects: str
) -> None:
    shard = laned(transport, Rules(lane_running=1))
    put(shard)
    [delivery] = shard.fetch()
    item = Settlement(delivery.place, delivery.local, HandedBack(started=True), rich=True)
    call = worker_calls.settle(shard.t, shard.s, "settler", 1, [item])
    args = tuple(f"B{effects}" if part == "B" else part for part in call.args)
    with pytest.raises(ServerError, match="MALFORMED effects of a settlement: .*; nothing was written"):
        shard.run(call._replace(args=args))
    assert shard.running() == 1


def test_a_plain_type_becomes_ordered_only_when_it_is_empty(transport: SyncTransport) -> None:
    shard = Shard(transport)
    shard.put()
    ordered = policy(Rules(order=True))
    register = producer_calls.register(shard.t, shard.s, "tests:email", ordered)
    with pytest.raises(InvalidOption, match="'email' cannot become ordered: 1 of its tasks wait"):
        shard.run(register)
    assert "gate" not in shard.run(question_calls.policy(shard.t))
    shard.settle(shard.fetch())
    shard.run(register)
    assert shard.run(question_calls.policy(shard.t))["gate"] == ordered["gate"]


def test_a_damaged_row_costs_itself(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    first, second = put(shard), put(shard)
    for row in (b"a\0garbage", b"a\x002000000000000001n1;;\xc1", b"a\x001x"):
        shard.command("ZADD", shard.t.lanes, 0, row)
    settle(shard, shard.fetch(), Completed())
    assert why(shard, second) == "ready"
    counts = shard.run(question_calls.counts(shard.t))
    assert (counts.dead, counts.parked, counts.counters["dead"]) == (3, 0, 3)
    assert shard.state(first) == "unknown"


def test_a_damaged_row_keeps_no_list_from_being_shown(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    put(shard)
    second = put(shard)
    shard.command("ZADD", shard.t.lanes, 0, b"a\0garbage")
    assert why(shard, second) in ("limit", "rate")
    _, rows = shard.run(lane_calls.listed(shard.t, "", 10))
    assert [row.lane for row in rows] == ["a"]


def test_an_entry_that_was_deleted_behind_our_back_is_counted_out(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    put(shard)
    second = put(shard)
    [delivery] = shard.fetch()
    shard.age(delivery, 600_000)
    shard.command("XDEL", shard.t.normal, delivery.place[1:])
    assert shard.reclaim().dead == 1
    assert daemon_calls.Lanes.UNCOUNTED in shard.run(daemon_calls.next_promotion([shard.t]))[1][0]
    assert shard.recount() == {"a": (1, 0)}
    assert why(shard, second) == "ready"
    assert shard.recount() == {}


@pytest.mark.parametrize("outcome", [Completed(), Retried(0, b"[]"), Died("attempts", b"[]")])
def test_a_settlement_whose_entry_was_deleted_asks_for_a_recount(
    transport: SyncTransport, outcome: Outcome
) -> None:
    shard = laned(transport, Rules(lane_running=1))
    put(shard)
    second = put(shard)
    [delivery] = shard.fetch()
    shard.command("XDEL", shard.t.normal, delivery.place[1:])
    assert settle(shard, [delivery], outcome) == [True]
    assert daemon_calls.Lanes.UNCOUNTED in shard.run(daemon_calls.next_promotion([shard.t]))[1][0]
    assert shard.recount() == {"a": (1, 0)}
    assert why(shard, second) == "ready"


def test_a_lane_is_purged_of_what_is_parked(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    first, *rest = [put(shard) for _ in range(4)]
    other = put(shard, "ab"), put(shard, "ab")
    assert shard.run(lane_calls.purge_lane(shard.t, "a", 2)) == 2
    assert shard.run(lane_calls.purge_lane(shard.t, "a", 2)) == 1
    assert [shard.state(one) for one in rest] == ["cancelled"] * 3
    assert [shard.state(first), why(shard, other[1])] == ["ready", "limit"]
    assert shard.snapshot().counters["cancelled"] == 3


def test_lanes_are_listed_in_pages(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1, lane_weight=2))
    for lane in ("a", "ab", "c"):
        put(shard, lane)
        put(shard, lane)
    after, rows = shard.run(lane_calls.listed(shard.t, "", 2))
    assert [(row.lane, row.parked, row.held, row.running, row.why, row.weight) for row in rows] == [
        ("a", 1, 1, 1, "limit", 2), ("ab", 1, 1, 1, "limit", 2),
    ]  # fmt: skip
    after, rows = shard.run(lane_calls.listed(shard.t, after, 2))
    assert ([row.lane for row in rows], after) == (["c"], "")


def pages(shard: Shard, limit: int, between: Callable[[], object] = lambda: None) -> tuple[list[str], str]:
    """All parked tasks, page by page, and all that was said of where to go on."""
    found, said, after = list[str](), "", ""
    while True:
        page = shard.run(listing_calls.page_lanes(shard.t, after, limit))
        found += [row.local for row in page.rows]
        after, said = page.cursor, said + page.cursor
        if not after:
            return found, said
        between()


def test_where_a_list_of_parked_tasks_goes_on_is_told_without_the_name_of_a_lane(
    transport: SyncTransport,
) -> None:
    shard = laned(transport, Rules(lane_running=1))
    ids = [put(shard, lane) for lane in ("secret", "other", "zebra") for _ in range(4)]
    parked = [one for one in ids if shard.state(one) == "parked"]
    for limit in (1, 2, 4, 100):
        found, said = pages(shard, limit)
        assert (sorted(found), len(found)) == (sorted(parked), 9)
        assert not [lane for lane in ("secret", "other", "zebra") if lane in said]


def test_a_list_of_parked_tasks_goes_on_behind_one_that_is_no_longer_parked(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    for _ in range(6):
        put(shard)
    found, _ = pages(shard, 1, lambda: settle(shard, shard.fetch(), Completed()))
    assert len(found) == len(set(found)) == 5


def test_the_audit_finds_what_is_wrong_with_parked_tasks(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    _, second, third = put(shard), put(shard), put(shard)
    assert shard.run(audit_calls.audit_lanes(shard.t, "", 100)).problems == ()
    shard.command("HSET", shard.t.index, second, "n1-1")
    shard.command("HSET", shard.t.letters, third, "x")
    shard.command("ZADD", shard.t.lanes, 0, b"a\0garbage")
    found = shard.run(audit_calls.audit_lanes(shard.t, "", 100))
    assert set(found.problems) == {
        ("misplaced", "k22 a"), ("alive_and_dead", third), ("unreadable_row", "a\0garbage"),
    }  # fmt: skip


@pytest.mark.parametrize("steps", [2, 3])
@pytest.mark.parametrize("profile", ["limits", "fair with everything", "rates", "order, halt and rate"])
def test_what_a_bounded_call_leaves_the_next_one_goes_on_with(
    transport: SyncTransport, profile: str, steps: int
) -> None:
    """Against the invariants alone: the twin knows no bound."""
    with changed(own_clock, bounded(steps)):
        fuzz = Fuzz(transport, Rules(**vars(PROFILES[profile])), 5)
        shard = fuzz.shard
        for n in range(60):
            put(shard, f"lane {n % 7}")
        done = 0
        for _ in range(2_000):
            batch = shard.fetch(budget=50)
            done += sum(settle(shard, batch, Completed())) if batch else 0
            if done == 60:
                break
            told = shard.run(daemon_calls.promote(shard.t, 100, rich=True))
            goes_on = batch or told.next_due_ms is not None or shard.snapshot().ready
            assert goes_on, "somebody waits, and nobody will look"
            if not batch and told.next_due_ms is not None:
                fuzz.now = max(fuzz.now, told.next_due_ms * 1000)
                shard.command("DEL", "clock")
                shard.command("RPUSH", "clock", fuzz.now // 10**6, fuzz.now % 10**6)
        assert done == 60
        assert shard.command("EXISTS", shard.t.lanes, shard.t.turns) == 0


def test_what_waits_behind_tasks_without_a_claim_is_looked_at_again(transport: SyncTransport) -> None:
    """Their end is settled by the plain script, which admits nobody."""
    shard = laned(transport, Rules(running=1))
    shard.command("XADD", shard.t.normal, "*", "p", "{}")
    waits = put(shard)
    assert why(shard, waits) == "limit"
    [left], _ = shard.run(daemon_calls.next_promotion([shard.t]))
    assert left is not None
    assert left <= 1000
    assert shard.run(daemon_calls.promote(shard.t, 10, rich=True)).next_due_ms is not None
    shard.settle(shard.fetch(), Completed())
    assert shard.state(waits) == "parked"
    shard.run(daemon_calls.promote(shard.t, 10, rich=True))
    assert shard.state(waits) == "ready"


def test_a_type_without_lanes_has_no_limits_to_set(shard: Shard) -> None:
    assert shard.run(lane_calls.limit(shard.t, "a", "2;;;")) is None
    assert shard.command("EXISTS", shard.t.limits) == 0


def test_a_limit_lowered_from_50_to_5_starts_nobody_until_4_are_left(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=50))
    tasks = [put(shard) for _ in range(52)]
    at_work = shard.fetch()
    assert len(at_work) == 50
    shard.run(lane_calls.limit(shard.t, "a", "5;;;"))
    for n, one in enumerate(at_work):
        waiting = [why(shard, task) for task in tasks[50:]]
        assert waiting == ["limit"] * 2 if n <= 45 else ["ready", "limit"] if n == 46 else ["ready"] * 2, n
        assert settle(shard, [one], Completed()) == [True]


def test_an_ordered_lane_whose_first_fails_and_is_lost_keeps_no_other_lane_waiting(
    transport: SyncTransport,
) -> None:
    shard = Shard(transport, policy(Rules(order=True)))
    first, second = put(shard), put(shard)
    for n in range(4):
        [delivery] = shard.fetch()
        assert (delivery.local, why(shard, second)) == (first, "order"), n
        settle(shard, [delivery], Retried(0, b""))
    others = [put(shard, f"order {n}") for n in range(1000)]
    [delivery, *_] = [one for one in shard.fetch(budget=2000) if one.local == first]
    assert {why(shard, one) for one in others} <= {"ready", "running"}
    shard.age(delivery, 600_000)
    shard.reclaim_all()
    assert [shard.state(first), why(shard, second)] == ["ready", "order"]
    while not any(
        one.local == first and settle(shard, [one], Completed()) for one in shard.fetch(budget=2000)
    ):
        pass
    assert why(shard, second) == "ready"

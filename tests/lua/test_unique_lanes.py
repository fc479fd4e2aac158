"""Lanes and unique keys on one task type: each end gives back both the slot and the lock."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from streamq import locks
from streamq.calls import audit as audit_calls
from streamq.calls import daemon as daemon_calls
from streamq.calls import lanes as lane_calls
from streamq.calls import listing as listing_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls.audit import Fault
from streamq.model.outcome import Completed, Died, HandedBack, Outcome, Retried
from streamq.model.task import Accepted, Answer, Duplicate, IdempotencyKey, Locked, NewTask, TaskId
from streamq.options.unique_plan import Plan
from streamq.transport.sync_transport import SyncTransport
from tests.lua import test_unique
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard
from tests.lua.test_lanes import policy, why

HOUR = 3_600_000
MORE = {"rich": "1"}


def in_lane(task: NewTask, lane: str = "a", cost: int = 1) -> NewTask:
    """The same task with a lane."""
    told: dict[str, object] = json.loads(task.joins or "{}")
    return task if "lane" in told else task._replace(joins=json.dumps({**told, "lane": lane, "cost": cost}))


def stored(shard: Shard, local: str) -> dict[bytes, bytes]:
    """The fields of a task."""
    raw = shard.locate(local).fields
    return dict(zip(raw[::2], raw[1::2], strict=True))


class Laned(Shard):
    """A shard whose type has lanes, and where every task has one."""

    def enqueue(self, *tasks: NewTask, writer: str = "w", sequence: int | None = None) -> list[Answer]:
        return super().enqueue(*map(in_lane, tasks), writer=writer, sequence=sequence)

    def promote(self, limit: int = 100) -> Any:
        return self.run(daemon_calls.promote(self.t, limit, rich=True))


def both(transport: SyncTransport, rules: Rules) -> Laned:
    return Laned(transport, policy(rules, **MORE))


@pytest.fixture
def shard(transport: SyncTransport) -> Laned:
    """Limits that let all go."""
    return both(transport, Rules(running=1000, lane_running=500))


@pytest.fixture
def full(transport: SyncTransport) -> Laned:
    """A lane with one slot, which a task without a lock has taken."""
    shard = both(transport, Rules(lane_running=1))
    shard.put()
    return shard


# -- what holds of a type without lanes -----------------------------------------------------------------

NOT_HERE = {
    "test_who_does_not_know_that_a_type_asks_for_more_is_told",  # it is told the lane
    "test_a_lock_comes_before_the_limits_and_a_refused_task_takes_none",  # it gives the type another policy
    "test_a_lock_whose_task_is_nowhere_is_taken_over",  # it deletes an entry with its slot
}
SHARED: dict[str, Callable[[Shard], None]] = {
    name: test
    for name, test in vars(test_unique).items()
    if name.startswith("test_")
    and name not in NOT_HERE
    and test.__code__.co_varnames[: test.__code__.co_argcount] == ("shard",)
}


@pytest.mark.parametrize("test", SHARED)
def test_what_holds_of_a_type_without_lanes(shard: Laned, test: str) -> None:
    SHARED[test](shard)
    _no_slot_is_lost(shard)


@pytest.mark.parametrize("end", test_unique.ENDS, ids=lambda one: one.__name__)
def test_every_end_gives_back_the_slot_and_the_lock(shard: Laned, end: Callable[[Shard], None]) -> None:
    test_unique.test_every_end_releases_the_lock(shard, end)
    _no_slot_is_lost(shard)


@pytest.mark.parametrize("end", test_unique.ENDS, ids=lambda one: one.__name__)
def test_every_end_has_the_task_that_follows_ask_its_lane(shard: Laned, end: Callable[[Shard], None]) -> None:
    test_unique.put(shard)
    follows = test_unique.put(shard, b'"second"', conflict="after")
    end(shard)
    assert (test_unique.holder(shard), test_unique.sizes(shard)) == (follows, (1, 0))
    shard.promote()  # where a script has no gate, the task is due and asks then
    delivery = test_unique.only(shard)
    assert (delivery.local, delivery.payload) == (follows, b'"second"')
    _no_slot_is_lost(shard)
    shard.settle([delivery])
    assert test_unique.sizes(shard) == (0, 0)
    _no_slot_is_lost(shard)


def _no_slot_is_lost(shard: Shard) -> None:
    """What another program deleted is counted anew, as the daemon does."""
    if shard.command("HGET", shard.t.policy, "recount"):
        shard.recount()
    assert shard.recount() == {}


# -- a task that is parked ------------------------------------------------------------------------------


def put(shard: Shard, payload: bytes = b"{}", **more: Any) -> str:
    return test_unique.put(shard, payload, **more)


def call(shard: Shard, payload: bytes = b"{}", **more: Any) -> Any:
    return test_unique.call(shard, payload, **more)


def laned_call(shard: Shard, payload: bytes, lane: str, cost: int = 1, **more: Any) -> Any:
    [answer] = shard.enqueue(in_lane(test_unique.new(payload, **more), lane, cost))
    return answer


def test_a_parked_task_holds_its_lock(full: Laned) -> None:
    first = put(full)
    assert why(full, first) == "limit"
    assert (call(full), call(full, conflict="raise")) == (Duplicate(first), Locked(first))
    _, rows = full.run(listing_calls.page_locks(full.t, "0", 10))
    assert [row[1:4] for row in rows] == [(first, "parked", "")]
    full.settle(full.fetch())
    assert (why(full, first), test_unique.holder(full)) == ("ready", first)


def test_a_parked_task_has_not_started(full: Laned) -> None:
    first = put(full, free="started")
    assert call(full, free="started") == Duplicate(first)
    full.settle(full.fetch())
    [running] = full.fetch()
    second = put(full, free="started")
    assert (running.local, why(full, second), test_unique.holder(full)) == (first, "limit", second)


def cancelling(shard: Shard, local: str) -> None:
    assert shard.run(producer_calls.cancel(shard.t, shard.s, TaskId("email", 0, local))) == "cancelled"


def expiring(shard: Shard, local: str) -> None:
    assert shard.run(daemon_calls.expire(shard.t, 10)) == (1, 1)


def purging(shard: Shard, local: str) -> None:
    assert shard.run(lane_calls.purge_lane(shard.t, "a", 1)) == 1


@pytest.mark.parametrize("end", [cancelling, expiring, purging], ids=lambda one: one.__name__)
def test_a_parked_task_that_ends_releases_its_lock_and_the_next_one_waits(
    full: Laned, end: Callable[[Shard, str], None]
) -> None:
    first = put(full, fields=(("x", "0"),))
    follows = put(full, b"2", conflict="after")
    end(full, first)
    assert (test_unique.holder(full), why(full, follows)) == (follows, "limit")
    full.settle(full.fetch())
    assert test_unique.only(full).local == follows
    _no_slot_is_lost(full)


def test_replace_gives_a_parked_task_the_new_arguments_at_its_place(full: Laned) -> None:
    first, behind = put(full, b"1"), full.put()
    assert call(full, b"2", conflict="replace") == Duplicate(first)
    assert [why(full, one) for one in (first, behind)] == ["limit", "limit"]
    full.settle(full.fetch())
    [delivery] = full.fetch()
    assert (delivery.local, delivery.payload) == (first, b"2")
    full.settle([delivery])
    assert full.fetch()[0].local == behind
    _no_slot_is_lost(full)


def test_replace_with_another_priority_moves_it_within_its_lane(full: Laned) -> None:
    behind, first = full.put(), put(full, b"1")
    assert call(full, b"2", priority="high", conflict="replace") == Duplicate(first)
    full.settle(full.fetch())
    assert full.fetch()[0].local == first
    assert why(full, behind) == "limit"


def test_replace_by_a_call_of_another_lane_has_it_ask_there(full: Laned) -> None:
    first = put(full, b"1")
    assert laned_call(full, b"2", "b", cost=3, conflict="replace") == Duplicate(first)
    assert why(full, first) == "ready"
    assert stored(full, first)[b"w"] == b"3"
    assert laned_call(full, b"3", "a", conflict="replace") == Duplicate(
        first
    )  # and back: it gives that slot up
    assert why(full, first) == "limit"
    _no_slot_is_lost(full)
    full.settle(full.fetch())
    assert [one.payload for one in full.fetch()] == [b"3"]
    _no_slot_is_lost(full)


def test_replace_of_a_ready_task_keeps_its_slot_and_takes_no_token(transport: SyncTransport) -> None:
    shard = both(transport, Rules(lane_running=1, lane_interval=3_600_000_000))
    first = put(shard, b"1")
    assert call(shard, b"2", conflict="replace") == Duplicate(first)
    assert (why(shard, first), stored(shard, first)[b"p"]) == ("ready", b"2")
    _no_slot_is_lost(shard)


def test_reschedule_takes_a_parked_task_out_of_its_lane_and_lets_the_next_go(full: Laned) -> None:
    first, behind = put(full, b"1"), full.put()
    assert call(full, due=HOUR, conflict="reschedule") == Duplicate(first)
    assert (full.state(first), why(full, behind)) == ("scheduled", "limit")
    full.settle(full.fetch())
    assert full.fetch()[0].local == behind
    assert call(full, conflict="reschedule") == Duplicate(first)
    assert why(full, first) == "limit"
    _no_slot_is_lost(full)


def test_reschedule_of_a_ready_task_lets_the_next_go(transport: SyncTransport) -> None:
    shard = both(transport, Rules(lane_running=1))
    first, behind = put(shard, b"1"), shard.put()
    assert call(shard, due=HOUR, conflict="reschedule") == Duplicate(first)
    assert (shard.state(first), why(shard, behind)) == ("scheduled", "ready")
    _no_slot_is_lost(shard)


def test_debounce_takes_the_arguments_of_the_last_call_while_it_is_parked(full: Laned) -> None:
    manner = {"debounce_ms": 1, "max_wait_ms": 1, "free": "started", "conflict": "debounce"}
    first = put(full, b"1", **manner)
    while full.state(first) != "parked":
        full.promote()
    assert call(full, b"2", **manner) == Duplicate(first)
    assert why(full, first) == "limit"
    full.settle(full.fetch())
    assert full.fetch()[0].payload == b"2"


def test_what_follows_keeps_the_place_of_the_call_that_made_it(transport: SyncTransport) -> None:
    shard = both(transport, Rules(order=True))
    first = put(shard, b"0")
    follows = put(shard, b"1", conflict="after")
    behind = shard.put()
    assert call(shard, b"2", conflict="after") == Duplicate(follows)
    shard.settle(shard.fetch())
    assert (first != follows, why(shard, follows), why(shard, behind)) == (True, "ready", "order")
    assert shard.fetch()[0].payload == b"2"


def test_a_retried_task_of_an_ordered_lane_stays_first_when_it_is_rescheduled(
    transport: SyncTransport,
) -> None:
    shard = both(transport, Rules(order=True))
    first, behind = put(shard, b"1"), shard.put()
    shard.settle(shard.fetch(), Retried(HOUR, b"[]"))
    assert call(shard, due=2 * HOUR, conflict="reschedule") == Duplicate(first)
    assert [why(shard, one) for one in (first, behind)] == ["rate", "order"]
    assert call(shard, conflict="reschedule") == Duplicate(first)
    assert [why(shard, one) for one in (first, behind)] == ["ready", "order"]
    _no_slot_is_lost(shard)


@pytest.mark.parametrize("outcome", [Retried(0, b"[]"), Retried(HOUR, b"[]"), HandedBack()])
def test_replace_of_what_was_begun_keeps_its_history_and_its_slot(full: Laned, outcome: Outcome) -> None:
    full.settle(full.fetch())
    first = put(full, b"1", conflict="replace")
    full.settle(full.fetch(), outcome)
    assert call(full, b"2", conflict="replace") == Duplicate(first)
    found = stored(full, first)
    attempts = b"1" if isinstance(outcome, Retried) else b"0"
    assert (found[b"p"], found.get(b"a", b"0")) == (b"2", attempts)
    _no_slot_is_lost(full)


def test_a_letter_that_shuts_its_lane_is_requeued_though_the_next_one_holds_its_lock(
    transport: SyncTransport,
) -> None:
    shard = both(transport, Rules(order=True, halt=True))
    first = put(shard, b"1")
    shard.settle(shard.fetch(), Died("attempts", b"[]"))
    second = put(shard, b"2")
    assert why(shard, second) == "order"
    assert shard.run(operator_calls.requeue(shard.t, 10, 0, [first])).done == 1
    assert (why(shard, first), why(shard, second)) == ("ready", "order")
    shard.settle(shard.fetch())
    assert (test_unique.holder(shard), why(shard, second)) == (second, "ready")
    shard.settle(shard.fetch())
    assert test_unique.sizes(shard) == (0, 0)
    _no_slot_is_lost(shard)


def test_a_forced_letter_keeps_its_lane(full: Laned) -> None:
    full.settle(full.fetch())
    first = put(full, b"1")
    full.settle(full.fetch(), Died("attempts", b"[]"))
    second = put(full, b"2")
    assert full.run(operator_calls.requeue(full.t, 10, 0, [first], force=True)).done == 1
    assert [why(full, one) for one in (first, second)] == ["limit", "ready"]
    full.settle(full.fetch())
    full.settle(full.fetch())
    assert test_unique.sizes(full) == (0, 0)
    _no_slot_is_lost(full)


def test_the_audit_gives_a_parked_task_its_lock_back(full: Laned) -> None:
    first = put(full)
    full.command("DEL", full.t.unique)
    [fault] = full.run(audit_calls.audit_lanes(full.t, "", 10)).problems
    assert fault.code == "missing_lock"
    assert full.run(audit_calls.audit_places(full.t, [fault.where])) == [Fault("missing_lock", fault.where)]
    assert full.run(audit_calls.repair_claim(full.t, fault.where)) == 1
    assert test_unique.holder(full) == first


def test_a_lock_whose_parked_task_is_gone_is_released_and_the_next_one_asks_its_lane(full: Laned) -> None:
    first = put(full)
    follows = put(full, b"2", conflict="after")
    full.command("DEL", full.t.lanes)
    digest = locks.digest("email", Plan(key="acme"), b"{}").hex()
    _, faults = full.run(audit_calls.audit_rows(full.t, "unique", [digest]))
    assert faults == [Fault("orphaned_lock", digest)]
    assert full.run(audit_calls.repair_lock(full.t, digest)) == 1
    while full.state(follows) == "scheduled":
        full.promote()
    assert (why(full, follows), test_unique.holder(full), full.state(first)) == ("limit", follows, "unknown")


def test_a_stray_successor_asks_its_lane(full: Laned) -> None:
    put(full)
    stray = put(full, b"2", conflict="after")
    full.command("DEL", full.t.after)
    put(full, b"3", conflict="after")
    assert full.run(audit_calls.repair_claim(full.t, stray)) == 1
    while full.state(stray) == "scheduled":
        full.promote()
    assert why(full, stray) == "limit"


def test_who_does_not_know_the_rule_of_unique_keys_is_told(full: Laned) -> None:
    [answer] = full.enqueue(NewTask(b"{}", joins='{"lane":"a","unique":true}'))
    assert type(answer).__name__ == "Unjoined"
    [answer] = full.enqueue(NewTask(b"{}", joins='{"lane":"a","unique":false}'))
    assert isinstance(answer, Accepted)


def test_the_unlocked_successor_asks_its_lane(full: Laned) -> None:
    put(full)
    follows = put(full, b"2", conflict="after")
    digest = locks.digest("email", Plan(key="acme"), b"{}").hex()
    assert full.run(operator_calls.unlock(full.t, digest, force=True))[0] == "freed"
    while full.state(follows) == "scheduled":
        full.promote()
    assert why(full, follows) == "limit"


def test_a_worker_that_is_gone_moves_both(full: Laned) -> None:
    full.settle(full.fetch())
    first = put(full)
    full.age(test_unique.only(full, "gone"), 600_000)
    assert full.reclaim().returned == 1
    assert (call(full), why(full, full.put())) == (Duplicate(first), "limit")
    full.settle(full.fetch(), Completed())
    assert test_unique.sizes(full) == (0, 0)
    _no_slot_is_lost(full)


def test_the_last_call_of_a_throttle_asks_its_lane_at_the_end_of_the_interval(full: Laned) -> None:
    key = IdempotencyKey("throttle:email:x", b"0" * 16, HOUR)
    calls = [NewTask(b"%d" % n, key=key, joins='{"trailing":1,"lane":"a"}') for n in range(3)]
    first, second, third = full.enqueue(*calls)
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert third == Duplicate(second.local)
    assert full.run(operator_calls.run_now(full.t, second.local))
    assert [why(full, one) for one in (first.local, second.local)] == ["limit", "limit"]
    assert stored(full, second.local)[b"p"] == b"2"
    _no_slot_is_lost(full)

"""Locks of unique keys, script by script: who gets one, what a held one does, how each end releases it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamq import locks
from streamq.calls import audit as audit_calls
from streamq.calls import daemon as daemon_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
from streamq.calls.producer import NotJoined
from streamq.errors import ServerError
from streamq.keys import GROUP, SUCCESSOR_DUE_MS, shard_keys
from streamq.model.delivery import Delivery
from streamq.model.outcome import (
    Cancelled,
    Completed,
    Died,
    Expired,
    HandedBack,
    Outcome,
    Retried,
    Settlement,
)
from streamq.model.task import Accepted, BacklogFull, Duplicate, IdempotencyKey, Locked, NewTask, TaskId
from streamq.options.unique_plan import Plan
from tests.lua.shard import Shard
from tests.running import wait_until

KEY = Plan(key="acme")
HOUR = 3_600_000


def new(payload: bytes = b"{}", *, key: str = "acme", **more: Any) -> NewTask:
    """A task with a unique key; `more` is of its plan, or of the task."""
    own = {name: more.pop(name) for name in list(more) if name in Plan._fields}
    task, _ = locks.joined("email", NewTask(payload, **more), Plan(key=key, **own), payload)
    return task


def put(shard: Shard, payload: bytes = b"{}", **more: Any) -> str:
    [answer] = shard.enqueue(new(payload, **more))
    assert isinstance(answer, Accepted)
    return answer.local


def call(shard: Shard, payload: bytes = b"{}", **more: Any) -> Any:
    [answer] = shard.enqueue(new(payload, **more))
    return answer


def holder(shard: Shard, key: str = "acme") -> str:
    digest = locks.digest("email", Plan(key=key), b"{}")
    return shard.run(producer_calls.lock_holder(shard.t, digest))


def sizes(shard: Shard) -> tuple[int, int]:
    found = shard.sizes()
    return found.unique, found.after


def only(shard: Shard, consumer: str = "c") -> Delivery:
    [delivery] = shard.fetch(consumer)
    return delivery


# -- who gets the lock ----------------------------------------------------------------------------------


def test_the_first_task_of_a_key_has_the_lock_and_the_next_is_answered_with_it(shard: Shard) -> None:
    first = put(shard)
    assert holder(shard) == first
    assert call(shard) == Duplicate(first)
    assert isinstance(call(shard, key="other"), Accepted)
    assert shard.snapshot().ready == 2


def test_tasks_of_one_batch_meet_as_well(shard: Shard) -> None:
    first, *rest = shard.enqueue(*[new(b"%d" % n) for n in range(50)])
    assert isinstance(first, Accepted)
    assert rest == [Duplicate(first.local)] * 49


def test_raise_names_the_holder(shard: Shard) -> None:
    first = put(shard)
    assert call(shard, conflict="raise") == Locked(first)
    assert shard.snapshot().counters == {"accepted": 1, "joined": 1}


def test_a_repeated_call_gets_the_answer_of_the_first(shard: Shard) -> None:
    [first] = shard.enqueue(new(), sequence=1)
    assert shard.enqueue(new(), sequence=1) == [first]
    assert isinstance(first, Accepted)


def test_an_idempotency_key_comes_first_and_is_remembered_for_what_the_lock_answers(shard: Shard) -> None:
    first = put(shard)
    request = new()._replace(key=IdempotencyKey("r", b"0" * 16, 60_000))
    assert shard.enqueue(request) == [Duplicate(first)]
    shard.settle([only(shard)])
    assert shard.enqueue(request) == [Duplicate(first)]
    assert isinstance(call(shard), Accepted)


def test_a_lock_comes_before_the_limits_and_a_refused_task_takes_none(shard: Shard) -> None:
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", {"max_backlog": "1", "rich": "1"}))
    first = put(shard)
    assert call(shard) == Duplicate(first)
    assert call(shard, key="other") == BacklogFull()
    assert call(shard, conflict="after") == BacklogFull()
    assert sizes(shard) == (1, 0)


def test_who_does_not_know_that_a_type_asks_for_more_is_told(shard: Shard) -> None:
    policy = {"max_backlog": str(10**15), "rich": "1"}
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", policy))
    with pytest.raises(NotJoined):
        shard.enqueue(NewTask(b"{}"))
    with pytest.raises(NotJoined):
        shard.enqueue(NewTask(b"{}", due=HOUR))
    assert shard.snapshot().counters == {}
    [answer] = shard.enqueue(NewTask(b"{}", joins=locks.NO_LOCK))
    assert isinstance(answer, Accepted)
    assert sizes(shard) == (0, 0)


@pytest.mark.parametrize(
    "joins",
    [
        '{"unique":3}', '{"unique":{}}', '{"unique":{"key":"00","group":"workers","conflict":"return"}}',
        '{"unique":{"key":"' + "0" * 32 + '","group":"workers","conflict":"explode"}}',
        '{"unique":{"key":"' + "0" * 32 + '","group":"workers","conflict":"debounce","max_wait_ms":"x"}}',
        '{"unique":{"key":"' + "g" * 32 + '","group":"workers","conflict":"return"}}',
    ],
)  # fmt: skip
def test_a_malformed_lock_leaves_nothing(shard: Shard, joins: str) -> None:
    with pytest.raises(ServerError, match="MALFORMED task 1; nothing was written"):
        shard.enqueue(NewTask(b"{}", joins=joins))
    assert sizes(shard) == (0, 0)


# -- the five ends --------------------------------------------------------------------------------------


def completing(shard: Shard) -> None:
    assert shard.settle([only(shard)], Completed(b"1", HOUR)) == [True]


def completing_what_was_retried(shard: Shard) -> None:
    shard.settle([only(shard)], Retried(0, b"[]"))
    assert shard.settle([only(shard)], Completed()) == [True]


def dying(shard: Shard) -> None:
    assert shard.settle([only(shard)], Died("attempts", b"[]")) == [True]


def expiring_in_hand(shard: Shard) -> None:
    assert shard.settle([only(shard)], Expired()) == [True]


def cancelled_in_hand(shard: Shard) -> None:
    assert shard.settle([only(shard)], Cancelled()) == [True]


def retrying_what_is_cancelled(shard: Shard) -> None:
    delivery = only(shard)
    shard.command("HSET", shard.t.cancels, delivery.local, "1")
    assert shard.settle([delivery], Retried(0, b"[]")) == [True]


def cancelling(shard: Shard) -> None:
    task = TaskId("email", 0, holder(shard))
    assert shard.run(producer_calls.cancel(shard.t, shard.s, task)) == "cancelled"


def expiring(shard: Shard) -> None:
    local = holder(shard)
    [[entry, fields]] = shard.command("XRANGE", shard.t.normal, "-", "+")
    shard.command("XDEL", shard.t.normal, entry)
    moved = shard.command("XADD", shard.t.normal, "*", *fields, "x", "1", "i", local)
    shard.command("HSET", shard.t.index, local, b"n" + moved)
    shard.command("ZADD", shard.t.expiring, 1, local)
    assert shard.run(daemon_calls.expire(shard.t, 10)) == (1, 1)


def losing(shard: Shard) -> None:
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", {"max_lost": "1"}))
    shard.age(only(shard, "gone"), 600_000)
    assert shard.reclaim().dead == 1


def deleted(shard: Shard) -> Delivery:
    delivery = only(shard, "gone")
    shard.age(delivery, 600_000)
    shard.command("XDEL", shard.t.normal, delivery.place[1:])
    return delivery


def vanishing_and_reclaimed(shard: Shard) -> None:
    deleted(shard)
    assert shard.reclaim().dead == 1


def vanishing_and_renewed(shard: Shard) -> None:
    delivery = deleted(shard)
    shard.run(worker_calls.renew(shard.t, "gone", [(delivery.place, delivery.local)]))


def vanishing_and_repaired(shard: Shard) -> None:
    delivery = deleted(shard)
    assert shard.run(audit_calls.repair_pending(shard.t, delivery.place, delivery.local)) == "ended"


def vanishing_and_settled(outcome: Outcome) -> Callable[[Shard], None]:
    def end(shard: Shard) -> None:
        assert shard.settle([deleted(shard)], outcome) == [True]

    end.__name__ = f"vanishing and settled as {type(outcome).__name__}"
    return end


ENDS: list[Callable[[Shard], None]] = [
    completing, completing_what_was_retried, dying, expiring_in_hand, cancelled_in_hand,
    retrying_what_is_cancelled, cancelling, expiring, losing, vanishing_and_reclaimed, vanishing_and_renewed,
    vanishing_and_repaired,
    vanishing_and_settled(Completed()), vanishing_and_settled(Retried(0, b"[]")),
    vanishing_and_settled(Died("x", b"[]")), vanishing_and_settled(HandedBack()),
    vanishing_and_settled(Cancelled()),
]  # fmt: skip


@pytest.mark.parametrize("end", ENDS, ids=lambda one: one.__name__)
def test_every_end_releases_the_lock(shard: Shard, end: Callable[[Shard], None]) -> None:
    put(shard)
    end(shard)
    assert sizes(shard) == (0, 0)
    assert isinstance(call(shard), Accepted)


@pytest.mark.parametrize("end", ENDS, ids=lambda one: one.__name__)
def test_every_end_makes_the_task_ready_that_follows(shard: Shard, end: Callable[[Shard], None]) -> None:
    put(shard)
    follows = put(shard, b'"second"', conflict="after")
    end(shard)
    assert (holder(shard), sizes(shard)) == (follows, (1, 0))
    delivery = only(shard)
    assert (delivery.local, delivery.payload) == (follows, b'"second"')
    shard.settle([delivery])
    assert sizes(shard) == (0, 0)


@pytest.mark.parametrize("outcome", [Retried(0, b"[]"), Retried(HOUR, b"[]"), HandedBack()])
def test_what_is_no_end_keeps_the_lock(shard: Shard, outcome: Outcome) -> None:
    first = put(shard)
    shard.settle([only(shard)], outcome)
    assert call(shard) == Duplicate(first)


def test_a_lock_moves_with_a_task_whose_worker_is_gone(shard: Shard) -> None:
    first = put(shard)
    shard.age(only(shard, "gone"), 600_000)
    assert shard.reclaim().returned == 1
    assert call(shard) == Duplicate(first)
    again = only(shard)
    assert again.claims
    shard.settle([again], Died("attempts", b"[]"))
    assert sizes(shard) == (0, 0)


def test_an_end_that_comes_too_late_releases_nothing(shard: Shard) -> None:
    put(shard)
    old = only(shard, "gone")
    shard.age(old, 600_000)
    shard.reclaim()
    assert shard.settle([old]) == [False]
    assert sizes(shard) == (1, 0)


def test_a_lock_whose_task_is_nowhere_is_taken_over(shard: Shard) -> None:
    first = put(shard)
    shard.command("XDEL", shard.t.normal, first[1:])
    second = put(shard)
    assert holder(shard) == second != first


# -- replace, reschedule --------------------------------------------------------------------------------


def test_replace_rewrites_what_is_scheduled_in_its_place(shard: Shard) -> None:
    first = put(shard, b"1", due=HOUR, conflict="replace")
    due = shard.locate(first).detail["due_ms"]
    assert call(shard, b"2", priority="high", conflict="replace") == Duplicate(first)
    found = shard.locate(first)
    assert (found.state, found.detail) == ("scheduled", {"stream": "h", "due_ms": due})
    shard.run(operator_calls.run_now(shard.t, first))
    delivery = only(shard)
    assert (delivery.local, delivery.payload, delivery.place[0]) == (first, b"2", "h")
    assert shard.snapshot().counters == {"accepted": 1, "replaced": 1}


def test_replace_puts_what_is_ready_at_the_tail_under_the_same_id(shard: Shard) -> None:
    first = put(shard, b"1", conflict="replace")
    other = shard.put()
    assert call(shard, b"2", conflict="replace") == Duplicate(first)
    assert [(one.local, one.payload) for one in shard.fetch()] == [(other, b"{}"), (first, b"2")]
    assert shard.state(first) == "running"


def test_replace_follows_what_has_started(shard: Shard) -> None:
    first = put(shard, b"1", conflict="replace")
    running = only(shard)
    follows = put(shard, b"2", conflict="replace")
    assert call(shard, b"3", conflict="replace") == Duplicate(follows)
    assert shard.state(follows) == "scheduled"
    assert follows != first
    shard.settle([running])
    assert only(shard).payload == b"3"


def test_replace_takes_the_new_lifetime(shard: Shard) -> None:
    put(shard, b"1", conflict="replace", fields=(("x", "5000"),))
    call(shard, b"2", conflict="replace")
    assert shard.sizes().expiring == 0
    assert only(shard).expires_ms is None


def test_replace_keeps_what_the_task_has_been_through(shard: Shard) -> None:
    first = put(shard, b"1", conflict="replace")
    shard.settle([only(shard)], Retried(0, b'[{"error":"E"}]'))
    assert call(shard, b"2", conflict="replace") == Duplicate(first)
    again = only(shard)
    assert (again.local, again.payload, again.attempt, again.failures) == (first, b"2", 2, b'[{"error":"E"}]')


def test_replace_leaves_a_suspect_among_the_suspects(shard: Shard) -> None:
    first = put(shard, b"1", conflict="replace")
    shard.settle([only(shard)], HandedBack())
    assert call(shard, b"2", conflict="replace") == Duplicate(first)
    again = only(shard)
    assert (again.place[0], again.payload) == ("s", b"2")


def test_reschedule_leaves_what_was_handed_back_at_its_turn(shard: Shard) -> None:
    first = put(shard, b"1")
    shard.settle([only(shard)], HandedBack())
    assert call(shard, due=HOUR, conflict="reschedule") == Duplicate(first)
    assert only(shard).place[0] == "s"


@pytest.mark.parametrize(("before", "after"), [(HOUR, 2 * HOUR), (2 * HOUR, HOUR), (None, HOUR)])
def test_reschedule_moves_the_holder_and_keeps_its_arguments(
    shard: Shard, before: int | None, after: int
) -> None:
    first = put(shard, b"1", due=before)
    assert call(shard, b"2", due=after, conflict="reschedule") == Duplicate(first)
    found = shard.locate(first)
    assert found.state == "scheduled"
    assert abs(int(found.detail["due_ms"]) - shard.now() - after) < 5_000
    shard.run(operator_calls.run_now(shard.t, first))
    assert only(shard).payload == b"1"
    assert shard.snapshot().counters == {"accepted": 1, "replaced": 1}


def test_reschedule_to_now_makes_it_ready(shard: Shard) -> None:
    first = put(shard, b"1", due=HOUR)
    assert call(shard, conflict="reschedule") == Duplicate(first)
    assert only(shard).local == first


def test_a_task_that_is_made_ready_by_the_next_of_its_batch_leaves_an_empty_schedule(shard: Shard) -> None:
    first, second = shard.enqueue(
        new(b"1", due=HOUR, conflict="reschedule"), new(b"2", conflict="reschedule")
    )
    assert isinstance(first, Accepted)
    assert second == Duplicate(first.local)
    assert shard.snapshot().ready == 1


def test_debounce_waits_anew_and_never_beyond_the_most(shard: Shard) -> None:
    manner = {"debounce_ms": HOUR, "max_wait_ms": 2 * HOUR, "free": "started", "conflict": "debounce"}
    first = put(shard, b"1", **manner)
    begun = shard.now()
    [row] = shard.command("ZRANGE", shard.t.schedule, 0, -1)
    assert call(shard, b"2", **manner) == Duplicate(first)
    due = int(shard.locate(first).detail["due_ms"])
    assert begun + HOUR <= due <= shard.now() + HOUR
    assert call(shard, b"3", **{**manner, "debounce_ms": 5 * HOUR}) == Duplicate(first)
    assert abs(int(shard.locate(first).detail["due_ms"]) - begun - 2 * HOUR) < 5_000
    assert call(shard, b"4", **{**manner, "max_wait_ms": 1}) == Duplicate(first)
    assert only(shard).payload == b"4"
    assert row


# -- until started --------------------------------------------------------------------------------------


def test_until_started_frees_the_key_when_a_worker_has_it(shard: Shard) -> None:
    first = put(shard, b"1", free="started")
    assert call(shard, b"2", free="started") == Duplicate(first)
    running = only(shard)
    second = put(shard, b"2", free="started")
    assert holder(shard) == second
    shard.settle([running])
    assert holder(shard) == second


def test_a_failed_attempt_and_its_twin_both_run(shard: Shard) -> None:
    first = put(shard, b"1", free="started")
    running = only(shard)
    second = put(shard, b"2", free="started")
    shard.settle([running], Retried(0, b"[]"))
    both = shard.fetch()
    assert {one.local for one in both} == {first, second}
    assert shard.settle(both) == [True, True]
    assert sizes(shard) == (0, 0)


# -- after ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Completed(), Died("attempts", b"[]")])
def test_ten_calls_after_make_one_more_run_with_the_arguments_of_the_tenth(
    shard: Shard, outcome: Outcome
) -> None:
    first = put(shard, b"0", conflict="after")
    running = only(shard)
    answers = [call(shard, b"%d" % n, conflict="after") for n in range(1, 11)]
    follows = answers[0].local
    assert answers == [Accepted(follows)] + [Duplicate(follows)] * 9
    assert (shard.fetch(), shard.state(follows)) == ([], "scheduled")
    shard.settle([running], outcome)
    again = only(shard)
    assert (again.local, again.payload) == (follows, b"10")
    shard.settle([again])
    assert (shard.fetch(), sizes(shard), first != follows) == ([], (0, 0), True)
    assert shard.snapshot().counters["accepted"] == 2


def test_what_follows_can_be_cancelled_and_expires(shard: Shard) -> None:
    put(shard)
    follows = put(shard, conflict="after")
    task = TaskId("email", 0, follows)
    assert shard.run(producer_calls.cancel(shard.t, shard.s, task)) == "cancelled"
    assert sizes(shard) == (1, 0)
    again = put(shard, conflict="after", fields=(("x", "0"),))
    assert shard.run(daemon_calls.expire(shard.t, 10)) == (1, 1)
    assert shard.state(again) == "expired"
    assert sizes(shard) == (1, 0)
    shard.settle([only(shard)])
    assert (sizes(shard), shard.fetch()) == ((0, 0), [])


def test_what_follows_is_neither_promoted_nor_run_at_once(shard: Shard) -> None:
    put(shard)
    follows = put(shard, conflict="after")
    assert shard.promote()[:2] == (0, None)
    assert not shard.run(operator_calls.run_now(shard.t, follows))
    assert shard.run(daemon_calls.next_promotion([shard.t]))[0] == [None]


def test_a_row_of_what_follows_that_cannot_be_read_holds_nothing_up(shard: Shard) -> None:
    put(shard)
    follows = put(shard, conflict="after")
    [row] = shard.command("ZRANGE", shard.t.schedule, 0, -1)
    shard.command("ZREM", shard.t.schedule, row)
    number = int(follows.rpartition("-")[2])
    shard.command("ZADD", shard.t.schedule, SUCCESSOR_DUE_MS, b"%012dn" % number + b"\xc1")
    shard.settle([only(shard)])
    assert sizes(shard) == (0, 0)
    assert shard.promote().moved == 1
    assert shard.snapshot().dead == 1


# -- requeue --------------------------------------------------------------------------------------------


def dead(shard: Shard) -> str:
    local = put(shard)
    shard.settle([only(shard)], Died("attempts", b"[]"))
    return local


def test_a_requeued_task_asks_for_its_lock_again(shard: Shard) -> None:
    first = dead(shard)
    assert shard.run(operator_calls.requeue(shard.t, 10, 0, [first])).done == 1
    assert call(shard) == Duplicate(first)
    shard.settle([only(shard)])
    assert sizes(shard) == (0, 0)


def test_a_letter_whose_lock_another_holds_stays_unless_it_is_forced(shard: Shard) -> None:
    first = dead(shard)
    second = put(shard)
    until = shard.now() + 1
    assert shard.run(operator_calls.requeue(shard.t, 10, until)) == (0, 1, 1, ((first, second),))
    assert shard.run(operator_calls.requeue(shard.t, 10, 0, [first])).held == ((first, second),)
    assert shard.run(operator_calls.requeue(shard.t, 10, 0, [first], force=True)).done == 1
    assert holder(shard) == second
    both = shard.fetch()
    assert {one.local for one in both} == {first, second}
    shard.settle([one for one in both if one.local == first])
    assert holder(shard) == second
    shard.settle([one for one in both if one.local == second])
    assert sizes(shard) == (0, 0)


def test_the_worker_that_cannot_read_a_task_releases_its_lock(shard: Shard) -> None:
    put(shard, b"not json")
    delivery = only(shard)
    end = Settlement(delivery.place, delivery.place, Died("undecodable", b"[]", started=False), rich=True)
    assert shard.run(worker_calls.settle(shard.t, shard.s, "settler", 1, [end])) == [True]
    assert sizes(shard) == (0, 0)


def test_the_scripts_know_when_what_follows_is_due(shard: Shard) -> None:
    put(shard)
    put(shard, conflict="after")
    [(_, score)] = [shard.command("ZRANGE", shard.t.schedule, 0, 0, "WITHSCORES")]
    assert int(score) == SUCCESSOR_DUE_MS
    assert GROUP == "workers"


# -- throttle whose last call runs ----------------------------------------------------------------------


def throttled(shard: Shard, payload: bytes = b"{}", *, every: int = HOUR, **more: Any) -> Any:
    [answer] = shard.enqueue(new(payload, throttle_ms=every, trailing=True, **more))
    return answer


def record(shard: Shard) -> str:
    [name] = [key.decode() for key in shard.command("KEYS", "*key=throttle:*")]
    return str(name)


def due_in(shard: Shard, answer: Any) -> float:
    """In how many intervals a task is due."""
    return round((int(answer.local[1:].partition("-")[0]) - shard.now()) / HOUR, 2)


def test_the_last_call_of_an_interval_runs_once_at_its_end(shard: Shard) -> None:
    first = throttled(shard, b"1")
    assert [delivery.payload for delivery in shard.fetch()] == [b"1"]
    second = throttled(shard, b"2")
    assert isinstance(second, Accepted)
    assert due_in(shard, second) == 1
    assert [throttled(shard, b"%d" % n) for n in range(3, 9)] == 6 * [Duplicate(second.local)]
    assert (shard.state(first.local), shard.state(second.local)) == ("running", "scheduled")
    assert shard.locate(second.local).fields[:2] == (b"p", b"8")
    assert shard.snapshot().counters == {"accepted": 2, "replaced": 6}


def test_the_run_at_the_end_of_an_interval_begins_the_next(shard: Shard) -> None:
    every = 1000  # longer than a busy machine lets the test stand still
    throttled(shard, b"1", every=every)
    second = throttled(shard, b"2", every=every)
    shard.promote_until(1)
    [record] = shard.command("KEYS", "*key=throttle:*")
    shard.command("PEXPIRE", record, every + 1)  # the server's clocks differ by a millisecond at times
    before = shard.now()
    third = throttled(shard, b"3", every=every)
    assert isinstance(third, Accepted)
    assert second.local < third.local
    assert every / 2 <= int(third.local[1:].partition("-")[0]) - before <= every + shard.now() - before
    assert throttled(shard, b"4", every=every) == Duplicate(third.local)
    shard.promote_until(1)
    wait_until(lambda: shard.command("KEYS", "*key=throttle:*") == [])
    assert throttled(shard, b"5", every=every).local[0] == "n"
    assert [one.payload for one in shard.fetch()] == [b"1", b"2", b"4", b"5"]


def test_a_run_that_was_cancelled_gives_its_time_to_the_next_call(shard: Shard) -> None:
    throttled(shard)
    second = throttled(shard)
    cancel = producer_calls.cancel(shard.t, shard.s, TaskId("email", 0, second.local))
    assert shard.run(cancel) == "cancelled"
    third = throttled(shard)
    assert isinstance(third, Accepted)
    assert due_in(shard, third) == 1
    assert shard.snapshot().scheduled == 1


def test_a_run_that_failed_keeps_its_arguments_and_its_retry(shard: Shard) -> None:
    throttled(shard, b"1")
    second = throttled(shard, b"2")
    first = only(shard)
    assert shard.run(operator_calls.run_now(shard.t, second.local))
    assert shard.settle([only(shard)], Retried(2 * HOUR, b"[]")) == [True]
    third = throttled(shard, b"3")
    assert isinstance(third, Accepted)
    assert shard.locate(second.local).fields[:2] == (b"p", b"2")
    assert shard.settle([first], Retried(2 * HOUR, b"[]")) == [True]
    assert throttled(shard, b"4") == Duplicate(third.local)


def test_the_last_call_lives_from_when_it_is_due(shard: Shard) -> None:
    throttled(shard)
    second = throttled(shard, fields=(("x", "1000"),))
    due = int(second.local[1:].partition("-")[0])
    assert int(shard.command("ZSCORE", shard.t.expiring, second.local)) == due + 1000
    throttled(shard, fields=(("x", "5000"),))
    assert int(shard.command("ZSCORE", shard.t.expiring, second.local)) == due + 5000
    throttled(shard)
    assert shard.command("ZSCORE", shard.t.expiring, second.local) is None


def test_the_last_call_heeds_the_limits_and_a_refused_one_changes_nothing(shard: Shard) -> None:
    shard.run(producer_calls.register(shard.t, shard.s, "t:e", {"max_backlog": "2"}))
    throttled(shard)
    shard.enqueue(NewTask(b"{}"))
    before = shard.command("PTTL", record(shard))
    assert throttled(shard) == BacklogFull()
    assert shard.command("PTTL", record(shard)) <= before
    shard.settle(shard.fetch())
    assert isinstance(throttled(shard), Accepted)


@pytest.mark.parametrize("spoil", [("PERSIST",), ("PEXPIRE", 900 * HOUR)])
def test_a_record_with_a_wrong_lifetime_delays_no_call_beyond_the_interval(
    shard: Shard, spoil: tuple[Any, ...]
) -> None:
    throttled(shard)
    shard.command(spoil[0], record(shard), *spoil[1:])
    assert due_in(shard, throttled(shard)) == 1
    assert 0 < shard.command("PTTL", record(shard)) <= 2 * HOUR


def test_a_repeated_call_of_a_throttle_gets_its_first_answer(shard: Shard) -> None:
    throttled(shard, b"1")
    answer = shard.enqueue(new(b"2", throttle_ms=HOUR, trailing=True), writer="v", sequence=1)
    throttled(shard, b"3")
    assert shard.enqueue(new(b"2", throttle_ms=HOUR, trailing=True), writer="v", sequence=1) == answer
    [second] = answer
    assert isinstance(second, Accepted)
    assert shard.locate(second.local).fields[:2] == (b"p", b"3")


# -- a newer task supersedes one that runs --------------------------------------------------------------


def cancels(shard: Shard) -> list[str]:
    return [one.decode() for one in shard.command("HKEYS", shard.t.cancels)]


@pytest.mark.parametrize("free", ["done", "started"])
def test_a_holder_that_runs_is_asked_to_stop_and_is_not_retried(shard: Shard, free: Any) -> None:
    first = put(shard, b"1")
    if free == "started":
        shard.settle(shard.fetch())
        first = put(shard, b"1", free="started")
    running = only(shard)
    newer = call(shard, b"2", free=free, conflict="replace", supersede=True)
    assert isinstance(newer, Accepted)
    assert cancels(shard) == [first]
    assert shard.state(newer.local) == ("ready" if free == "started" else "scheduled")
    assert shard.settle([running], Retried(HOUR, b"[]")) == [True]
    assert (shard.state(first), shard.state(newer.local)) == ("cancelled", "ready")
    assert cancels(shard) == []
    assert holder(shard) == newer.local


def test_a_holder_that_waits_is_replaced_and_one_that_ends_well_has_ended_well(shard: Shard) -> None:
    first = put(shard, b"1", conflict="replace", supersede=True)
    assert call(shard, b"2", conflict="replace", supersede=True) == Duplicate(first)
    assert cancels(shard) == []
    running = only(shard)
    assert running.payload == b"2"
    newer = put(shard, b"3", conflict="replace", supersede=True)
    assert call(shard, b"4", conflict="replace", supersede=True) == Duplicate(newer)
    assert cancels(shard) == [first]
    assert shard.settle([running]) == [True]
    assert cancels(shard) == []
    assert [one.payload for one in shard.fetch()] == [b"4"]
    counted = shard.snapshot().counters
    assert counted == {"accepted": 2, "started": 1, "completed": 1, "replaced": 2, "superseded": 1}


def test_a_newer_task_that_is_refused_stops_nothing(shard: Shard) -> None:
    shard.run(producer_calls.register(shard.t, shard.s, "t:e", {"max_backlog": "1"}))
    for free in ("done", "started"):
        put(shard, free=free)
        running = only(shard)
        assert call(shard, free=free, conflict="replace", supersede=True) == BacklogFull()
        assert cancels(shard) == []
        shard.settle([running])


def test_a_lost_holder_that_was_superseded_does_not_run_again(shard: Shard) -> None:
    first = put(shard)
    running = only(shard)
    newer = put(shard, b"2", conflict="replace", supersede=True)
    shard.age(running, HOUR)
    shard.reclaim()
    assert (shard.state(first), shard.state(newer)) == ("cancelled", "ready")


def test_the_enqueue_script_knows_the_channel_to_workers(shard: Shard) -> None:
    """It derives the name from that of the channel to daemons."""
    for s in (shard.s, shard_keys("a.b-c", 12)):
        assert s.control == s.wake.replace("}:wake", "}:control")

"""Memos of steps in the scripts: fenced, bounded, and gone with their task."""

from __future__ import annotations

import pytest

from streamq import locks
from streamq.calls import daemon as daemon_calls
from streamq.calls import operator as operator_calls
from streamq.calls import steps as step_calls
from streamq.calls import worker as worker_calls
from streamq.calls.steps import MOST, MOST_BYTES, Stored
from streamq.model.delivery import Delivery
from streamq.model.effect import Stepped, Suspend
from streamq.model.outcome import Cancelled, Completed, Died, HandedBack, Outcome, Retried, Settlement
from streamq.model.reply import Note
from streamq.model.task import Duplicate, NewTask
from streamq.options.unique_plan import Plan
from tests.lua.shard import Shard

NOTE = Note("action-1", b'{"by":"ada"}')


def store(
    shard: Shard, held: Delivery, name: str = "one", value: bytes = b"1", consumer: str = "c"
) -> Stored:
    return shard.run(step_calls.checkpoint(shard.t, consumer, held.place, held.local, name, value))


def settle(shard: Shard, held: Delivery, outcome: Outcome, *more: Suspend) -> list[bool]:
    item = Settlement(held.place, held.local, outcome, effects=(Stepped(), *more))
    return shard.run(worker_calls.settle(shard.t, shard.s, "settler", shard.sequence(), [item]))


def memos(shard: Shard, held: Delivery) -> dict[str, bytes]:
    found = shard.run(step_calls.memos(shard.t, held.local))
    assert found.following == 0
    return found.by_name


def pages(shard: Shard, held: Delivery) -> list[list[str]]:
    found, first = list[list[str]](), 1
    while first:
        first, some = shard.run(step_calls.memos(shard.t, held.local, first))
        found.append(list(some))
    return found


def fields(shard: Shard) -> int:
    return int(shard.command("HLEN", shard.t.steps))


def taken(shard: Shard) -> Delivery:
    shard.put()
    [held] = shard.fetch()
    return held


def test_the_first_memo_of_a_name_stays(shard: Shard) -> None:
    held = taken(shard)
    assert store(shard, held) == Stored()
    assert store(shard, held, value=b"2") == Stored(kept=b"1")
    assert store(shard, held, "zwei 2", b"\xff\0") == Stored()
    assert memos(shard, held) == {"one": b"1", "zwei 2": b"\xff\0"}


@pytest.mark.parametrize("how", ["other", "reclaimed", "settled", "nonsense"])
def test_only_who_holds_the_delivery_writes(shard: Shard, how: str) -> None:
    held = taken(shard)
    if how == "reclaimed":
        shard.age(held, 600_000)
        shard.reclaim_all()
    if how == "settled":
        shard.settle([held])
    if how == "nonsense":
        held = held._replace(place="x1")
    found = store(shard, held, consumer="d" if how == "other" else "c")
    assert found == Stored(lost=True)
    assert fields(shard) == 0


def test_there_is_an_end_to_their_number_and_their_bytes(shard: Shard) -> None:
    held = taken(shard)
    for n in range(MOST):
        assert store(shard, held, str(n)) == Stored()
    assert store(shard, held, "more") == Stored(full=(MOST, MOST + 1))
    other = taken(shard)
    big = b"x" * (MOST_BYTES // 4)
    for n in range(4):
        assert store(shard, other, str(n), big) == Stored()
    assert pages(shard, other) == [["0"], ["1"], ["2"], ["3"]]
    assert sum(map(len, pages(shard, held))) == MOST
    assert store(shard, other, "more") == Stored(full=(4, MOST_BYTES + 1))
    assert settle(shard, held, Completed()) == settle(shard, other, Completed()) == [True]
    assert fields(shard) == 0


@pytest.mark.parametrize("outcome", [Completed(b"1", 1000), Completed(), Cancelled()])
def test_an_end_deletes_them(shard: Shard, outcome: Outcome) -> None:
    held = taken(shard)
    store(shard, held)
    other = taken(shard)
    store(shard, other)
    assert settle(shard, held, outcome) == [True]
    assert memos(shard, held) == {}
    assert memos(shard, other) == {"one": b"1"}


@pytest.mark.parametrize("outcome", [Retried(0, b"[]"), HandedBack(started=True)])
def test_the_next_attempt_has_them_and_its_plain_end_deletes_them(shard: Shard, outcome: Outcome) -> None:
    held = taken(shard)
    store(shard, held)
    settle(shard, held, outcome)
    [again] = shard.fetch()
    assert again.claims
    assert memos(shard, again) == {"one": b"1"}
    assert shard.settle([again]) == [True]
    assert fields(shard) == 0


def test_a_worker_that_dies_leaves_them_to_the_next(shard: Shard) -> None:
    held = taken(shard)
    store(shard, held)
    shard.age(held, 600_000)
    assert shard.reclaim_all() == 1
    [again] = shard.fetch()
    assert memos(shard, again) == {"one": b"1"}
    assert shard.settle([again]) == [True]
    assert fields(shard) == 0


def test_a_task_without_memos_gets_no_claim(shard: Shard) -> None:
    held = taken(shard)
    settle(shard, held, Retried(0, b"[]"))
    [again] = shard.fetch()
    assert again.claims == b""
    shard.age(again, 600_000)
    shard.reclaim_all()
    [third] = shard.fetch()
    assert third.claims == b""


@pytest.mark.parametrize("how", ["requeue", "purge", "resubmit"])
def test_a_dead_letter_keeps_them_until_it_goes(shard: Shard, how: str) -> None:
    held = taken(shard)
    store(shard, held)
    settle(shard, held, Died("attempts", b"[]"))
    assert fields(shard) == 2
    until = shard.now() + 1
    if how == "purge":
        shard.run(operator_calls.purge(shard.t, 10, until, [held.local], note=NOTE))
    elif how == "resubmit":
        shard.run(operator_calls.resubmit(shard.t, held.local, b"{}", NOTE))
    else:
        shard.run(operator_calls.requeue(shard.t, 10, until, [held.local], note=NOTE))
        [again] = shard.fetch()
        assert memos(shard, again) == {"one": b"1"}
        shard.settle([again])
    assert fields(shard) == 0


def test_a_letter_that_is_requeued_fresh_has_none(shard: Shard) -> None:
    held = taken(shard)
    store(shard, held)
    settle(shard, held, Died("attempts", b"[]"))
    shard.run(operator_calls.requeue(shard.t, 10, shard.now() + 1, [held.local], fresh=True, note=NOTE))
    assert fields(shard) == 0
    [again] = shard.fetch()
    assert memos(shard, again) == {}


def test_a_cursor_takes_the_place_of_the_one_before(shard: Shard) -> None:
    held = taken(shard)
    for value in (b"1", b"22", b"3"):
        call = step_calls.checkpoint(shard.t, "c", held.place, held.local, "cursor", value, again=True)
        assert shard.run(call) == Stored()
    assert memos(shard, held) == {"cursor": b"3"}
    assert shard.command("HGET", shard.t.steps, held.local) == b"1\0cursor"
    with_other = held._replace(place="n1-1")
    call = step_calls.checkpoint(shard.t, "c", with_other.place, held.local, "cursor", b"9", again=True)
    assert shard.run(call) == Stored(lost=True)


def test_one_that_is_lost_too_often_keeps_them_as_a_dead_letter(shard: Shard) -> None:
    shard.run(daemon_calls.promote(shard.t, 1))
    shard.command("HSET", shard.t.policy, "max_lost", "1")
    held = taken(shard)
    store(shard, held)
    shard.age(held, 600_000)
    shard.reclaim_all()
    assert shard.state(held.local) == "dead"
    assert fields(shard) == 2


def test_a_task_that_sleeps_waits_and_its_attempts_stay(shard: Shard) -> None:
    held = taken(shard)
    store(shard, held)
    settle(shard, held, HandedBack(True, 60_000), Suspend("sleep 1"))
    assert shard.state(held.local) == "scheduled"
    shard.run(operator_calls.run_now(shard.t, held.local, NOTE))
    [again] = shard.fetch()
    assert (again.attempt, again.local) == (1, held.local)
    assert shard.settle([again]) == [True]
    assert fields(shard) == 0


def test_one_in_a_lane_gives_its_slot_back_while_it_sleeps(shard: Shard) -> None:
    from tests.lua.test_all_or_nothing import laned

    laned(shard)
    first, _ = shard.fetch()
    assert shard.command("HGET", shard.t.slots, "a").startswith(b"2;")
    settle(shard, first, HandedBack(True, 60_000), Suspend("sleep 1"))  # its rate lets no other go yet
    assert shard.command("HGET", shard.t.slots, "a").startswith(b"1;")
    assert (shard.snapshot().scheduled, shard.snapshot().running) == (1, 1)


def test_an_expired_or_cancelled_sleeper_leaves_none(shard: Shard) -> None:
    [answer] = shard.enqueue(NewTask(b"{}", fields=(("x", "1"),)))
    assert answer
    [held] = shard.fetch()
    store(shard, held)
    settle(shard, held, HandedBack(True, 60_000), Suspend("sleep 1"))
    while shard.state(held.local) == "scheduled":
        shard.run(daemon_calls.expire(shard.t, 10))
    assert shard.state(held.local) == "expired"
    assert fields(shard) == 0


@pytest.mark.parametrize(("conflict", "left"), [("replace", 0), ("debounce", 0), ("reschedule", 2)])
def test_memos_do_not_outlive_the_arguments_that_they_ran_with(
    shard: Shard, conflict: str, left: int
) -> None:
    plan = Plan(key="acme", conflict=conflict)
    task, _ = locks.joined("email", NewTask(b"1"), plan, b"1")
    shard.enqueue(task)
    [held] = shard.fetch()
    store(shard, held)
    settle(shard, held, Retried(60_000, b"[]"))
    other, _ = locks.joined("email", NewTask(b"2"), plan, b"2")
    [answer] = shard.enqueue(other._replace(due=60_000))
    assert isinstance(answer, Duplicate)
    assert (answer.local, fields(shard)) == (held.local, left)

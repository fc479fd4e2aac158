"""promote, reclaim, cancel, requeue, purge, repair and the rest: given -> call -> want."""

from __future__ import annotations

from typing import cast

import pytest

from streamq import envelope
from streamq.calls import daemon as daemon_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import DEFAULT_LEASE_MS
from streamq.errors import ServerError
from streamq.keys import GROUP, type_keys
from streamq.model.outcome import Completed, Died, Retried, Settlement
from streamq.model.reply import Moved
from streamq.model.task import NewTask, TaskId
from streamq.transport.sync_transport import SyncTransport
from tests.letters import dead_page
from tests.lua.shard import Shard, Snapshot

NONE = b"[]"


# -- promote -------------------------------------------------------------------------------------------


def test_promote_moves_what_is_due_and_tells_the_next(shard: Shard) -> None:
    first = shard.put(b'{"n":1}', delay_ms=1, priority="high")
    later = shard.put(delay_ms=60_000)
    shard.promote_until(1)
    [delivery] = shard.fetch()
    assert (delivery.local, delivery.place[0], delivery.payload) == (first, "h", b'{"n":1}')
    promotion = shard.promote()
    assert promotion.next_due_ms == int(later[1:].partition("-")[0])
    assert shard.snapshot() == Snapshot(running=1, scheduled=1, counters={"accepted": 2})


def test_many_schedules_are_looked_at_in_one_call(shard: Shard) -> None:
    other, broken = type_keys("shop", 0, "other"), type_keys("shop", 0, "broken")
    shard.command("SET", broken.schedule, "no sorted set")
    shard.put(delay_ms=60_000)
    [soon, nothing, now], laned = shard.run(daemon_calls.next_promotion([shard.t, other, broken]))
    assert laned == [daemon_calls.Lanes.NONE] * 3
    assert soon is not None
    assert now is not None
    assert 59_000 < soon <= 60_000
    assert -1 < now <= 0
    assert nothing is None


def test_promote_is_bounded(shard: Shard) -> None:
    shard.enqueue(*[NewTask(b"{}", due=1) for _ in range(25)])
    moved: list[int] = []
    while sum(moved) < 25:
        moved.append(shard.promote(limit=10).moved)
    assert max(moved) <= 10
    assert len(shard.fetch()) == 25


def test_tasks_due_at_the_same_moment_keep_their_order(shard: Shard) -> None:
    moment = shard.now() + 300
    shard.enqueue(*[NewTask(b"%d" % n, due=moment, absolute=True) for n in range(20)])
    shard.promote_until(20)
    assert [d.payload for d in shard.fetch()] == [b"%d" % n for n in range(20)]


def test_a_row_that_cannot_be_unpacked_becomes_a_dead_letter_whole(shard: Shard) -> None:
    shard.command("ZADD", shard.t.schedule, 1, b"000000000007n\xc1garbage")
    shard.command("ZADD", shard.t.schedule, 2, b"nonsense")
    assert shard.promote().moved == 2
    letters = shard.run(dead_page(shard.t, 0, 10))
    assert {letter.reason for letter in letters} == {"undecodable"}
    assert {letter.fields[1] for letter in letters} == {b"000000000007n\xc1garbage", b"nonsense"}


# -- reclaim -------------------------------------------------------------------------------------------


def test_reclaim_leaves_a_fresh_lease_alone(shard: Shard) -> None:
    shard.put()
    shard.fetch()
    assert shard.reclaim().returned == 0
    assert shard.snapshot().running == 1


def test_reclaim_gives_an_abandoned_task_a_new_entry(shard: Shard) -> None:
    local = shard.put(b'{"a":1}')
    [old] = shard.fetch("gone")
    shard.age(old, 60_000)
    assert shard.reclaim().returned == 1
    [new] = shard.fetch("next")
    assert (new.local, new.payload, new.lost, new.attempt) == (local, b'{"a":1}', 1, 1)
    assert new.place != old.place
    [loss] = envelope.failures(new.failures)
    assert (loss["error"], loss["worker"]) == ("WorkerLost", "gone")
    assert shard.snapshot() == Snapshot(running=1, counters={"accepted": 1, "started": 1, "reclaimed": 1})


def test_a_task_that_loses_delivery_after_delivery_is_isolated_then_dead(shard: Shard) -> None:
    """Its third loss and those after it prove nothing, as its whole worker was lost; but there is an end."""
    local = shard.put(priority="high")
    for lost, letter in enumerate("hhsssssss"):
        [delivery] = shard.fetch(f"worker-{lost}")
        assert (delivery.lost, delivery.place[0]) == (lost, letter)
        shard.age(delivery, 60_000)
        shard.reclaim(letter)
    located = shard.locate(local)
    assert (located.state, located.detail["reason"]) == ("dead", "lost")
    assert len(envelope.failures(envelope.fields_dict(located.fields)["f"])) == 9
    assert shard.snapshot() == Snapshot(
        dead=1, counters={"accepted": 1, "started": 9, "reclaimed": 9, "dead": 1}
    )


def test_a_task_that_may_lose_one_delivery_is_never_run_again(shard: Shard) -> None:
    shard.command("HSET", shard.t.policy, "max_lost", 1)
    local = shard.put()
    [delivery] = shard.fetch()
    shard.age(delivery, 60_000)
    shard.reclaim("n")
    assert (shard.state(local), shard.locate(local).detail["reason"]) == ("dead", "lost")


def test_a_suspect_that_comes_to_an_end_is_none_any_more(shard: Shard) -> None:
    shard.put(priority="low")
    for letter in "ll":
        [delivery] = shard.fetch()
        shard.age(delivery, 60_000)
        shard.reclaim(letter)
    [delivery] = shard.fetch()
    assert delivery.place[0] == "s"
    shard.settle([delivery], Retried(0, NONE))
    [delivery] = shard.fetch()
    assert (delivery.place[0], delivery.lost, delivery.attempt) == ("l", 0, 2)


@pytest.mark.parametrize("kind", [("SET", "x"), ("RPUSH", "x"), ("ZADD", "1", "x")])
def test_a_policy_that_is_no_hash_keeps_no_task(shard: Shard, kind: tuple[str, ...]) -> None:
    """The default lease and losses are taken instead, and the answer says so."""
    local = shard.put()
    for lost, letter in enumerate("nnsssssss"):
        [delivery] = shard.fetch("gone")
        assert (delivery.lost, delivery.place[0]) == (lost, letter)
        shard.age(delivery, DEFAULT_LEASE_MS - 5000)
        assert shard.reclaim(letter).returned == 0
        shard.command("DEL", shard.t.policy)
        shard.command(kind[0], shard.t.policy, *kind[1:])
        shard.age(delivery, DEFAULT_LEASE_MS + 5000)
        assert shard.reclaim(letter).unread
    assert shard.state(local) == "dead"


def test_one_suspect_is_fetched_at_a_time(shard: Shard) -> None:
    for _ in range(3):
        shard.put()
    for letter in "nn":
        for delivery in shard.fetch("gone"):
            shard.age(delivery, 60_000)
        shard.reclaim(letter)
    assert [d.place[0] for d in shard.fetch("a")] == ["s"]
    assert [d.place[0] for d in shard.fetch("b")] == ["s"]


def test_reclaim_goes_on_from_its_cursor(shard: Shard) -> None:
    """Guard: the cursor (T05). A claimer that always began anew would never see the tail."""
    shard.enqueue(*[NewTask(b"{}") for _ in range(50)])
    deliveries = shard.fetch(budget=50)
    shard.age(deliveries[-1], 60_000)
    cursor, returned, rounds = "0-0", 0, 0
    while rounds == 0 or cursor != "0-0":
        reclaim = shard.reclaim(cursor=cursor, limit=2)
        cursor, returned, rounds = reclaim.cursor, returned + reclaim.returned, rounds + 1
    assert (returned, rounds > 1) == (1, True)


@pytest.mark.parametrize("offset", [-3_600_000, 7_200_000])
def test_after_a_clock_jump_nothing_is_reclaimed(shard: Shard, offset: int) -> None:
    shard.put()
    [delivery] = shard.fetch()
    shard.age(delivery, 60_000)
    reclaim = shard.reclaim(expected=shard.now() + offset)
    assert (reclaim.skew, reclaim.returned) == (True, 0)
    assert shard.run(daemon_calls.restamp(shard.t.normal, "-", 100)) == ""
    assert shard.reclaim(expected=shard.now()).returned == 0
    assert shard.run(worker_calls.pending(shard.t, "n", "c", 10)) == [delivery.place]


def test_a_cancelled_task_of_a_dead_worker_is_cancelled(shard: Shard) -> None:
    local = shard.put()
    [delivery] = shard.fetch()
    assert cancel(shard, local) == "requested"
    shard.age(delivery, 60_000)
    assert shard.reclaim().cancelled == 1
    assert shard.state(local) == "cancelled"
    assert shard.sizes().cancels == 0


# -- cancel --------------------------------------------------------------------------------------------


def cancel(shard: Shard, local: str) -> str:
    return shard.run(producer_calls.cancel(shard.t, shard.s, TaskId("email", 0, local)))


def test_cancel_a_ready_task(shard: Shard) -> None:
    local, other = shard.put(), shard.put()
    assert cancel(shard, local) == "cancelled"
    assert [d.local for d in shard.fetch()] == [other]
    assert shard.state(local) == "cancelled"
    assert shard.snapshot() == Snapshot(running=1, counters={"accepted": 2, "cancelled": 1})


def test_cancel_finds_a_scheduled_task_among_many_with_one_due_time(shard: Shard) -> None:
    moment = shard.now() + 60_000
    answers = shard.enqueue(*[NewTask(b"{}", due=moment, absolute=True) for _ in range(33)])
    shard.put(delay_ms=10)
    for answer in answers:
        assert cancel(shard, answer.local) == "cancelled"  # type: ignore[union-attr]
    assert shard.snapshot().scheduled == 1


def test_cancel_a_retried_task_in_the_schedule(shard: Shard) -> None:
    local = shard.put()
    shard.settle(shard.fetch(), Retried(60_000, NONE))
    assert cancel(shard, local) == "cancelled"
    assert shard.snapshot() == Snapshot(counters={"accepted": 1, "started": 1, "retried": 1, "cancelled": 1})
    assert shard.sizes().index == 0


def test_cancel_asks_the_worker_of_a_running_task(shard: Shard) -> None:
    local = shard.put()
    [delivery] = shard.fetch("me")
    assert cancel(shard, local) == "requested"
    assert shard.run(worker_calls.renew(shard.t, "me", [(delivery.place, local)])).cancelled == (local,)
    assert shard.settle([delivery], Retried(0, NONE)) == [True]  # it will not run again
    assert shard.state(local) == "cancelled"
    assert shard.sizes().cancels == 0


def test_a_task_that_completes_in_spite_of_the_request_is_completed(shard: Shard) -> None:
    local = shard.put()
    deliveries = shard.fetch()
    cancel(shard, local)
    shard.settle(deliveries, Completed(b"1", 60_000))
    assert shard.state(local) == "completed"
    assert shard.sizes().cancels == 0


def test_cancel_what_is_dead_or_unknown(shard: Shard) -> None:
    local = shard.put()
    shard.settle(shard.fetch(), Died("attempts", NONE))
    assert cancel(shard, local) == "dead"
    assert cancel(shard, "n1-0") == "unknown"
    assert cancel(shard, "d1-5") == "unknown"


# -- dead letters --------------------------------------------------------------------------------------


def buried(shard: Shard, number: int) -> list[str]:
    ids = [shard.put(b'{"n":%d}' % n, priority="high") for n in range(number)]
    shard.settle(shard.fetch(budget=number), Died("attempts", NONE))
    return ids


def test_requeue_gives_fresh_attempts(shard: Shard) -> None:
    local = shard.put(b'{"n":1}', priority="low")
    shard.settle(shard.fetch(), Retried(0, NONE))
    history = envelope.add_failure(b"", attempt=2, at_ms=1, worker="w", error="E", message="m", traceback="")
    shard.settle(shard.fetch(), Died("attempts", history))
    assert shard.run(operator_calls.requeue(shard.t, 100, 0, [local])) == Moved(1, 0)
    [delivery] = shard.fetch()
    assert (delivery.local, delivery.attempt, delivery.place[0]) == (local, 1, "l")
    assert envelope.failures(delivery.failures)  # the history stays
    assert shard.snapshot().counters["requeued"] == 1


def test_requeue_all_is_bounded_and_takes_the_oldest_first(shard: Shard) -> None:
    buried(shard, 7)
    until = shard.now() + 1
    assert shard.run(operator_calls.requeue(shard.t, 5, until)) == Moved(5, 2)
    assert shard.run(operator_calls.requeue(shard.t, 5, until)) == Moved(2, 0)
    assert shard.snapshot().ready == 7


def test_requeue_leaves_what_died_later(shard: Shard) -> None:
    buried(shard, 2)
    assert shard.run(operator_calls.requeue(shard.t, 5, shard.now() - 60_000)) == Moved(0, 0)


def test_requeue_twice_moves_once(shard: Shard) -> None:
    [local] = buried(shard, 1)
    assert shard.run(operator_calls.requeue(shard.t, 5, 0, [local]))[0] == 1
    assert shard.run(operator_calls.requeue(shard.t, 5, 0, [local]))[0] == 0
    assert shard.snapshot().ready == 1


def test_purge_by_id_and_all(shard: Shard) -> None:
    ids = buried(shard, 5)
    assert shard.run(operator_calls.purge(shard.t, 100, 0, ids[:2])) == Moved(2, 0)
    assert shard.run(operator_calls.purge(shard.t, 2, shard.now() + 1)) == Moved(2, 1)
    assert shard.snapshot().counters["purged"] == 4
    assert shard.sizes().letters == 1


# -- housekeeping --------------------------------------------------------------------------------------


def test_repair_appends_anew_what_nobody_holds(shard: Shard) -> None:
    """A stray XACK (T07) leaves an entry that no read would find."""
    local = shard.put(b'{"a":1}')
    [delivery] = shard.fetch()
    shard.command("XACK", shard.t.normal, GROUP, delivery.place[1:])
    assert shard.fetch() == []
    assert shard.run(daemon_calls.repair(shard.t, "n", "-", 100)) == ("", 1)
    [again] = shard.fetch()
    assert (again.local, again.payload) == (local, b'{"a":1}')
    assert shard.settle([delivery]) == [False]


def test_repair_leaves_ready_and_running_tasks_alone(shard: Shard) -> None:
    shard.enqueue(*[NewTask(b"{}") for _ in range(10)])
    shard.fetch(budget=4)
    cursor, repaired = "-", 0
    while cursor:
        cursor, number = shard.run(daemon_calls.repair(shard.t, "n", cursor, 2))
        repaired += number
    assert repaired == 0
    assert shard.snapshot() == Snapshot(ready=6, running=4, counters={"accepted": 10})


def test_groups_are_made_from_the_first_entry_on(shard: Shard) -> None:
    """Guard: the group begins at 0 (T02, T03), so nothing that was added before it is missed."""
    shard.put()
    shard.fetch("old")
    shard.command("XGROUP", "DESTROY", shard.t.normal, GROUP)
    assert shard.run(worker_calls.groups(shard.t.streams)) == 1
    assert shard.run(worker_calls.groups(shard.t.streams)) == 0
    assert len(shard.fetch("new")) == 1


def test_sweep_removes_only_consumers_that_hold_nothing(shard: Shard) -> None:
    """Guard: pending = 0 in the same script (T01)."""
    shard.put()
    shard.fetch("busy")
    shard.command("XGROUP", "CREATECONSUMER", shard.t.normal, GROUP, "empty")
    assert shard.run(daemon_calls.sweep(shard.t.normal, shard.s, 0, 100)) == 1
    assert [row[1] for row in shard.command("XINFO", "CONSUMERS", shard.t.normal, GROUP)] == [b"busy"]


def test_sweep_spares_a_worker_that_sends_heartbeats(shard: Shard) -> None:
    shard.command("XGROUP", "CREATECONSUMER", shard.t.normal, GROUP, "idle")
    shard.run(worker_calls.beat(shard.s, "idle", b"{}"))
    assert shard.run(daemon_calls.sweep(shard.t.normal, shard.s, 1000, 100)) == 0


def test_leave_keeps_a_consumer_that_holds_something(shard: Shard) -> None:
    shard.put()
    shard.fetch("me")
    shard.run(worker_calls.beat(shard.s, "me", b"{}"))
    assert shard.run(worker_calls.leave(shard.s, "me", shard.t.streams)) == 3
    assert shard.run(question_calls.workers(shard.s)) == []
    assert shard.snapshot().running == 1


def test_trim_forgets_what_is_old(shard: Shard) -> None:
    local = shard.put()
    cancel(shard, local)
    shard.run(producer_calls.wait(shard.t, local, -10))
    shard.run(worker_calls.beat(shard.s, "old", b"{}"))
    assert shard.run(daemon_calls.trim([shard.t], shard.s, 60_000, 60_000, 100)) == 1
    assert shard.state(local) == "cancelled"
    assert shard.run(daemon_calls.trim([shard.t], shard.s, -1000, -1000, 100)) == 2
    assert shard.state(local) == "unknown"
    assert shard.run(question_calls.heartbeats(shard.s)) == {}


def test_register_tells_who_was_there_before(transport: SyncTransport) -> None:
    shard = Shard(transport)
    assert shard.run(producer_calls.register(shard.t, shard.s, "other:email", {})) == "tests:email"
    assert shard.run(question_calls.types(shard.s)) == ["email"]


# -- fetch ---------------------------------------------------------------------------------------------


def test_fetch_takes_no_more_than_its_budget_over_all_streams(shard: Shard) -> None:
    """Guard: the budget in the script. XREADGROUP's COUNT alone is for each stream (F01)."""
    for priority in ("low", "normal", "high"):
        shard.enqueue(*[NewTask(b"{}", priority) for _ in range(5)])
    assert [d.place[0] for d in shard.fetch(budget=7)] == ["h"] * 5 + ["n"] * 2


def test_fetch_returns_what_it_took_before_a_missing_group(shard: Shard) -> None:
    """Guard: pcall in the walk (F02). What was taken must reach the worker."""
    shard.put(priority="high")
    shard.command("XGROUP", "DESTROY", shard.t.normal, GROUP)
    assert len(shard.fetch(letters="hn")) == 1


def test_counts_know_the_age_of_the_oldest_ready_task(shard: Shard) -> None:
    shard.put()
    local = shard.put()
    shard.fetch(budget=1)
    counts = shard.run(question_calls.counts(shard.t))
    assert counts.oldest_ready_ms == int(local[1:].partition("-")[0])


# -- leases that workers were promised -------------------------------------------------------------------


def test_a_delivery_keeps_the_lease_that_its_worker_renews_under(shard: Shard) -> None:
    shard = Shard(shard.transport, {"lease_ms": "200"})
    for consumer in ("old", "told", "unknown"):
        shard.put()
        [delivery] = shard.fetch(consumer)
        shard.age(delivery, 1_000)
    for consumer, lease in (("old", 5_000), ("told", 200)):
        shard.run(worker_calls.beat(shard.s, consumer, b'{"lease_ms":%d}' % lease))
    assert shard.reclaim().returned == 2
    assert shard.snapshot().running == 1
    shard.run(worker_calls.beat(shard.s, "old", b'{"lease_ms":200}'))
    assert shard.reclaim().returned == 1


@pytest.mark.parametrize("told", [b"", b"nonsense", b'{"lease_ms":-1}', b'{"lease_ms":99999999999999999999}'])
def test_a_heartbeat_that_cannot_be_read_promises_nothing(shard: Shard, told: bytes) -> None:
    shard.put()
    [delivery] = shard.fetch("c")
    shard.age(delivery, 60_000)
    shard.run(worker_calls.beat(shard.s, "c", told))
    assert shard.reclaim().returned == 1
    shard.command("DEL", shard.s.heartbeats)
    shard.command("SET", shard.s.heartbeats, "no hash")
    [again] = shard.fetch("c")
    shard.age(again, 60_000)
    assert shard.reclaim().returned == 1


# -- times that are none -------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", ["nan", "-nan", "inf", "-inf", "1e400", "-5", "soon", "", "1e15"])
def test_a_retry_whose_delay_is_no_number_comes_again_soon(shard: Shard, delay: str) -> None:
    """NaN broke the script off behind its XACK: the task was running for ever; infinity was scheduled so."""
    local = shard.put()
    [delivery] = shard.fetch()
    answers = shard.run(
        worker_calls.settle(
            shard.t,
            shard.s,
            "settler",
            1,
            [Settlement(delivery.place, local, Retried(cast("int", delay), NONE))],
        )
    )
    assert answers == [True]
    shard.promote_until(1)
    assert [again.attempt for again in shard.fetch()] == [2]


@pytest.mark.parametrize("digits", ["9" * 15])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_due_time_beyond_all_bounds_is_a_number(shard: Shard, digits: str, absolute: bool) -> None:
    shard.enqueue(NewTask(b"{}", due=int(digits), absolute=absolute))
    [[_, score]] = [shard.command("ZRANGE", shard.t.schedule, 0, -1, "WITHSCORES")]
    assert float(score) < 1e14


@pytest.mark.parametrize("digits", ["9" * 16, "9" * 330])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_due_time_that_is_none_is_refused(shard: Shard, digits: str, absolute: bool) -> None:
    with pytest.raises(ServerError, match="MALFORMED task 1; nothing was written"):
        shard.enqueue(NewTask(b"{}", due=int(digits), absolute=absolute))


@pytest.mark.parametrize("life", ["nan", "inf", "-1", "many", "9" * 16])
def test_a_lifetime_that_is_no_number_is_refused(shard: Shard, life: str) -> None:
    with pytest.raises(ServerError, match="MALFORMED task 1; nothing was written"):
        shard.enqueue(NewTask(b"{}", fields=(("x", life),)))
    assert shard.snapshot().ready == 0


@pytest.mark.parametrize("life", ["nan", "inf", "-7", "many"])
def test_a_retention_that_is_no_number_ends_too(shard: Shard, life: str) -> None:
    local = shard.put()
    [delivery] = shard.fetch()
    call = worker_calls.settle(
        shard.t, shard.s, "settler", 1, [Settlement(delivery.place, local, Completed(b"1", 1))]
    )
    at = call.args.index(1, 7)
    shard.run(call._replace(args=(*call.args[:at], life, *call.args[at + 1 :])))
    assert 0 < shard.command("PTTL", shard.t.results(local)) <= 1000

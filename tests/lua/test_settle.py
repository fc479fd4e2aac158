"""settle.lua and renew.lua: given -> call -> want."""

from __future__ import annotations

import pytest

from streamq import envelope
from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
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
from tests.lua.shard import Shard, Snapshot

FAILURES = envelope.add_failure(b"", attempt=1, at_ms=1, worker="w", error="E", message="m", traceback="t")


@pytest.mark.parametrize(
    ("outcome", "state", "want"),
    [
        (Completed(b"42", 60_000), "completed", Snapshot(counters={"started": 1, "completed": 1})),
        (Completed(b"42", 0), "unknown", Snapshot(counters={"started": 1, "completed": 1})),
        (
            Retried(60_000, FAILURES),
            "scheduled",
            Snapshot(scheduled=1, counters={"started": 1, "retried": 1}),
        ),
        (Retried(0, FAILURES), "ready", Snapshot(ready=1, counters={"started": 1, "retried": 1})),
        (Died("attempts", FAILURES), "dead", Snapshot(dead=1, counters={"started": 1, "dead": 1})),
        (Died("version", FAILURES, started=False), "dead", Snapshot(dead=1, counters={"dead": 1})),
        (Cancelled(), "cancelled", Snapshot(counters={"started": 1, "cancelled": 1})),
        (Expired(), "expired", Snapshot(counters={"expired": 1})),
        (HandedBack(), "ready", Snapshot(ready=1, counters={"handed_back": 1})),
        (
            HandedBack(delay_ms=60_000, times=1),
            "scheduled",
            Snapshot(scheduled=1, counters={"handed_back": 1}),
        ),
        (HandedBack(started=True), "ready", Snapshot(ready=1, counters={"started": 1, "handed_back": 1})),
    ],
)
@pytest.mark.parametrize("moved", [False, True])
def test_every_way_to_end(shard: Shard, outcome: Outcome, state: str, want: Snapshot, moved: bool) -> None:
    local = shard.put(b'{"a":1}', priority="high", delay_ms=5 if moved else None)
    if moved:
        shard.promote_until(1)
    deliveries = shard.fetch()
    assert deliveries[0].moved is moved
    assert shard.settle(deliveries, outcome) == [True]
    assert shard.state(local) == state
    got = shard.snapshot()
    assert got == Snapshot(got.ready, got.running, got.scheduled, got.dead, {"accepted": 1, **want.counters})
    assert (got.ready, got.scheduled, got.dead) == (want.ready, want.scheduled, want.dead)
    assert shard.sizes().index == (1 if state in ("scheduled", "ready") else 0)


def test_a_result_is_kept_and_expires(shard: Shard) -> None:
    local = shard.put()
    shard.settle(shard.fetch(), Completed(b'"done"', 60_000))
    assert shard.locate(local).result == b'"done"'
    assert 50_000 < shard.command("PTTL", shard.t.results(local)) <= 60_000


def test_a_longer_retention_prolongs_and_a_shorter_does_not_cut(shard: Shard) -> None:
    local = shard.put()
    shard.settle(shard.fetch(), Completed(b"1", 60_000))
    other = shard.put()
    shard.settle(shard.fetch(), Completed(b"1", 1_000))
    if shard.t.results(local) == shard.t.results(other):
        assert shard.command("PTTL", shard.t.results(local)) > 50_000


def test_only_the_holder_settles_and_only_once(shard: Shard) -> None:
    """The promise: settled at most once."""
    shard.put()
    deliveries = shard.fetch()
    assert shard.settle(deliveries) == [True]
    assert shard.settle(deliveries) == [False]
    assert shard.settle(deliveries, Died("attempts", FAILURES)) == [False]
    assert shard.snapshot() == Snapshot(counters={"accepted": 1, "started": 1, "completed": 1})


def test_a_repeated_call_gets_the_first_answer(shard: Shard) -> None:
    shard.put()
    shard.put()
    deliveries = shard.fetch()
    assert shard.settle(deliveries, Retried(0, FAILURES), sequence=5) == [True, True]
    assert shard.settle(deliveries, Retried(0, FAILURES), sequence=5) == [True, True]
    assert shard.snapshot() == Snapshot(ready=2, counters={"accepted": 2, "started": 2, "retried": 2})


def test_a_stale_worker_changes_nothing(shard: Shard) -> None:
    """Guard: XACK's answer. The entry was reclaimed, so the old delivery does not exist any more."""
    local = shard.put()
    [old] = shard.fetch("dead-worker")
    shard.age(old, 60_000)
    assert shard.reclaim().returned == 1
    assert shard.settle([old], Completed(b'"stale"', 60_000)) == [False]
    [new] = shard.fetch("other")
    assert shard.settle([new], Completed(b'"good"', 60_000)) == [True]
    assert shard.settle([old], Died("attempts", FAILURES)) == [False]
    assert shard.locate(local).result == b'"good"'
    assert shard.snapshot().counters["completed"] == 1


def test_priority_and_history_survive_retries(shard: Shard) -> None:
    shard.put(priority="low")
    for attempt in (1, 2, 3):
        [delivery] = shard.fetch()
        assert (delivery.attempt, delivery.place[0]) == (attempt, "l")
        history = envelope.add_failure(
            delivery.failures, attempt=attempt, at_ms=1, worker="w", error="E", message="m", traceback=""
        )
        shard.settle([delivery], Retried(1 if attempt == 2 else 0, history))
        if attempt == 2:
            shard.promote_until(1)
    [delivery] = shard.fetch()
    assert [f["attempt"] for f in envelope.failures(delivery.failures)] == [1, 2, 3]


def test_an_entry_deleted_behind_our_back_is_not_lost_silently(shard: Shard) -> None:
    local = shard.put()
    [delivery] = shard.fetch()
    shard.command("XDEL", shard.stream(delivery), delivery.place[1:])
    assert shard.settle([delivery], Retried(0, FAILURES)) == [True]
    assert shard.locate(local).detail["reason"] == "vanished"


def test_unknown_fields_of_a_newer_release_pass_through(shard: Shard) -> None:
    shard.command("XADD", shard.t.normal, "*", "p", "{}", "zz", "new")
    shard.settle(shard.fetch(), Retried(0, FAILURES))
    [entry] = shard.fetch_raw()
    assert entry.fields is not None
    assert envelope.fields_dict(entry.fields)["zz"] == b"new"


def test_who_waits_is_told(shard: Shard) -> None:
    local = shard.put()
    shard.run(producer_calls.wait(shard.t, local, 5000))
    assert shard.sizes().waiters == 1
    shard.settle(shard.fetch())
    assert shard.sizes().waiters == 0


def test_renew_freshens_ours_and_tells_the_rest(shard: Shard) -> None:
    shard.put()
    shard.put()
    ours = shard.fetch("me", budget=1)
    other = shard.fetch("other", budget=1)
    shard.age(ours[0], 60_000)
    renewal = shard.run(worker_calls.renew(shard.t, "me", [(d.place, d.local) for d in (*ours, *other)]))
    assert renewal.fenced == (other[0].place,)
    assert shard.reclaim().returned == 0
    assert shard.run(worker_calls.pending(shard.t, "n", "me", 10)) == [ours[0].place]
    assert shard.run(worker_calls.pending(shard.t, "n", "other", 10)) == [other[0].place]


def test_renewing_what_was_settled_brings_nothing_back(shard: Shard) -> None:
    shard.put()
    [delivery] = shard.fetch("me")
    shard.settle([delivery])
    assert shard.run(worker_calls.renew(shard.t, "me", [(delivery.place, delivery.local)])).fenced == (
        delivery.place,
    )
    assert shard.snapshot().running == 0


def test_renew_answers_the_registered_lease(shard: Shard) -> None:
    assert shard.run(worker_calls.renew(shard.t, "me", [])).lease_ms == 10_000
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", {"lease_ms": "700"}))
    assert shard.run(worker_calls.renew(shard.t, "me", [])).lease_ms == 700


def completed(shard: Shard, deliveries: list[Delivery]) -> list[bool]:
    return shard.settle(deliveries, Completed(b'"r"', 60_000))


def test_in_a_batch_each_delivery_is_judged_alone(shard: Shard) -> None:
    """Guard: sort_out in settle.lua, which finds out whose the entries were when not all were pending."""
    kept = [shard.put(), shard.put(), shard.put()]
    mine = shard.fetch("me")
    shard.age(mine[1], 60_000)
    assert shard.reclaim().returned == 1
    assert completed(shard, mine) == [True, False, True]
    assert shard.locate(kept[1]).result is None
    assert [shard.locate(kept[n]).result for n in (0, 2)] == [b'"r"', b'"r"']
    [again] = shard.fetch("other")
    assert completed(shard, [again]) == [True]
    assert shard.snapshot() == Snapshot(
        counters={"accepted": 3, "started": 4, "completed": 3, "reclaimed": 1}
    )


def test_entries_that_wait_anew_since_their_group_was_lost_are_left_alone(shard: Shard) -> None:
    """Guard: `later` in settle.lua. Such an entry is nobody's until it is fetched again."""
    for _ in range(3):
        shard.put()
    mine = shard.fetch("me")
    shard.command("XGROUP", "DESTROY", shard.t.normal, "workers")
    shard.run(worker_calls.groups(shard.t.streams))
    first = shard.fetch("other", budget=1)
    assert completed(shard, mine) == [True, False, False]  # the first was delivered: once is enough
    assert completed(shard, first) == [False]
    assert completed(shard, shard.fetch("other")) == [True, True]
    assert shard.snapshot() == Snapshot(counters={"accepted": 3, "started": 3, "completed": 3})


def test_a_delivery_that_is_named_twice_in_a_call_is_settled_once(shard: Shard) -> None:
    """Found by the chaos runs: its group was destroyed, and it came to the same worker again."""
    shard.put()
    shard.put()
    one, other = shard.fetch()
    assert shard.settle([one, other, one], Completed(b"1", 60_000)) == [True, True, False]
    assert shard.snapshot() == Snapshot(counters={"accepted": 2, "started": 2, "completed": 2})
    assert shard.locate(one.local).result == b"1"


def test_an_entry_that_was_deleted_while_it_ran_counts_as_completed(shard: Shard) -> None:
    for _ in range(2):
        shard.put()
    mine = shard.fetch("me")
    shard.command("XDEL", shard.stream(mine[0]), mine[0].place[1:])
    completed(shard, mine)
    assert shard.snapshot() == Snapshot(counters={"accepted": 2, "started": 2, "completed": 2})


def test_who_waits_for_one_of_many_is_told(shard: Shard) -> None:
    shard.put()
    waited_for = shard.put()
    shard.run(producer_calls.wait(shard.t, waited_for, 5000))
    completed(shard, shard.fetch())
    assert shard.sizes().waiters == 0


def test_plain_completions_and_others_answer_in_their_own_order(shard: Shard) -> None:
    for priority in ("low", "high", "normal"):
        shard.put(priority=priority)
    high, normal, low = shard.fetch()
    settlements = [
        Settlement(low.place, low.local, Completed(b"1", 1000)),
        Settlement(normal.place, normal.local, Retried(0, FAILURES)),
        Settlement("n1-1", "n1-1", Completed(b"", 0)),
        Settlement(high.place, high.local, Completed(b"", 0)),
    ]
    assert shard.run(worker_calls.settle(shard.t, shard.s, "writer", 1, settlements)) == [
        True,
        True,
        False,
        True,
    ]

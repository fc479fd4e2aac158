"""What something else wrote or deleted, behind the scripts' back: given -> call -> want.

Nothing is lost that is still there, the books add up, and the reason can be found.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from streamq import envelope
from streamq.calls import audit as audit_calls
from streamq.calls import daemon as daemon_calls
from streamq.calls import listing as listing_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.keys import GROUP
from streamq.model.delivery import Delivery
from streamq.model.outcome import Completed, Died, Retried
from streamq.model.reply import Moved, Note
from streamq.transport.sync_transport import SyncTransport
from tests.faults.proof import both, judged
from tests.letters import dead_page
from tests.lua.shard import Shard, Snapshot
from tests.variant import changed, without

NONE = b"[]"
LATEST = 9_999_999_999_998
LEASE = 10_000

# MessagePack that is no dead letter of ours: nil, numbers, a letter without fields, fields that are no texts.
HOSTILE = [
    b"", b"\xc0", b"\xc1", b"\x90", b"\x94\xc0\xc0\xc0\xc0", b"\x94\xa1x\xa1n\xa11\xc0", b"\x91\x91\x91\xc0",
    b"\x94\xa1x\xa1n\xa15\x92\x01\x02", b"\x95\xa1x\xa1n\xa15\x92\xa1p\xa2{}\x90", b"\xdd\xff\xff\xff\xff",
    b"\x94\x01\x02\x03\x92\xa1p\xa2{}", b"\x95\xa1x\xa1n\xc0\x92\xa1p\xa2{}\xa1f",
]  # fmt: skip


# -- two entries with one id ---------------------------------------------------------------------------


def test_no_letter_takes_anothers_place(shard: Shard) -> None:
    """A task was copied by hand: both end as dead letters, each with its own payload."""
    for n in range(3):
        shard.command("XADD", shard.t.normal, "*", "p", b'{"n":%d}' % n, "i", "n5-0")
    shard.command("HSET", shard.t.counters, "accepted", 3)
    shard.settle(shard.fetch(), Died("arguments", NONE))
    assert shard.snapshot().dead == 3
    letters = shard.run(dead_page(shard.t, 0, 10))
    fields = {letter.id.local: envelope.fields_dict(letter.fields) for letter in letters}
    assert {have["p"] for have in fields.values()} == {b'{"n":0}', b'{"n":1}', b'{"n":2}'}
    assert fields.pop("n5-0").get("o") is None
    assert {have["o"] for have in fields.values()} == {b"n5-0"}
    assert all(have["i"].decode() == local for local, have in fields.items())
    assert shard.run(operator_calls.requeue(shard.t, 10, LATEST)) == Moved(3, 0)
    assert shard.settle(shard.fetch()) == [True] * 3
    assert shard.snapshot().counters["completed"] == 3


def test_nor_where_both_have_lost_their_workers(shard: Shard) -> None:
    shard.command("HSET", shard.t.policy, "max_lost", 1)
    for n in range(2):
        shard.command("XADD", shard.t.normal, "*", "p", b'{"n":%d}' % n, "i", "n5-0")
    shard.command("HSET", shard.t.counters, "accepted", 2)
    for delivery in shard.fetch():
        shard.age(delivery, LEASE)
    assert shard.reclaim().dead == 2
    assert shard.snapshot().dead == 2
    assert shard.sizes().letters == shard.sizes().groups == 2


# -- a delivery whose entry was deleted ----------------------------------------------------------------


def deleted(shard: Shard, delivery: Delivery, age: int = 0) -> Delivery:
    """Somebody deletes the entry of a delivery that is so old."""
    if age:
        shard.age(delivery, age)
    shard.command("XDEL", shard.stream(delivery), delivery.place[1:])
    return delivery


def held(shard: Shard, *, moved: bool = False, priority: Any = "normal") -> Delivery:
    shard.put(b'{"n":1}', priority=priority)
    if moved:
        shard.settle(shard.fetch(), Retried(0, NONE))
    return shard.fetch("worker-1")[0]


def why(shard: Shard, local: str) -> tuple[str, str, str]:
    """A dead letter's reason, and the last error and its worker."""
    located = shard.locate(local)
    [*_, last] = envelope.failures(envelope.fields_dict(located.fields)["f"])
    return located.detail["reason"], last["error"], last["worker"]


@pytest.mark.parametrize("moved", [False, True])
def test_of_a_deleted_delivery_whose_worker_is_gone_a_letter_remains(shard: Shard, moved: bool) -> None:
    """Guard: XAUTOCLAIM's empty answer. It forgets such a delivery, and the books would be wrong by one."""
    delivery = deleted(shard, held(shard, moved=moved, priority="high"), LEASE)
    reclaim = shard.reclaim("h")
    assert (reclaim.returned, reclaim.dead) == (0, 1)
    assert shard.snapshot().dead == 1
    assert shard.snapshot().running == 0
    assert why(shard, delivery.local) == ("vanished", "EntryDeleted", "worker-1")
    assert shard.locate(delivery.local).detail["stream"] == "h"
    sizes = shard.sizes()
    assert (sizes.index, sizes.letters, sizes.groups) == (0, 1, 1)
    assert shard.reclaim("h").dead == 0


def test_who_waits_for_a_deleted_task_is_told_and_a_cancel_request_goes(shard: Shard) -> None:
    delivery = held(shard)
    shard.run(producer_calls.wait(shard.t, delivery.local, 60_000))
    shard.command("HSET", shard.t.cancels, delivery.local, "1")
    deleted(shard, delivery, LEASE)
    shard.reclaim()
    assert (shard.sizes().waiters, shard.sizes().cancels) == (0, 0)


def test_a_living_worker_may_complete_what_was_deleted(shard: Shard) -> None:
    """Guard: one delivery a call. Over a longer stretch XAUTOCLAIM takes it from a worker that renews."""
    delivery = deleted(shard, held(shard))
    assert (shard.reclaim().dead, shard.running()) == (0, 1)
    assert shard.settle([delivery], Completed(b"1", 60_000)) == [True]
    assert shard.state(delivery.local) == "completed"
    assert shard.run(question_calls.counts(shard.t)).imbalance == 0


@pytest.mark.parametrize("moved", [False, True])
def test_a_worker_that_renews_what_was_deleted_is_told_and_a_letter_remains(
    shard: Shard, moved: bool
) -> None:
    """Guard: XCLAIM's empty answer. It forgets the delivery, so nobody would ever settle the task."""
    delivery = deleted(shard, held(shard, moved=moved))
    other = held(shard)
    pairs = [(d.place, d.local) for d in (delivery, other)]
    assert shard.run(worker_calls.renew(shard.t, "worker-1", pairs)).fenced == (delivery.place,)
    assert shard.settle([delivery]) == [False]
    assert why(shard, delivery.local) == ("vanished", "EntryDeleted", "worker-1")
    assert shard.settle([other]) == [True]
    assert (shard.snapshot().dead, shard.sizes().index) == (1, 0)


@both
def test_a_clock_jump_leaves_what_was_deleted_to_reclaim(shard: Shard, guarded: bool) -> None:
    """Guard: restamp looks for the entry first, since XCLAIM forgets a delivery that has none."""
    deleted(shard, held(shard), LEASE)
    blind = without("restamp", "if redis.call('XRANGE', stream, row[1], row[1])[1] then", "if true then")
    with changed(*([] if guarded else [blind])), judged(guarded):
        shard.run(daemon_calls.restamp(shard.t.normal, "-", 100))
        assert shard.running() == 1
        assert shard.reclaim().dead == 1
        shard.snapshot()


def test_many_deleted_deliveries_are_written_off_in_bounded_steps(shard: Shard) -> None:
    """Together with those that are there, and more than one step takes."""
    for _ in range(30):
        shard.put()
    for n, delivery in enumerate(shard.fetch()):
        shard.age(delivery, LEASE)
        if n % 3 == 0:
            shard.command("XDEL", shard.t.normal, delivery.place[1:])
    cursor, steps, dead, returned = "0-0", 0, 0, 0
    while steps == 0 or cursor != "0-0":
        reclaim = shard.reclaim(cursor=cursor, limit=4)
        cursor, steps = reclaim.cursor, steps + 1
        dead, returned = dead + reclaim.dead, returned + reclaim.returned
    assert (dead, returned) == (10, 20)
    assert steps == 8
    assert shard.snapshot().ready == 20


def test_in_a_large_index_a_deleted_task_goes_by_its_place(shard: Shard) -> None:
    """The index is looked through in a bounded step only; the leftover row is what the audit repairs."""
    delivery = held(shard, moved=True)
    rows = [part for n in range(30_000) for part in (f"d1-{n}", f"n9-{n}")]
    for start in range(0, len(rows), 10_000):
        shard.command("HSET", shard.t.index, *rows[start : start + 10_000])
    deleted(shard, delivery, LEASE)
    assert shard.reclaim().dead == 1
    assert {shard.state(delivery.local), shard.state(delivery.place)} & {"dead"}
    shard.snapshot()


# -- dead letters without a payload --------------------------------------------------------------------


def vanished(shard: Shard) -> str:
    delivery = deleted(shard, held(shard), LEASE)
    assert shard.reclaim().dead == 1
    return delivery.local


def test_what_has_no_payload_is_not_requeued(shard: Shard) -> None:
    """It could not run: it would only be adopted as if something else had written it."""
    gone = vanished(shard)
    alive = shard.put()
    shard.settle(shard.fetch(), Died("attempts", NONE))
    assert shard.run(operator_calls.requeue(shard.t, 10, 0, [gone, "n1-1"])) == Moved(0, 0, 1)
    assert shard.run(operator_calls.requeue(shard.t, 10, LATEST)) == Moved(1, 1, 1)
    assert (shard.state(gone), shard.state(alive)) == ("dead", "ready")
    assert shard.snapshot().counters["requeued"] == 1


def test_it_keeps_no_other_from_being_requeued(shard: Shard) -> None:
    """More of them than a step takes lie before the others."""
    for _ in range(3):
        vanished(shard)
    shard.put()
    shard.settle(shard.fetch(), Died("attempts", NONE))
    assert shard.run(operator_calls.requeue(shard.t, 2, LATEST)) == Moved(0, 4, 2)
    assert shard.run(operator_calls.requeue(shard.t, 2, LATEST, skip=2)) == Moved(1, 3, 1)
    assert shard.run(operator_calls.requeue(shard.t, 2, LATEST, skip=3)) == Moved(0, 3)
    assert shard.run(operator_calls.requeue(shard.t, 2, LATEST, skip=2, fingerprint="vanished")) == Moved(
        0, 3, 1
    )


def test_it_can_be_purged_or_given_a_payload(shard: Shard) -> None:
    one, two = vanished(shard), vanished(shard)
    assert shard.run(operator_calls.purge(shard.t, 10, 0, [one])) == Moved(1, 0)
    new = shard.run(operator_calls.resubmit(shard.t, two, b'{"n":2}', Note("a", b"{}")))
    [delivery] = shard.fetch()
    assert (delivery.local, delivery.payload) == (new, b'{"n":2}')
    assert shard.settle([delivery]) == [True]
    shard.snapshot()


# -- stored letters that are none of ours --------------------------------------------------------------


@pytest.fixture
def hostile(shard: Shard) -> list[str]:
    """Stored under ids of ours, listed, in groups; and one good letter among them."""
    shard.put(b'{"n":1}')
    shard.settle(shard.fetch(), Died("attempts", NONE, fingerprint="aaa"))
    ids = [f"n{n + 1}-0" for n in range(len(HOSTILE))]
    for local, packed in zip(ids, HOSTILE, strict=True):
        shard.command("HSET", shard.t.letters, local, packed)
        shard.command("ZADD", shard.t.dead, 5, local)
        shard.command("ZADD", shard.t.groups, 0, f"aaa 0000000000005 {local}")
    return ids


@pytest.mark.parametrize(
    "members", [(), ("", "x", "aaa", " ", "aaa ", "zzz x y", "b  ", "q 1", "r " + "9" * 4400 + " x")]
)
def test_groups_are_listed_whatever_is_in_them(shard: Shard, hostile: list[str], members: tuple[str]) -> None:
    for member in members:
        shard.command("ZADD", shard.t.groups, 0, member)
    for local in hostile:  # each once as the latest of a group
        shard.command("ZADD", shard.t.groups, 0, f"g{local} 0000000000006 {local}")
    found = {group.fingerprint: group for group in shard.run(listing_calls.dead_groups(shard.t, "", 100))}
    assert found["aaa"].size >= len(hostile) + 1
    assert {f"g{local}" for local in hostile} <= set(found)
    rows = shard.run(listing_calls.page_dead(shard.t, "", 100, "aaa")).rows
    assert {row.local for row in rows} >= set(hostile)
    assert [row.reason for row in rows].count("attempts") == 1
    cursor, seen = "", 0
    for _ in range(len(hostile) + 5):
        page = shard.run(listing_calls.page_dead(shard.t, cursor, 1, "aaa"))
        cursor, seen = page.cursor, seen + len(page.rows)
        if not cursor:
            break
    assert seen == len(rows)
    shard.run(listing_calls.page_dead(shard.t, "", 100))
    shard.run(dead_page(shard.t, 0, 100))


def test_none_of_them_is_resubmitted_or_fails_the_call(shard: Shard, hostile: list[str]) -> None:
    before = shard.sizes()
    for local in hostile:
        if not shard.run(operator_calls.resubmit(shard.t, local, b"{}", Note(f"a{local}", b"{}"))):
            assert shard.command("HEXISTS", shard.t.letters, local)
    assert shard.sizes().letters >= before.letters - 3  # three have fields that can be read
    assert shard.run(operator_calls.requeue(shard.t, 100, LATEST)).done >= 1


def test_one_that_cannot_be_dated_is_told_not_listed_again(shard: Shard, hostile: list[str]) -> None:
    for local in hostile:
        shard.command("ZREM", shard.t.dead, local)
        [fault] = shard.run(audit_calls.audit_dead(shard.t, [local]))
        mended = shard.run(audit_calls.repair_dead(shard.t, local))
        assert mended == (fault.code == "unlisted_letter")
        assert fault.code in ("unlisted_letter", "unreadable_letter")


def test_the_group_of_a_stream_holds_no_claimer(shard: Shard, transport: SyncTransport) -> None:
    """Deliveries pass through nobody's hands on their way back."""
    shard.age(held(shard), LEASE)
    assert shard.reclaim().returned == 1
    assert len(shard.command("XINFO", "CONSUMERS", shard.t.normal, GROUP)) == 1
    assert shard.snapshot() == Snapshot(ready=1, counters={"accepted": 1, "reclaimed": 1, "started": 1})


@pytest.mark.parametrize("state", ["ready", "dead"])
def test_a_list_is_not_slow_over_large_failures_that_are_not_ours(shard: Shard, state: str) -> None:
    """A pattern that begins anew at each byte takes minutes over a mebibyte, and the server serves nobody."""
    for _ in range(5):
        shard.run(
            Call(
                None,
                (shard.t.normal,),
                ("XADD", shard.t.normal, "*", "p", "{}", "f", b"x" * 300_000),
                lambda reply: reply,
            )
        )
    if state == "dead":
        shard.settle(shard.fetch(), Died("attempts", b"x" * 300_000))
    page = (
        listing_calls.page_dead(shard.t, "", 50)
        if state == "dead"
        else listing_calls.page_streams(shard.t, "ready", "", 50)
    )
    began = time.monotonic()
    assert shard.run(page).rows
    assert time.monotonic() - began < 5


# -- the record of a writer's last call -----------------------------------------------------------------


@pytest.mark.parametrize("record", [*HOSTILE, b"12", b"9" * 400 + b" x", b"\x92\xa11\xa1a", None])
def test_a_writers_record_that_is_not_its_own_costs_nothing(shard: Shard, record: bytes | None) -> None:
    for writer in ("w", "settler"):
        key = shard.t.writer(writer)
        if record is None:
            shard.command("RPUSH", key, "x")
        else:
            shard.command("SET", key, record)
    shard.put()
    shard.put(delay_ms=600_000)
    assert shard.settle(shard.fetch()) == [True]
    for writer in ("w", "settler"):
        assert shard.command("PTTL", shard.t.writer(writer)) > 0
    assert shard.settle([]) == []

"""pause, drain, orders, run_now, resubmit, groups of dead letters, pages, rollups: given -> call -> want."""

from __future__ import annotations

import time
from typing import Any

import pytest

from streamq import envelope
from streamq.calls import daemon as daemon_calls
from streamq.calls import listing as listing_calls
from streamq.calls import operator as operator_calls
from streamq.calls import rollup as rollup_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.calls.rollup import MINUTE_MS
from streamq.control.inspector import Inspector
from streamq.model.outcome import Cancelled, Completed, Died, Expired, Retried
from streamq.model.reply import Moved, Note, Orders
from streamq.model.task import NewTask, State
from tests.letters import dead_page
from tests.lua.shard import Shard, Snapshot

NONE = b"[]"
LATEST = 9_999_999_999_998
STORED = "local fields = {} for n = 4, #ARGV do fields[#fields + 1] = ARGV[n] end "
LETTER = STORED + (
    "redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack({'lost', 'n', ARGV[2], fields, ARGV[3]}))"
)
ROW = STORED + "redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2] .. cmsgpack.pack(fields))"
NOTE = Note("action-1", b'{"verb":"test"}')


def noted(shard: Shard) -> list[tuple[str, int]]:
    """What the log of actions says, newest first, with how much was done."""
    ids = shard.run(listing_calls.action_log(shard.s, 100))
    rows = shard.run(listing_calls.actions(shard.s, ids)) if ids else []
    return [((row or b"").partition(b" ")[2].decode(), done) for row, done in rows]


def buried(shard: Shard, number: int, fingerprint: str = "", reason: str = "attempts") -> list[str]:
    ids = [shard.put(b'{"n":%d}' % n, priority="high") for n in range(number)]
    shard.settle(shard.fetch(budget=number), Died(reason, NONE, fingerprint=fingerprint))
    return ids


# -- pause, drain --------------------------------------------------------------------------------------


def test_pause_and_resume_are_told_and_noted(shard: Shard) -> None:
    assert shard.run(operator_calls.pause(shard.s, "email", b'{"by":"ada"}', NOTE)) is True
    assert (
        shard.run(operator_calls.pause(shard.s, "email", b'{"by":"bob"}', Note("action-2", b"{}"))) is False
    )
    assert shard.run(worker_calls.orders(shard.s, "w")) == Orders(
        frozenset({"email"}), drain=False, tell=False
    )
    assert shard.run(listing_calls.paused(shard.s)) == {"email": b'{"by":"ada"}'}
    assert shard.run(operator_calls.resume(shard.s, "email")) is True
    assert shard.run(operator_calls.resume(shard.s, "email")) is False
    assert shard.run(worker_calls.orders(shard.s, "w")).paused == frozenset()
    assert noted(shard) == [("{}", 0), ('{"verb":"test"}', 1)]


def test_only_a_worker_that_lives_can_be_drained(shard: Shard) -> None:
    assert shard.run(operator_calls.drain(shard.s, "w", NOTE)) is False
    shard.run(worker_calls.beat(shard.s, "w", b"{}"))
    assert shard.run(operator_calls.drain(shard.s, "w", NOTE)) is True
    assert shard.run(worker_calls.orders(shard.s, "w")).drain
    assert not shard.run(worker_calls.orders(shard.s, "other")).drain
    assert 0 < shard.command("PTTL", shard.s.drains) <= 86_400_000
    assert noted(shard) == [('{"verb":"test"}', 1)]


def test_the_log_of_actions_keeps_the_latest_thousand(shard: Shard) -> None:
    for n in range(1003):
        shard.run(operator_calls.pause(shard.s, "email", b"{}", Note(f"a{n}", b"{}")))
    assert shard.run(listing_calls.action_log(shard.s, 2000))[0] == "a1002"
    assert shard.command("LLEN", shard.s.action_log) == 1000
    assert shard.command("HLEN", shard.s.actions) == 2000


# -- run now -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [False, True])
def test_run_now_makes_a_scheduled_task_ready(shard: Shard, moved: bool) -> None:
    if moved:
        local = shard.put(b'{"a":1}', priority="low")
        shard.settle(shard.fetch(), Retried(60_000, NONE))
    else:
        local = shard.put(b'{"a":1}', priority="low", delay_ms=60_000)
    assert shard.run(operator_calls.run_now(shard.t, local, NOTE)) is True
    assert shard.run(operator_calls.run_now(shard.t, local, NOTE)) is False
    [delivery] = shard.fetch()
    assert (delivery.local, delivery.payload, delivery.place[0]) == (local, b'{"a":1}', "l")
    assert shard.snapshot().scheduled == 0
    shard.settle([delivery])
    assert shard.sizes().index == 0
    assert noted(shard) == [('{"verb":"test"}', 1)]


def test_run_now_leaves_others_alone(shard: Shard) -> None:
    ready = shard.put()
    assert shard.run(operator_calls.run_now(shard.t, ready)) is False
    assert shard.run(operator_calls.run_now(shard.t, "d1-5")) is False
    shard.command("ZADD", shard.t.schedule, 5000, b"000000000007n\xc1garbage")
    assert shard.run(operator_calls.run_now(shard.t, "d5000-7")) is False
    assert shard.command("XLEN", shard.t.normal) == 1


# -- groups of dead letters ----------------------------------------------------------------------------


def groups(shard: Shard, slices: int = 3) -> list[tuple[str, int, tuple[int, ...]]]:
    found = shard.run(listing_calls.dead_groups(shard.t, "", 10))
    lines = shard.run(
        listing_calls.dead_slices(shard.t, 60_000, slices, [group.fingerprint for group in found])
    )
    return [(group.fingerprint, group.size, line) for group, line in zip(found, lines, strict=True)]


def sizes(shard: Shard) -> dict[str, int]:
    return {fingerprint: size for fingerprint, size, _ in groups(shard)}


def test_letters_are_grouped_where_they_are_made(shard: Shard) -> None:
    buried(shard, 3, "aaa")
    [last] = buried(shard, 1, "bbb")
    buried(shard, 1, reason="arguments")
    assert groups(shard) == [("aaa", 3, (0, 0, 3)), ("arguments", 1, (0, 0, 1)), ("bbb", 1, (0, 0, 1))]
    found = {group.fingerprint: group for group in shard.run(listing_calls.dead_groups(shard.t, "", 10))}
    assert (found["bbb"].last_local, found["bbb"].reason) == (last, "attempts")
    assert found["aaa"].first_ms <= found["aaa"].last_ms
    assert envelope.fields_dict(found["bbb"].fields)["p"] == b'{"n":0}'
    assert [g.fingerprint for g in shard.run(listing_calls.dead_groups(shard.t, "aaa", 1))] == ["arguments"]


def test_one_fingerprint_may_be_the_beginning_of_another(shard: Shard) -> None:
    buried(shard, 2, "abc")
    buried(shard, 1, "abcd")
    assert groups(shard, 1) == [("abc", 2, (2,)), ("abcd", 1, (1,))]
    assert shard.run(operator_calls.purge(shard.t, 100, LATEST, fingerprint="abc")) == Moved(2, 0)
    assert groups(shard, 1) == [("abcd", 1, (1,))]


def test_lost_and_undecodable_tasks_are_grouped_by_their_reason(shard: Shard) -> None:
    shard.command("ZADD", shard.t.schedule, 2, b"nonsense")
    shard.promote()
    shard.put()
    for letter in "nnsssssss":
        for delivery in shard.fetch("gone"):
            shard.age(delivery, 60_000)
        shard.reclaim(letter)
    assert sizes(shard) == {"lost": 1, "undecodable": 1}


@pytest.mark.parametrize("verb", ["requeue", "purge"])
def test_groups_shrink_with_their_letters(shard: Shard, verb: str) -> None:
    """Guard: ZREM of the member in requeue and purge. The group would name letters that are gone."""
    first = buried(shard, 3, "aaa")
    buried(shard, 2, "bbb")
    step = operator_calls.requeue if verb == "requeue" else operator_calls.purge
    shard.run(step(shard.t, 100, 0, first[:1], note=NOTE))
    assert sizes(shard) == {"aaa": 2, "bbb": 2}
    assert shard.run(step(shard.t, 1, LATEST, fingerprint="aaa", note=NOTE)) == Moved(1, 1)
    assert shard.run(step(shard.t, 9, LATEST, fingerprint="aaa", note=NOTE)) == Moved(1, 0)
    assert sizes(shard) == {"bbb": 2}
    assert shard.run(step(shard.t, 9, LATEST, note=NOTE)) == Moved(2, 0)
    assert sizes(shard) == {}
    assert shard.sizes().groups == shard.sizes().dead == 0
    assert noted(shard) == [('{"verb":"test"}', 5)]
    shard.snapshot()


def test_a_kind_is_counted_and_taken_by_time_of_death(shard: Shard) -> None:
    buried(shard, 2, "aaa")
    died = shard.run(dead_page(shard.t, 0, 1))[0].died_ms
    for mark in ("", "aaa"):
        assert shard.run(listing_calls.dead_count(shard.t, 0, died, mark)) == 2
        assert shard.run(listing_calls.dead_count(shard.t, died + 1, LATEST, mark)) == 0
        assert shard.run(
            operator_calls.purge(shard.t, 9, LATEST, since_ms=died + 1, fingerprint=mark)
        ) == Moved(0, 0)
        assert shard.run(operator_calls.purge(shard.t, 9, died - 1000, fingerprint=mark)) == Moved(0, 0)


def test_a_letter_that_dies_again_is_in_one_group(shard: Shard) -> None:
    [local] = buried(shard, 1, "aaa")
    shard.run(operator_calls.requeue(shard.t, 9, 0, [local]))
    shard.settle(shard.fetch(), Died("attempts", NONE, fingerprint="bbb"))
    assert sizes(shard) == {"bbb": 1}


# -- edit and requeue ----------------------------------------------------------------------------------


def test_resubmit_puts_a_new_task_in_the_letters_place(shard: Shard) -> None:
    [answer] = shard.enqueue(NewTask(b'{"a":1}', "low", fields=(("m", b'{"timeout":5}'), ("x", "60000"))))
    old = getattr(answer, "local", "")
    shard.settle(shard.fetch(), Died("attempts", NONE, fingerprint="aaa"))
    new = shard.run(operator_calls.resubmit(shard.t, old, b'{"a":2}', NOTE))
    assert new != old
    assert shard.state(old) == "unknown"
    [entry] = shard.fetch_raw()
    assert entry.fields is not None
    assert envelope.fields_dict(entry.fields) == {"p": b'{"a":2}', "o": old.encode(), "m": b'{"timeout":5}'}
    assert entry.place == new
    shard.settle([envelope.decode("email", 0, entry)], Retried(0, NONE))
    [entry] = shard.fetch_raw()
    assert envelope.fields_dict(entry.fields or ())["o"] == old.encode()
    assert sizes(shard) == {}
    assert shard.snapshot().counters["accepted"] == 2


def test_resubmit_twice_makes_one_task(shard: Shard) -> None:
    """Guard: the answer kept with the action. A call whose reply was lost is sent again."""
    [old] = buried(shard, 1)
    first = shard.run(operator_calls.resubmit(shard.t, old, b"{}", NOTE))
    assert shard.run(operator_calls.resubmit(shard.t, old, b"{}", NOTE)) == first
    assert shard.run(operator_calls.resubmit(shard.t, old, b"{}", Note("another", b"{}"))) == ""
    assert shard.snapshot().ready == 1


# -- pages ---------------------------------------------------------------------------------------------


def test_ready_and_running_are_told_apart_and_paged(shard: Shard) -> None:
    shard.enqueue(*[NewTask(b'{"n":%d}' % n, "high" if n % 2 else "low") for n in range(10)])
    held = {delivery.place for delivery in shard.fetch("me", budget=4)}

    def listed(state: State) -> list[str]:
        places: list[str] = []
        after = ""
        while True:
            page = shard.run(listing_calls.page_streams(shard.t, state, after, 3))
            places += [row.place for row in page.rows]
            after = page.cursor
            if not after:
                return places

    assert set(listed("running")) == held
    assert len(listed("ready")) == 6
    assert not held & set(listed("ready"))
    [row, *_] = shard.run(listing_calls.page_streams(shard.t, "running", "", 1)).rows
    assert (row.worker, row.priority, envelope.fields_dict(row.fields)["p"]) == ("me", "h", b'{"n":1}')


def test_a_page_ends_early_where_it_becomes_heavy(shard: Shard) -> None:
    heavy = (("f", b"[%s]" % (b"0" * 16_000)),)
    shard.enqueue(*[NewTask(b'{"text":"%s"}' % (b"x" * 50_000), fields=heavy) for _ in range(20)])
    page = shard.run(listing_calls.page_streams(shard.t, "ready", "", 20))
    assert 3 <= len(page.rows) < 20
    assert page.cursor == page.rows[-1].place
    have = envelope.fields_dict(page.rows[0].fields)
    assert (len(have["p"]), have["size"]) == (600, b"50011")


def test_every_list_is_bounded_in_bytes(shard: Shard) -> None:
    """Whatever is in the tasks: long payloads, many failures, fields that are none of ours."""
    million = b"x" * 1_000_000
    failure = b'{"attempt":%d,"at_ms":1,"worker":"w","error":"E%d","traceback":"%s","message":""}'
    failures = b"[" + b",".join(failure % (n, n, b"y" * 5000) for n in range(1, 41)) + b"]"
    many = [(f"z{n}", b"w" * 2000) for n in range(400)]
    fields = [("f", failures), ("zz", million), *many]
    local = [shard.put(b'{"text":"%s"}' % million) for _ in range(12)]
    stored = [part for name, value in [("i", b"n1-1"), ("p", million), *fields] for part in (name, value)]
    now = shard.now()
    for n, one in enumerate(local):
        shard.command("EVAL", LETTER, 1, shard.t.letters, one, now, f"mark{n}", *stored)
        shard.command("ZADD", shard.t.dead, now, one)
        shard.command("ZADD", shard.t.groups, 0, f"mark{n} {now} {one}")
        shard.command("XADD", shard.t.normal, "*", *stored)
        shard.command("EVAL", ROW, 1, shard.t.schedule, now + 60_000, f"{n:012d}n", "", *stored)
    asked: list[Call[Any]] = [
        listing_calls.page_streams(shard.t, "ready", "", 200),
        listing_calls.page_streams(shard.t, "running", "", 200),
        listing_calls.page_schedule(shard.t, "", 200),
        listing_calls.page_dead(shard.t, "", 200),
        listing_calls.page_dead(shard.t, "", 200, "mark3"),
        listing_calls.dead_groups(shard.t, "", 20),
    ]
    shard.fetch_raw("me")
    shard.enqueue(NewTask(b"{}"))
    for call in asked:
        found = shard.run(call)
        rows = found if isinstance(found, list) else found.rows
        size = sum(len(part) for row in rows for part in row.fields)
        assert rows, call
        assert size < 800_000, (call.script, size)
        if "p" in envelope.fields_dict(rows[0].fields) and rows[0].reason:
            [last] = envelope.failures(envelope.fields_dict(rows[0].fields)["f"])
            assert last["error"] == "E40"


def test_ready_is_listed_without_a_group(shard: Shard) -> None:
    shard.put()
    shard.command("XGROUP", "DESTROY", shard.t.normal, "workers")
    assert len(shard.run(listing_calls.page_streams(shard.t, "ready", "", 9)).rows) == 1
    assert shard.run(listing_calls.page_streams(shard.t, "running", "", 9)).rows == []


def test_the_schedule_is_paged_in_the_order_in_which_it_is_due(shard: Shard) -> None:
    due = shard.now() + 60_000
    shard.enqueue(*[NewTask(b'{"n":%d}' % n, due=due + (n // 4), absolute=True) for n in range(10)])
    after, payloads = "", list[bytes]()
    for _ in range(4):
        page = shard.run(listing_calls.page_schedule(shard.t, after, 3))
        payloads += [envelope.fields_dict(row.fields)["p"] for row in page.rows]
        if after == "":  # a task that has gone does not lose the place in the list
            shard.command("ZREMRANGEBYRANK", shard.t.schedule, 2, 2)
        after = page.cursor
    assert payloads == [b'{"n":%d}' % n for n in range(10)]
    assert after == ""


def test_dead_letters_are_paged_newest_first(shard: Shard) -> None:
    ids = buried(shard, 5, "aaa") + buried(shard, 2, "bbb")
    for mark, want in (("", ids), ("aaa", ids[:5])):
        after, seen = "", list[str]()
        while True:
            page = shard.run(listing_calls.page_dead(shard.t, after, 2, mark))
            seen += [row.local for row in page.rows]
            after = page.cursor
            if not after:
                break
        assert sorted(seen) == sorted(want)
    newest = shard.run(listing_calls.page_dead(shard.t, "", 2)).rows[0]
    assert (newest.reason, newest.fingerprint, newest.priority) == ("attempts", "bbb", "h")


def test_old_ends_are_paged(shard: Shard) -> None:
    ids = [shard.put() for _ in range(5)]
    deliveries = shard.fetch()
    shard.settle(deliveries[:3], Cancelled())
    shard.settle(deliveries[3:], Expired())
    page = shard.run(listing_calls.page_ended(shard.t, "cancelled", "", 4))
    rest = shard.run(listing_calls.page_ended(shard.t, "cancelled", page.cursor, 4)) if page.cursor else page
    assert {row.local for row in (*page.rows, *rest.rows)} == set(ids[:3])
    assert {row.local for row in shard.run(listing_calls.page_ended(shard.t, "expired", "", 9)).rows} == set(
        ids[3:]
    )


def test_results_are_paged_from_the_first_hash_that_has_any(shard: Shard) -> None:
    ids = sorted(shard.put() for _ in range(3))
    shard.settle(shard.fetch(), Completed(b"42", 60_000))
    keys = list(dict.fromkeys(["{shop:0}none", *(shard.t.results(local) for local in ids)]))
    found: list[str] = []
    for n in range(1, len(keys)):
        number, size, rows = shard.run(listing_calls.page_results(keys[n:], 0, 2))
        _, _, rest = shard.run(listing_calls.page_results(keys[n : n + 1], 2, 2))
        assert (number, size) == (1, len(rows) + len(rest))
        found += [row.local for row in (*rows, *rest)]
    assert sorted(found) == ids
    assert shard.run(listing_calls.page_results(keys[:1], 0, 2)) == (0, 0, [])


def test_results_are_known_by_their_minutes(shard: Shard) -> None:
    ids = [shard.put(), shard.put(delay_ms=1), shard.put()]
    shard.promote_until(1)
    shard.settle(shard.fetch(), Completed(b"42", 60_000))
    found = shard.run(listing_calls.page_buckets(shard.t, None, 10))
    minutes = {str(int(local[1:].partition("-")[0]) // 60_000) for local in ids if local[0] == "n"}
    assert set(found) == minutes | {"d0"}
    assert shard.run(listing_calls.page_buckets(shard.t, found[-1], 10)) == found[-1:]
    assert shard.run(listing_calls.page_buckets(shard.t, "gone", 10)) == []
    shard.command("ZADD", shard.t.buckets, 5, "5")
    shard.run(daemon_calls.trim([shard.t], shard.s, 60_000, 60_000, 100))
    assert shard.run(listing_calls.page_buckets(shard.t, None, 10)) == found


def test_damaged_members_end_no_list_of_completed_tasks(shard: Shard) -> None:
    """More of them than one look takes, before and among those that are sound."""
    local = shard.put()
    shard.settle(shard.fetch(), Completed(b"42", 60_000))
    damaged = [b"", b":", b"\xff:0:0", b"a\nb", b"\xe2\x80\xae", *(b"x%d\xff" % n for n in range(100))]
    for n, member in enumerate(damaged):
        shard.command("ZADD", shard.t.buckets, 10**15 - n // 3, member)
    inspector = Inspector(shard.transport, "shop", 1)
    cursor, rows, pages = "", list[str](), 0
    while pages == 0 or cursor:
        page = inspector.tasks("completed", "email", cursor=cursor)
        cursor, pages = page.cursor, pages + 1
        rows += [row.id for row in page.rows]
        assert pages < 100
    assert rows == [f"email:0:{local}"]


# -- rollups -------------------------------------------------------------------------------------------


def test_tally_adds_up_and_expires(shard: Shard) -> None:
    now = shard.now()
    for _ in range(2):
        shard.run(rollup_calls.tally(shard.t, now, {"wait:40": 2, "run:8": 1}))
    [minute] = shard.run(rollup_calls.rollups([shard.t.minute(now // MINUTE_MS)]))
    assert minute == {"wait:40": 4, "run:8": 2}
    assert 0 < shard.command("PTTL", shard.t.minute(now // MINUTE_MS)) <= 130 * MINUTE_MS


def test_samples_note_what_is_new_whoever_takes_them(shard: Shard) -> None:
    now = shard.now()
    shard.command("DEL", shard.t.sampled)
    assert shard.run(rollup_calls.sample([shard.t], now)) == [-1]
    shard.put()
    shard.put()
    shard.settle(shard.fetch(budget=1))
    assert shard.run(rollup_calls.sample([shard.t], now))[0] >= 0
    assert shard.run(rollup_calls.sample([shard.t], now))[0] >= 0
    [minute] = shard.run(rollup_calls.rollups([shard.t.minute(now // MINUTE_MS)]))
    assert minute == {"accepted": 2, "completed": 1, "started": 1, "backlog": 1, "letters": 0}


def test_what_happened_while_nobody_sampled_makes_no_peak(shard: Shard) -> None:
    now = shard.now()
    shard.run(rollup_calls.sample([shard.t], now))
    shard.command("HSET", shard.t.sampled, "at", now - 100_000)
    shard.put()
    shard.run(rollup_calls.sample([shard.t], now))
    keys = [shard.t.minute(now // MINUTE_MS), shard.t.quarter(now // 900_000)]
    minute, quarter = shard.run(rollup_calls.rollups(keys))
    assert "accepted" not in minute
    assert quarter["accepted"] == 1


def test_the_books_are_right_after_everything(shard: Shard) -> None:
    [one, two] = buried(shard, 2, "aaa")
    shard.run(operator_calls.resubmit(shard.t, one, b"{}", NOTE))
    shard.run(operator_calls.requeue(shard.t, 9, 0, [two]))
    shard.settle(shard.fetch(), Completed())
    assert shard.snapshot() == Snapshot(
        counters={"accepted": 3, "started": 4, "dead": 2, "purged": 1, "requeued": 1, "completed": 2}
    )


@pytest.mark.parametrize("verb", ["requeue", "purge"])
def test_a_long_member_of_a_group_holds_nobody_up(shard: Shard, verb: str) -> None:
    """Guard: the anchored pattern in requeue and purge. One without takes a minute for this member."""
    buried(shard, 1, "aaa")
    shard.command("ZADD", shard.t.groups, 0, b"aaa 1" + b"x" * 200_000 + b" ")
    step = operator_calls.requeue if verb == "requeue" else operator_calls.purge
    began = time.monotonic()
    shard.run(step(shard.t, 100, LATEST, fingerprint="aaa", note=NOTE))
    assert time.monotonic() - began < 5

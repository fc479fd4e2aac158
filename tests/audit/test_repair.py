"""Every fault that the audit knows: done by hand to a real server, found, repaired, and gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import pytest

from streamq import Every, StreamQ
from streamq.audit import FAULTS, Audit
from streamq.calls import audit as audit_calls
from streamq.calls import daemon as daemon_calls
from streamq.calls import producer as producer_calls
from streamq.calls.audit import FaultCode
from streamq.control.admin import Admin
from streamq.control.inspector import Inspector
from streamq.control.schedules import Schedules
from streamq.keys import GROUP, SUCCESSOR_DUE_MS, shard_keys, type_keys
from streamq.model.outcome import Completed, Died, Retried
from streamq.model.task import IdempotencyKey, NewTask, TaskId
from streamq.transport.sync_transport import SyncTransport
from tests.lua.lane_twin import Rules
from tests.lua.laned import laned
from tests.lua.shard import Shard
from tests.lua.test_unique import put

BASE = "streamq:{shop:0}:email"


@pytest.fixture
def shard(transport: SyncTransport) -> Shard:
    """A type with tasks in every state; the books are right."""
    found = Shard(transport)
    found.run(producer_calls.announce("shop", 1))
    for _ in range(6):
        found.put()
    a, b, c, *_ = found.fetch(budget=4)
    found.settle([a], Completed(b"1", 60_000))
    found.settle([b], Died("attempts", b"[]"))
    found.settle([c], Retried(3_600_000, b"[]"))
    found.put(delay_ms=3_600_000)
    assert look(found).problems == []
    return found


def look(shard: Shard) -> Audit:
    return Inspector(shard.transport, "shop", 1).audit()


def repair(shard: Shard, *, dry_run: bool = False, write_off: bool = False) -> Audit:
    return Admin(shard.transport, "shop", 1).repair(dry_run=dry_run, write_off=write_off)


def problems(audit: Audit) -> list[str]:
    return sorted({problem.code for problem in audit.problems})


def moved(shard: Shard) -> tuple[str, str]:
    """A ready task that has moved: its id and its place."""
    local = shard.put()
    [*_, delivery] = shard.fetch()
    shard.settle([delivery], Retried(0, b"[]"))
    return local, shard.command("HGET", shard.t.index, local).decode()


def lost_row(shard: Shard) -> None:
    local, _ = moved(shard)
    shard.command("HDEL", shard.t.index, local)


def wrong_row(shard: Shard) -> None:
    local, _ = moved(shard)
    shard.command("HSET", shard.t.index, local, "n1-0")


def lost_row_of_the_schedule(shard: Shard) -> None:
    [*_, delivery] = shard.fetch(budget=1)
    shard.settle([delivery], Retried(3_600_000, b"[]"))
    shard.command("HDEL", shard.t.index, delivery.local)


def needless_row(shard: Shard) -> None:
    local = shard.put()
    shard.command("HSET", shard.t.index, local, local)


def needless_row_of_the_schedule(shard: Shard) -> None:
    local = shard.put(delay_ms=3_600_000)
    shard.command("HSET", shard.t.index, local, "n1-0")


def leftover_row(shard: Shard) -> None:
    shard.command("HSET", shard.t.index, "n5-5", "n6-6")
    shard.command("HSET", shard.t.index, "d5-5", "d7-7")
    shard.command("HSET", shard.t.index, b"\xff", b"\x00\xff")


def memos_of_nobody(shard: Shard) -> None:
    steps = shard.t.steps
    shard.command("HSET", steps, "n5-5", b"1\0one", b"n5-5\0one", "1", b"n6-6\0alone", "1", "\xff", "")


def child_that_is_gone(shard: Shard) -> None:
    flow, memo = "1-000000000001", "wait flow 1-000000000001 1"
    local = shard.put()
    shard.command("HSET", shard.t.steps, local, f"2\0flow {flow} f\0{memo}")
    shard.command("HSET", shard.t.steps, f"{local}\0flow {flow} f", "1", f"{local}\0{memo}", "~")


def stray_ack(shard: Shard) -> None:
    shard.put()
    [*_, delivery] = shard.fetch()
    shard.command("XACK", shard.t.normal, GROUP, delivery.place[1:])


def ghost(shard: Shard) -> None:
    shard.put()
    [*_, delivery] = shard.fetch("gone")
    shard.age(delivery, 60_000)
    shard.command("XDEL", shard.t.normal, delivery.place[1:])


def ghost_that_moved(shard: Shard) -> None:
    moved(shard)
    [*_, delivery] = shard.fetch("gone")
    shard.age(delivery, 60_000)
    shard.command("XDEL", shard.t.normal, delivery.place[1:])


def lost_letter(shard: Shard) -> None:
    [local] = shard.command("ZRANGE", shard.t.dead, 0, -1)
    shard.command("HDEL", shard.t.letters, local)


def unlisted_letter(shard: Shard) -> None:
    shard.command("DEL", shard.t.dead)


def forgotten_request(shard: Shard) -> None:
    shard.command("HSET", shard.t.cancels, "n1-1", "1")


def immortal_results(shard: Shard) -> None:
    [key] = shard.command("KEYS", f"{BASE}:results:*")
    shard.command("PERSIST", key)


def immortal_writer(shard: Shard) -> None:
    shard.command("SET", f"{BASE}:writer:x", b"x")


def mortal_stream(shard: Shard) -> None:
    shard.command("EXPIRE", shard.t.normal, 1000)


def mortal_types(shard: Shard) -> None:
    shard.command("EXPIRE", shard.s.types, 1000)


def lost_type(shard: Shard) -> None:
    shard.command("DEL", shard.s.types)


def lock_of_nobody(shard: Shard) -> None:
    shard.command("HSET", shard.t.unique, b"0" * 16, "n1-1")


def lock_of_a_task_that_claims_none(shard: Shard) -> None:
    shard.command("HSET", shard.t.unique, b"0" * 16, shard.put())


def lock_that_was_deleted(shard: Shard) -> None:
    put(shard)
    put(shard, key="other", due=3_600_000)
    shard.command("DEL", shard.t.unique)


def lock_of_nobody_that_another_waits_for(shard: Shard) -> None:
    put(shard)
    put(shard, conflict="after")
    [what] = shard.command("HKEYS", shard.t.unique)
    held = [one for one in shard.fetch() if one.claims]
    shard.command("DEL", shard.t.unique, shard.t.after)
    shard.settle(held)
    shard.command("HSET", shard.t.unique, what, held[0].local)
    [row] = shard.command("ZRANGE", shard.t.schedule, -1, -1)
    number = int(row[:12])
    shard.command("HSET", shard.t.after, what, f"d{SUCCESSOR_DUE_MS}-{number}")


def follower_that_nobody_knows(shard: Shard) -> None:
    put(shard)
    put(shard, conflict="after")
    shard.command("DEL", shard.t.after)


def follower_that_waits_for_nobody(shard: Shard) -> None:
    follower_that_nobody_knows(shard)
    shard.settle([one for one in shard.fetch() if one.claims])


def follower_that_is_not_there(shard: Shard) -> None:
    put(shard)
    [what] = shard.command("HKEYS", shard.t.unique)
    shard.command("HSET", shard.t.after, what, "d5-5")


def miscounted_lane(shard: Shard) -> None:
    shard.command("HSET", shard.t.slots, "acme", "3;;;;")


def sound(shard: Shard, rules: Rules) -> None:
    """The type has lanes, and nothing of them is wrong yet."""
    laned(shard, rules)
    assert look(shard).problems == []


def slots_that_were_deleted(shard: Shard) -> None:
    sound(shard, Rules(lane_running=1))
    shard.command("DEL", shard.t.slots)


def slot_of_a_task_that_is_gone(shard: Shard) -> None:
    sound(shard, Rules(lane_running=1))
    shard.command("HSET", shard.t.slots, "acme", "2;;;;")


def lane_without_its_turn(shard: Shard) -> None:
    sound(shard, Rules(running=1))
    assert shard.command("ZREM", shard.t.turns, "other") == 1


def turn_of_a_lane_that_may_not_go(shard: Shard) -> None:
    sound(shard, Rules(lane_running=1))
    shard.command("ZADD", shard.t.turns, 1, "acme", 2, "nobody")


def lost_timer(shard: Shard) -> None:
    sound(shard, Rules(lane_interval=3.6e9))
    assert shard.command("ZREM", shard.t.ripe, "acme") == 1


def timer_for_nothing(shard: Shard) -> None:
    sound(shard, Rules(lane_running=1))
    shard.command("ZADD", shard.t.ripe, 9 * 10**12, "acme", 9 * 10**12, "nobody")


def lane_that_a_deleted_letter_halts(shard: Shard) -> None:
    sound(shard, Rules(order=True, halt=True))
    [first, *_] = [one for one in shard.fetch() if one.claims]
    shard.settle([first], Died("attempts", b"[]"))
    assert look(shard).problems == []
    [row] = [row for row in shard.command("ZRANGE", shard.t.groups, 0, -1) if first.local.encode() in row]
    shard.command("ZREM", shard.t.groups, row)
    shard.command("ZREM", shard.t.dead, first.local)
    shard.command("HDEL", shard.t.letters, first.local)
    shard.command("HINCRBY", shard.t.counters, "purged", 1)


def changed_score(shard: Shard) -> None:
    [row, *_] = shard.command("ZRANGE", shard.t.groups, 0, -1)
    shard.command("ZADD", shard.t.groups, 5, row)


def nightly(shard: Shard) -> str:
    """A schedule that has made a run: the name of its state."""
    app = StreamQ("shop", shards=1)
    schedules = Schedules(shard.transport, "shop", 1)
    schedules.put("nightly", Every("1d"), app.bound("email"), overlap="skip", times=3)
    schedules.run_now("nightly")
    assert look(shard).problems == []
    return "nightly:state"


def stored_state(shard: Shard) -> dict[str, Any]:
    return dict(json.loads(shard.command("HGET", shard.s.schedules, "nightly:state")))


def state_of_no_schedule(shard: Shard) -> None:
    shard.command("HSET", shard.s.schedules, nightly(shard), "{no json")


def state_with_a_revision_that_is_none(shard: Shard) -> None:
    shard.command("HSET", shard.s.schedules, nightly(shard), '{"revision": "7"}')


def state_that_is_gone(shard: Shard) -> None:
    shard.command("HDEL", shard.s.schedules, nightly(shard))


def run_that_no_task_can_be(shard: Shard) -> None:
    name = nightly(shard)
    told = stored_state(shard) | {"run": "n1", "run_type": "e:mail"}
    shard.command("HSET", shard.s.schedules, name, json.dumps(told))


def due_time_that_is_gone(shard: Shard) -> None:
    nightly(shard)
    shard.command("DEL", shard.s.schedules_due)


def due_time_of_a_schedule_that_rests(shard: Shard) -> None:
    nightly(shard)
    Schedules(shard.transport, "shop", 1).pause("nightly", "rest")
    shard.command("ZADD", shard.s.schedules_due, 5e12, "nightly")


def due_time_of_no_schedule(shard: Shard) -> None:
    shard.command("ZADD", shard.s.schedules_due, 5e12, "ghost", 6e12, "ghost:waiting", 7e12, b"\xff:no name")


def flow(shard: Shard) -> tuple[str, str]:
    """A flow of two nodes, one after the other, of which the first was released: its id in the shard, and the
    local id of that node's task."""
    app = StreamQ("shop", str(shard.transport.address))
    email = app.task(name="email")(_email)
    wf = app.flow("import")
    wf.add(email.bind(), name="first").then(email.bind(), name="then")
    handle = wf.start()
    task = TaskId.parse(handle.nodes()[0].task)
    app.close()
    return handle.id.rpartition(":")[2], task.local


def _email() -> None: ...


def node_whose_task_is_gone(shard: Shard) -> None:
    _, local = flow(shard)
    entry = shard.locate(local).detail["entry"]
    shard.command("XDEL", shard.t.normal, entry)
    shard.command("HDEL", shard.t.index, local)
    shard.command("HINCRBY", shard.t.counters, "accepted", -1)


REPAIRED: list[tuple[Callable[[Shard], None], FaultCode]] = [
    (lost_row, "misplaced"),
    (wrong_row, "misplaced"),
    (lost_row_of_the_schedule, "misplaced"),
    (needless_row, "needless_index_row"),
    (needless_row_of_the_schedule, "needless_index_row"),
    (leftover_row, "orphaned_index_row"),
    (stray_ack, "undelivered"),
    (ghost, "deleted_while_pending"),
    (ghost_that_moved, "deleted_while_pending"),
    (lost_letter, "missing_letter"),
    (unlisted_letter, "unlisted_letter"),
    (forgotten_request, "orphaned_cancel"),
    (memos_of_nobody, "orphaned_memo"),
    (lock_of_nobody, "orphaned_lock"),
    (lock_of_a_task_that_claims_none, "orphaned_lock"),
    (lock_that_was_deleted, "missing_lock"),
    (lock_of_nobody_that_another_waits_for, "orphaned_lock"),
    (follower_that_nobody_knows, "stranded_successor"),
    (follower_that_waits_for_nobody, "stranded_successor"),
    (follower_that_is_not_there, "orphaned_lock"),
    (immortal_results, "missing_lifetime"),
    (immortal_writer, "missing_lifetime"),
    (mortal_stream, "unwanted_lifetime"),
    (mortal_types, "unwanted_lifetime"),
    (lost_type, "unlisted_type"),
    (miscounted_lane, "slots_differ"),
    (slots_that_were_deleted, "slots_differ"),
    (slot_of_a_task_that_is_gone, "slots_differ"),
    (lane_without_its_turn, "stuck_lane"),
    (turn_of_a_lane_that_may_not_go, "stale_turn"),
    (lost_timer, "missing_timer"),
    (timer_for_nothing, "stale_timer"),
    (lane_that_a_deleted_letter_halts, "orphaned_halt"),
    (changed_score, "changed_score"),
    (state_of_no_schedule, "unreadable_schedule_state"),
    (state_with_a_revision_that_is_none, "unreadable_schedule_state"),
    (state_that_is_gone, "unreadable_schedule_state"),
    (run_that_no_task_can_be, "damaged_last_run"),
    (due_time_that_is_gone, "wrong_due_time"),
    (due_time_of_a_schedule_that_rests, "wrong_due_time"),
    (due_time_of_no_schedule, "orphaned_due_time"),
    (node_whose_task_is_gone, "lost_node"),
]


@pytest.mark.parametrize(("harm", "fault"), REPAIRED, ids=[harm.__name__ for harm, _ in REPAIRED])
def test_what_is_broken_is_found_and_repaired(
    shard: Shard, harm: Callable[[Shard], None], fault: FaultCode
) -> None:
    harm(shard)
    before = shard.command("HGET", shard.t.counters, "repaired")
    assert fault in problems(look(shard))
    dry = repair(shard, dry_run=True)
    assert fault in problems(dry)
    assert fault in {one.problem.code for one in dry.repaired}
    assert shard.command("HGET", shard.t.counters, "repaired") == before
    done = repair(shard)
    assert done.problems == []
    assert {one.problem.code for one in done.repaired} >= {fault}
    assert all(one.how for one in done.repaired)
    again = look(shard)
    assert (again.problems, again.ok) == ([], True)
    assert repair(shard).repaired == []
    of_shard = any(word in FAULTS[fault].text for word in ("schedule", "flow"))
    if harm is not mortal_types and not of_shard:
        assert int(shard.command("HGET", shard.t.counters, "repaired")) == len(done.repaired)


def test_a_ghost_keeps_its_name_and_the_books_balance(shard: Shard) -> None:
    ghost_that_moved(shard)
    assert problems(look(shard)) == ["counters_off", "deleted_while_pending"]
    [done] = repair(shard).repaired
    located = shard.locate(done.problem.where)
    assert (located.state, located.detail["reason"]) == ("dead", "vanished")
    assert shard.sizes().index == 1  # that of the retried task
    assert shard.snapshot().dead == 2


def test_a_delivery_that_is_renewed_is_left_to_its_worker(shard: Shard) -> None:
    shard.put()
    [*_, delivery] = shard.fetch("alive")
    shard.command("XDEL", shard.t.normal, delivery.place[1:])
    done = repair(shard)
    assert done.repaired == []
    assert problems(done) == ["counters_off", "deleted_while_pending"]
    assert shard.settle([delivery]) == [True]
    assert look(shard).ok


def two_places(shard: Shard) -> None:
    local, _ = moved(shard)
    shard.command("XADD", shard.t.low, "*", "p", "{}", "i", local)


def two_states(shard: Shard) -> None:
    local = shard.put()
    [letter] = shard.command("HVALS", shard.t.letters)
    shard.command("HSET", shard.t.letters, local, letter)
    shard.command("ZADD", shard.t.dead, 1, local)


def unreadable_row(shard: Shard) -> None:
    shard.command("ZADD", shard.t.schedule, 9e12, b"000000000009n\xc1")


def unreadable_letter(shard: Shard) -> None:
    shard.command("HSET", shard.t.letters, "n1-0", "x")


def stranger(shard: Shard) -> None:
    shard.command("SET", f"{BASE}:nonsense", "1")
    shard.command("SET", b"streamq:{shop:0}:\xff", "1")


def unserved_shard(shard: Shard) -> None:
    shard.command("SET", "streamq:{shop:7}:email:writer:x", "1", "EX", 100)


def wrong_kind(shard: Shard) -> None:
    shard.command("RENAME", shard.t.normal, "elsewhere")
    shard.command("SET", shard.t.normal, "1")


def late_delivery(shard: Shard) -> None:
    shard.put()
    [*_, delivery] = shard.fetch("silent")
    shard.age(delivery, 600_000)


def overdue(shard: Shard) -> None:
    shard.put(delay_ms=1_000_000)
    row = shard.command("ZRANGE", shard.t.schedule, 0, 0)[0]
    shard.command("ZADD", shard.t.schedule, 1, row)


def overdue_expiry(shard: Shard) -> None:
    shard.command("ZADD", shard.t.expiring, 1, "n1-0")


def overdue_waiter(shard: Shard) -> None:
    shard.command("ZADD", shard.t.waiters, 1, "n1-0")


def stray_group_row(shard: Shard) -> None:
    shard.command("ZADD", shard.t.groups, 0, "Boom 1 n1-0")


def definition_that_is_none(shard: Shard) -> None:
    nightly(shard)
    shard.command("HSET", shard.s.schedules, "nightly", '{"cron": "61 * * * *"}')


def arguments_that_are_gone(shard: Shard) -> None:
    nightly(shard)
    shard.command("HDEL", shard.s.schedules, "nightly:payload")


def end_that_nobody_takes(shard: Shard) -> None:
    name, _ = flow(shard)
    shard.command("ZADD", shard.s.inbox, 1, f"{name} 0 c")


def blob_that_nobody_removes(shard: Shard) -> None:
    shard.command("ZADD", shard.s.blobs, 1, "streamq%3Ashop/email/1-a")


def numbers_of_a_flow(shard: Shard) -> None:
    name, _ = flow(shard)
    shard.command("HSET", shard.s.flow(name), "waiting", 9)


REPORTED: list[tuple[Callable[[Shard], None], str]] = [
    (child_that_is_gone, "lost_child"),
    (two_places, "in_two_places"),
    (two_states, "alive_and_dead"),
    (unreadable_row, "unreadable_row"),
    (unreadable_letter, "unreadable_letter"),
    (stranger, "unknown_key"),
    (unserved_shard, "unserved_shard"),
    (wrong_kind, "wrong_kind"),
    (late_delivery, "unreclaimed"),
    (overdue, "unpromoted"),
    (overdue_expiry, "unended_expired"),
    (overdue_waiter, "stale_waiters"),
    (stray_group_row, "groups_differ"),
    (end_that_nobody_takes, "stuck_flow"),
    (blob_that_nobody_removes, "overdue_blobs"),
    (numbers_of_a_flow, "flow_books_off"),
    (definition_that_is_none, "unreadable_schedule"),
    (arguments_that_are_gone, "unreadable_schedule"),
]


@pytest.mark.parametrize(("harm", "fault"), REPORTED, ids=[harm.__name__ for harm, _ in REPORTED])
def test_what_cannot_be_repaired_safely_is_told_with_what_to_do(
    shard: Shard, harm: Callable[[Shard], None], fault: str
) -> None:
    harm(shard)
    before = dump(shard)
    done = repair(shard)
    assert [problem.advice for problem in done.problems if problem.code == fault]
    assert all(problem.advice for problem in done.problems)
    assert dump(shard) == before


def dump(shard: Shard) -> dict[bytes, Any]:
    return {key: shard.command("DUMP", key) for key in shard.command("KEYS", "*")}


def test_a_group_that_is_missing_for_long_is_made_from_the_first_entry_on(shard: Shard) -> None:
    shard.command("XGROUP", "DESTROY", shard.t.normal, GROUP)
    assert look(shard).ok  # a worker or daemon is about to make it
    shard.command("XADD", shard.t.high, "1-1", "p", "{}")
    shard.command("XGROUP", "DESTROY", shard.t.high, GROUP)
    shard.command("HINCRBY", shard.t.counters, "accepted", 1)
    assert problems(look(shard)) == ["missing_group"]
    assert repair(shard).ok
    assert "h1-1" in [delivery.local for delivery in shard.fetch()]


@pytest.mark.parametrize(("by", "counter"), [(1, "adopted"), (-1, "vanished")])
def test_books_are_closed_only_when_told_to(shard: Shard, by: int, counter: str) -> None:
    for _ in range(3):
        if by > 0:
            shard.command("XADD", shard.t.normal, "*", "p", "{}")
        else:
            entry = shard.command("XREVRANGE", shard.t.normal, "+", "-", "COUNT", 1)[0][0]
            shard.put()
            shard.command("XDEL", shard.t.normal, entry)
    assert problems(repair(shard)) == ["counters_off"]
    assert problems(repair(shard, dry_run=True, write_off=True)) == ["counters_off"]
    done = repair(shard, write_off=True)
    assert done.ok
    assert shard.snapshot().counters[counter] == 3
    assert look(shard).ok


ALONE = ("accepted", "completed", "cancelled", "expired", "purged", "vanished", "adopted")


@pytest.mark.parametrize("name", [*ALONE, "started", "retried", "repaired", "dead", "sequence", "mine"])
@pytest.mark.parametrize("value", ["x", "1.5", "1e999", "", b"\xff", "9" * 18])
def test_a_counter_that_is_no_number_counts_again(shard: Shard, name: str, value: str | bytes) -> None:
    """One of the balance is known exactly from the others."""
    before = {k: int(v) for k, v in raw(shard).items()}
    shard.command("HSET", shard.t.counters, name, value)
    found = look(shard)
    assert "unreadable_counter" in problems(found)
    dump_before = dump(shard)
    assert [one.how for one in repair(shard, dry_run=True).repaired]
    assert dump(shard) == dump_before
    done = repair(shard)
    assert (done.problems, look(shard).ok) == ([], True)
    [told] = done.repaired
    assert name in told.problem.where
    after = {k: int(v) for k, v in raw(shard).items()}
    if name == "sequence":
        assert after.pop("sequence") > before.pop("sequence")
        assert str(raw(shard)["sequence"].decode()) in told.how
    elif name in before and name in ALONE:
        assert after[name] == before[name]
    else:
        assert after.get(name, 0) == (name == "repaired")
        assert "written off" in told.how
    before.pop(name, None)
    assert {k: v for k, v in after.items() if k not in (name, "repaired")} == before
    assert shard.put(delay_ms=60_000)
    [delivery] = shard.fetch(budget=1)
    shard.settle([delivery], Retried(3_600_000, b"[]"))
    assert look(shard).ok


def raw(shard: Shard) -> dict[str, bytes]:
    flat = shard.command("HGETALL", shard.t.counters)
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def test_of_several_counters_that_are_no_numbers_the_books_balance(shard: Shard) -> None:
    for name in ("completed", "cancelled", "purged"):
        shard.command("HSET", shard.t.counters, name, "nan")
    assert repair(shard).ok
    assert shard.snapshot().counters["completed"] == 1
    for name in ("accepted", "completed", "adopted", "sequence"):
        shard.command("HSET", shard.t.counters, name, "nan")
    done = repair(shard)
    assert done.ok
    assert {one.problem.where.partition(" ")[0] for one in done.repaired} == {
        "accepted", "completed", "adopted", "sequence"
    }  # fmt: skip
    assert look(shard).ok


@pytest.mark.parametrize("args", [("SET", "x"), ("RPUSH", "x"), ("SADD", "x"), ("ZADD", "1", "x")])
def test_counters_of_the_wrong_kind_are_made_anew(shard: Shard, args: tuple[str, ...]) -> None:
    shard.command("DEL", shard.t.counters)
    shard.command(args[0], shard.t.counters, *args[1:])
    assert problems(look(shard)) == ["wrong_kind_counters"]
    dry = repair(shard, dry_run=True)
    assert problems(dry) == ["wrong_kind_counters"]
    assert any("created again" in one.how for one in dry.repaired)
    assert shard.command("TYPE", shard.t.counters) != b"hash"
    done = repair(shard)
    assert (done.problems, look(shard).problems) == ([], [])
    assert any(shard.t.counters in one.problem.where for one in done.repaired)
    snapshot = shard.snapshot()
    there = snapshot.ready + snapshot.running + snapshot.scheduled + snapshot.dead
    assert snapshot.counters["accepted"] == there
    first, second = shard.put(delay_ms=60_000), shard.put(delay_ms=60_000)
    assert first != second
    assert look(shard).ok


def test_a_repair_that_comes_too_late_does_nothing(shard: Shard) -> None:
    """Guard: each script looks again. The fault may be gone when it is repaired."""
    t, local = shard.t, shard.put()
    before = dump(shard)
    assert shard.run(audit_calls.repair_place(t, local)) == 0
    assert shard.run(audit_calls.repair_place(t, "n1-0")) == 0
    assert shard.run(audit_calls.repair_row(t, "index", local)) == 0
    assert shard.run(audit_calls.repair_row(t, "cancels", local)) == 0
    assert shard.run(audit_calls.repair_pending(t, local, local)) == "gone"
    assert shard.run(audit_calls.repair_dead(t, local)) == 0
    assert shard.run(audit_calls.repair_lifetime(t.normal, 0, ())) == 0
    assert shard.run(audit_calls.repair_type(t)) == 0
    assert shard.run(audit_calls.repair_type(type_keys("shop", 0, "nothing"))) == 0
    assert shard.run(audit_calls.repair_books(t, 0)) == 0
    assert shard.run(audit_calls.repair_books(t, 1)) == 0
    assert dump(shard) == before


def test_a_row_that_names_a_living_task_is_never_removed(shard: Shard) -> None:
    local, _ = moved(shard)
    assert shard.run(audit_calls.repair_row(shard.t, "index", local)) == 0
    [*_, delivery] = shard.fetch("me")
    shard.command("XDEL", shard.t.normal, delivery.place[1:])
    assert (
        shard.run(audit_calls.repair_row(shard.t, "index", local)) == 0
    )  # pending: its worker may settle it


def test_a_second_copy_is_not_made_the_first(shard: Shard) -> None:
    local, place = moved(shard)
    copy = "l" + shard.command("XADD", shard.t.low, "*", "p", "{}", "i", local).decode()
    assert shard.run(audit_calls.repair_place(shard.t, copy)) == 0
    assert shard.command("HGET", shard.t.index, local).decode() == place


def test_long_lists_are_cut_and_counted(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamq.audit.auditor.LISTED", 5)
    for n in range(12):
        shard.command("HSET", shard.t.index, f"n{n}-0", "n0-7")
    found = look(shard)
    assert (len(found.problems), found.omitted) == (5, 7)
    assert repair(shard).ok
    assert shard.sizes().index == 1


def test_cancelling_leaves_nothing_behind(shard: Shard) -> None:
    local = shard.put()
    [*_, _] = shard.fetch()
    assert shard.run(producer_calls.cancel(shard.t, shard.s, TaskId("email", 0, local))) == "requested"
    assert look(shard).ok


def test_every_fault_is_tested() -> None:
    tested = {fault for _, fault in REPAIRED + REPORTED}
    tested |= {"missing_group", "counters_off", "unchecked", "unreadable_counter", "wrong_kind_counters"}
    assert tested == set(FAULTS)


def test_the_walk_over_the_schedule_misses_nothing_and_ends(shard: Shard) -> None:
    """Many rows of one due time, garbage before, between and behind them, and rows that go meanwhile."""
    due = shard.now() + 3_600_000
    shard.enqueue(*[NewTask(b"{}", due=due, absolute=True) for _ in range(150)])
    for row in (b"\x00x", b"00000000000x", b"zzz", b"zzz2", b""):
        shard.command("ZADD", shard.t.schedule, due, row)
    there = shard.command("ZCARD", shard.t.schedule)
    for limit in (1, 7, 64):
        cursor, checked, rounds = "", 0, 0
        while True:
            walked = shard.run(audit_calls.audit_schedule(shard.t, cursor, limit))
            cursor, checked, rounds = walked.cursor, checked + walked.checked, rounds + 1
            assert rounds < 400
            if not cursor:
                break
        assert checked == there
    cursor, seen = "", 0
    while True:
        walked = shard.run(audit_calls.audit_schedule(shard.t, cursor, 16))
        cursor, seen = walked.cursor, seen + walked.checked
        shard.command("ZREMRANGEBYRANK", shard.t.schedule, 0, 3)
        if not cursor:
            break
    assert seen >= 150


def test_an_idempotency_key_and_a_shard_that_was_given_up_are_sound(shard: Shard) -> None:
    key = IdempotencyKey("order:7", b"d" * 16, 60_000)
    shard.run(producer_calls.enqueue(shard.t, shard.s, "keyed", 1, [NewTask(b"{}", key=key)]))
    assert shard.run(daemon_calls.close_shard(shard_keys("shop", 1), [], 0))
    assert look(shard).problems == []
    shard.command("PERSIST", shard.s.key("order:7"))
    shard.command("EXPIRE", shard_keys("shop", 1).closed, 60)
    found = {problem.code for problem in look(shard).problems}
    assert found == {"missing_lifetime", "unwanted_lifetime"}


def test_every_fault_has_a_sentence_and_something_to_do() -> None:
    assert {*get_args(FaultCode)} == FAULTS.keys()
    assert all(kind.text and (kind.repair or kind.advice) for kind in FAULTS.values())


def test_a_schedule_that_begins_anew_keeps_what_it_does_and_who_may_change_it(shard: Shard) -> None:
    before = Schedules(shard.transport, "shop", 1)
    state_of_no_schedule(shard)
    repair(shard)
    one = before.get("nightly")
    assert (one.standing, one.origin, one.left, one.runs) == ("active", "call", 3, 0)
    assert len(one.upcoming) == 3
    state_of_no_schedule(shard)
    shard.command("HSET", shard_keys("shop", 0).heartbeats, "w", '{"schedules": ["nightly"]}')
    repair(shard)
    assert before.get("nightly").origin == "code"


def test_a_state_with_a_revision_that_is_none_can_be_put_anew(shard: Shard) -> None:
    schedules = Schedules(shard.transport, "shop", 1)
    for revision in ('"7"', "1.5", "-3", "true", "[]", "1e400", "1e300"):
        shard.command("HSET", shard.s.schedules, nightly(shard), f'{{"revision": {revision}}}')
        assert schedules.put("nightly", Every("1h"), StreamQ("shop").bound("email")).standing == "active"
        schedules.remove("nightly")

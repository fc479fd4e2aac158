"""Numbers of scheduled tasks beyond twelve digits: 10^12 tasks are eleven days at a million a second."""

from __future__ import annotations

import time

import pytest

from streamq.calls import audit as audit_calls
from streamq.calls import daemon as daemon_calls
from streamq.calls import listing as listing_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.model.outcome import Retried
from streamq.model.task import NewTask, TaskId
from tests.lua.shard import Shard


@pytest.mark.parametrize("number", [999_999_999_997, 10**12, 99_999_999_999_997, 10**14 + 7, 10**15 - 20])
def test_tasks_are_scheduled_found_cancelled_and_promoted(shard: Shard, number: int) -> None:
    shard.command("HSET", shard.t.counters, "sequence", number)
    later = [shard.put(delay_ms=600_000) for _ in range(4)]
    assert [local.rpartition("-")[2] for local in later] == [str(number + n) for n in range(1, 5)]
    for local in later:
        assert (shard.state(local), shard.locate(local).detail["stream"]) == ("scheduled", "n")
    page = shard.run(listing_calls.page_schedule(shard.t, "", 10))
    assert sorted(row.local for row in page.rows) == sorted(later)
    first, second, third, _ = later
    assert shard.run(producer_calls.cancel(shard.t, shard.s, TaskId("email", 0, first))) == "cancelled"
    assert shard.run(operator_calls.run_now(shard.t, second))
    [delivery] = shard.fetch()
    assert delivery.local == second
    shard.settle([delivery], Retried(600_000, b"[]"))
    assert shard.state(second) == "scheduled"
    number_of_third = third.rpartition("-")[2].encode()
    rows = shard.command("ZRANGE", shard.t.schedule, 0, -1)
    [row] = [row for row in rows if row.startswith(number_of_third.rjust(12, b"0") + b"n")]
    shard.command("ZADD", shard.t.schedule, 1, row)
    assert shard.promote().moved == 1
    assert shard.snapshot().ready == 1
    walked = shard.run(audit_calls.audit_schedule(shard.t, "", 2))
    assert walked.checked == 2


def test_tasks_due_at_one_moment_keep_their_order_at_thirteen_digits(shard: Shard) -> None:
    shard.command("HSET", shard.t.counters, "sequence", 10**12)
    moment = shard.now() + 500
    shard.enqueue(*[NewTask(b"%d" % n, due=moment, absolute=True) for n in range(20)])
    cursor, seen = "", 0
    while True:
        walked = shard.run(audit_calls.audit_schedule(shard.t, cursor, 3))
        seen += walked.checked
        if not (cursor := walked.cursor):
            break
    assert seen == 20
    shard.promote_until(20)
    assert [d.payload for d in shard.fetch()] == [b"%d" % n for n in range(20)]


def test_a_row_of_fifteen_digits_is_found_wherever_a_task_is(shard: Shard) -> None:
    """As a later release may write them: beside those of twelve, due at the same moment."""
    moment = shard.now() + 600_000
    tasks = [NewTask(b"%d" % n, due=moment, absolute=True) for n in range(6)]
    shard.enqueue(*tasks)
    ids = [row.local for row in shard.run(listing_calls.page_schedule(shard.t, "", 10)).rows]
    for row in shard.command("ZRANGE", shard.t.schedule, 0, -1)[::2]:
        shard.command("ZREM", shard.t.schedule, row)
        shard.command("ZADD", shard.t.schedule, moment, b"000" + row)
    assert [shard.state(local) for local in ids] == ["scheduled"] * 6
    page = shard.run(listing_calls.page_schedule(shard.t, "", 10))
    assert sorted(row.local for row in page.rows) == sorted(ids)
    for local in ids[:2]:
        assert shard.run(producer_calls.cancel(shard.t, shard.s, TaskId("email", 0, local))) == "cancelled"
    for local in ids[2:4]:
        assert shard.run(operator_calls.run_now(shard.t, local))
    assert {delivery.local for delivery in shard.fetch()} == set(ids[2:4])
    for local in ids[4:]:
        shard.command("HSET", shard.t.index, local, local)
    _, faults = shard.run(audit_calls.audit_rows(shard.t, "index", ids[4:]))
    assert {fault.code for fault in faults} <= {"needless_index_row"}
    assert sum(shard.run(audit_calls.repair_place(shard.t, local)) for local in ids[4:]) == 2
    assert shard.snapshot().scheduled == 2


def test_a_task_in_a_row_of_fifteen_digits_expires(shard: Shard) -> None:
    moment = shard.now() + 200
    shard.enqueue(NewTask(b"{}", due=moment, absolute=True, fields=(("x", "1"),)))
    [row] = shard.command("ZRANGE", shard.t.schedule, 0, -1)
    shard.command("ZREM", shard.t.schedule, row)
    shard.command("ZADD", shard.t.schedule, moment, b"000" + row)
    while shard.now() <= moment + 1:
        time.sleep(0.01)
    assert shard.run(daemon_calls.expire(shard.t, 10)) == (1, 1)
    assert shard.snapshot().scheduled == 0

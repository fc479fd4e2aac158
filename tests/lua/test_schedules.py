"""The scripts of schedules: each step is taken once, from what its caller saw, on every server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streamq.calls import producer as producer_calls
from streamq.calls import schedule as schedule_calls
from streamq.calls.schedule import Beside, Ticked
from streamq.model.outcome import Completed, Retried
from streamq.options.schedule import Every, Schedule
from streamq.schedules import state
from streamq.schedules.definition import defined
from streamq.schedules.plan import Move
from streamq.schedules.state import State
from tests.lua.shard import Shard

NIGHTLY = defined(Schedule(Every("1h")), "email", "n", (), b'{"n":1}')
HOUR = 3_600_000


def put(shard: Shard, **more: Any) -> State:
    """A schedule that is due at 1,000 ms."""
    found = State(revision=1, next=1000, **more)
    write = schedule_calls.write(
        shard.s, "nightly", 0, found.stored(), found.next, NIGHTLY.stored(), b'{"n":1}'
    )
    assert shard.run(write)
    return found


def now(shard: Shard) -> State:
    found = state.read(shard.run(schedule_calls.read(shard.s, "nightly")).state)
    assert found is not None
    return found


def tick(
    shard: Shard,
    found: State,
    *,
    run: int | None = 1000,
    overlap: Beside = "skip",
    score: str | None = None,
    skipped: int = 0,
) -> Ticked:
    move = Move(run, skipped, run or 1000, (run or 1000) + HOUR, (run or 1000) + HOUR)
    seen = str(found.next) if score is None else score
    return shard.run(
        schedule_calls.tick(shard.t, shard.s, "tick", "nightly", found.revision, seen, move, overlap, NIGHTLY)
    )


def test_a_step_is_taken_once(shard: Shard) -> None:
    seen = put(shard)
    made = tick(shard, seen)
    assert made.outcome == "made"
    assert tick(shard, seen) == Ticked("lost", "")
    [delivery] = shard.fetch()
    assert (delivery.local, delivery.payload, delivery.run, delivery.scheduled_ms) == (
        made.detail, b'{"n":1}', b"nightly@1000", 1000,
    )  # fmt: skip
    found = now(shard)
    assert (found.revision, found.next, found.last, found.ran, found.run, found.runs) == (
        2, 1000 + HOUR, 1000, 1000, made.detail, 1,
    )  # fmt: skip
    assert shard.snapshot().counters == {"accepted": 1}
    assert shard.command("ZRANGE", shard.s.schedules_due, 0, -1, "WITHSCORES") == [b"nightly", b"3601000"]


@pytest.mark.parametrize("score", ["999", "1001", "0"])
def test_who_saw_another_due_time_does_nothing(shard: Shard, score: str) -> None:
    assert tick(shard, put(shard), score=score).outcome == "lost"
    assert shard.snapshot().ready == 0


@pytest.mark.parametrize("damaged", ["", "x", "[]", "5", '{"revision":"x"}', '{"next":1000}', None])
def test_a_state_that_cannot_be_read_makes_nothing(shard: Shard, damaged: str | None) -> None:
    seen = put(shard)
    if damaged is None:
        shard.command("HDEL", shard.s.schedules, "nightly:state")
    else:
        shard.command("HSET", shard.s.schedules, "nightly:state", damaged)
    assert tick(shard, seen).outcome == "lost"
    assert shard.snapshot().ready == 0


def test_a_time_that_has_been_does_not_come_again(shard: Shard) -> None:
    assert tick(shard, put(shard, last=1000)) == Ticked("skipped", "past")
    assert now(shard).skipped == {"past": 1}


def test_what_is_missed_is_counted(shard: Shard) -> None:
    assert tick(shard, put(shard), run=None, skipped=7) == Ticked("skipped", "misfire")
    found = now(shard)
    assert (found.skipped, found.runs, found.next) == ({"misfire": 7}, 0, 1000 + HOUR)


@pytest.mark.parametrize("how", ["ready", "running", "retried", "dead", "completed", "cancelled"])
def test_a_run_lives_until_its_final_outcome(shard: Shard, how: str) -> None:
    tick(shard, put(shard))
    local = now(shard).run
    if how == "cancelled":
        shard.command("XDEL", shard.t.normal, local[1:])
    elif how != "ready":
        held = shard.fetch()
        if how in ("retried", "dead"):
            shard.settle(held, Retried(0 if how == "dead" else 60_000, b"[]"))
        if how == "completed":
            shard.settle(held, Completed())
        if how == "dead":
            shard.command("XDEL", shard.t.normal, shard.command("HGET", shard.t.index, local)[1:])
    found = now(shard)
    lives = how in ("ready", "running", "retried")
    want = Ticked("skipped", "overlap") if lives else "made"
    ticked = tick(shard, found, run=1000 + HOUR)
    assert want in (ticked, ticked.outcome)


def test_one_run_waits_and_no_more(shard: Shard) -> None:
    tick(shard, put(shard))
    assert tick(shard, now(shard), run=1000 + HOUR, overlap="queue_one").outcome == "waiting"
    found = now(shard)
    assert found.waiting == 1000 + HOUR
    assert tick(shard, found, run=1000 + 2 * HOUR, overlap="queue_one") == Ticked("skipped", "overlap")
    found = now(shard)
    move = Move(found.waiting, 0, found.last, None, None)

    def again() -> Ticked:
        score = shard.command("ZSCORE", shard.s.schedules_due, "nightly:waiting").decode()
        call = schedule_calls.tick(
            shard.t, shard.s, "waiting", "nightly", now(shard).revision, score, move, "queue_one", NIGHTLY
        )
        return shard.run(call)

    assert again().outcome == "waiting"
    shard.settle(shard.fetch(), Completed())
    assert again().outcome == "made"
    found = now(shard)
    assert (found.waiting, found.runs, found.ran) == (None, 2, 1000 + HOUR)
    assert shard.command("ZSCORE", shard.s.schedules_due, "nightly:waiting") is None


@pytest.mark.parametrize(
    ("policy", "reason"),
    [({"max_backlog": "1"}, "backlog"), ({"rate_limit": "1", "rate_period_ms": "60000"}, "rate_limit")],
)
def test_limits_of_the_type_hold(shard: Shard, policy: dict[str, str], reason: str) -> None:
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", policy))
    assert tick(shard, put(shard), overlap="allow").outcome == "made"
    assert tick(shard, now(shard), run=1000 + HOUR, overlap="allow") == Ticked("skipped", reason)


def test_so_many_runs_and_no_more(shard: Shard) -> None:
    assert tick(shard, put(shard, left=1)).outcome == "made"
    found = now(shard)
    assert (found.left, found.next) == (0, None)
    assert shard.command("ZCARD", shard.s.schedules_due) == 0


def test_a_row_is_written_as_it_was_seen_or_not_at_all(shard: Shard) -> None:
    seen = put(shard)
    changed = replace(seen, revision=2, next=5000)
    write = schedule_calls.write(shard.s, "nightly", 1, changed.stored(), 5000)
    assert shard.run(write)
    assert not shard.run(write)
    assert not shard.run(schedule_calls.write(shard.s, "nightly", 0, b"x", 5))
    assert not shard.run(schedule_calls.write(shard.s, "nightly", 1, b"", None))
    assert shard.run(schedule_calls.payload(shard.s, "nightly")) == b'{"n":1}'
    assert shard.run(schedule_calls.write(shard.s, "nightly", 2, b"", None))
    assert shard.command("EXISTS", shard.s.schedules, shard.s.schedules_due) == 0


def test_pages_show_every_row_once_and_no_payload(shard: Shard) -> None:
    names = {f"s{n:03d}" for n in range(300)}
    for name in names:
        call = schedule_calls.write(
            shard.s, name, 0, State(revision=1, next=5).stored(), 5, NIGHTLY.stored(), b"x" * 100
        )
        assert shard.run(call)
    shard.command("HSET", shard.s.schedules, "orphan:state", "x", b"\xff", "x", "a:b:c", "x")
    cursor, seen = "", dict[str, Any]()
    while True:
        cursor, rows = shard.run(schedule_calls.page(shard.s, cursor, 50))
        seen.update({row.name: row for row in rows})
        if not cursor:
            break
    assert set(seen) == names | {"orphan"}
    assert (seen["s007"].due, seen["orphan"].due, seen["orphan"].definition) == (5, None, None)
    due = shard.run(schedule_calls.due(shard.s, 0, 100))
    assert (len(due.rows), due.next_ms) == (100, None)
    assert len(shard.run(schedule_calls.due(shard.s, 250, 100)).rows) == 50
    assert shard.run(schedule_calls.due(shard.s, 300, 100)).rows == []

"""The runs of schedules of a type with unique keys, lanes, or both."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from streamq.calls import daemon as daemon_calls
from streamq.calls import producer as producer_calls
from streamq.calls import schedule as schedule_calls
from streamq.calls.schedule import Beside, Ticked
from streamq.errors import ServerError
from streamq.model.task import Accepted, NewTask
from streamq.schedules import definition
from streamq.schedules.definition import Definition
from streamq.schedules.plan import Move
from streamq.transport.sync_transport import SyncTransport
from tests.lua import test_unique
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard
from tests.lua.test_lanes import policy, why
from tests.lua.test_schedules import HOUR, NIGHTLY, now, put

UNIQUE = {"max_backlog": str(10**15), "rich": "1"}


def joining(lane: str | None = None, key: str = "acme", **more: Any) -> Definition:
    """The same schedule, whose runs take part in more."""
    told = json.loads(test_unique.new(key=key, **more).joins)
    if lane is not None:
        told["lane"] = lane
    if "debounce_ms" in more:
        told["delay_ms"] = more["debounce_ms"]
    return replace(NIGHTLY, joins=json.dumps(told))


def tick(shard: Shard, known: Definition, *, overlap: Beside = "allow", run: int | None = None) -> Ticked:
    found = now(shard)
    run = run or found.next or 0
    move = Move(run, 0, run, run + HOUR, run + HOUR)
    call = schedule_calls.tick(
        shard.t, shard.s, "tick", "nightly", found.revision, str(found.next), move, overlap, known
    )
    return shard.run(call)


@pytest.fixture
def unique(transport: SyncTransport) -> Shard:
    shard = Shard(transport, UNIQUE)
    put(shard)
    return shard


def test_a_run_takes_the_lock_of_its_key(unique: Shard) -> None:
    made = tick(unique, joining())
    assert (made.outcome, test_unique.holder(unique)) == ("made", made.detail)
    [held] = unique.fetch()
    assert (held.run, held.payload) == (b"nightly@1000", b'{"n":1}')
    unique.settle([held])
    assert test_unique.sizes(unique) == (0, 0)


@pytest.mark.parametrize("conflict", ["return", "raise"])
def test_a_run_whose_key_is_held_is_skipped_and_counted(unique: Shard, conflict: str) -> None:
    holder = test_unique.put(unique)
    assert tick(unique, joining(conflict=conflict)) == Ticked("skipped", "unique", holder)
    found = now(unique)
    assert (found.skipped, found.runs, found.next) == ({"unique": 1}, 0, 1000 + HOUR)
    assert unique.snapshot().counters == {"accepted": 1, "joined": 1}


def test_a_run_replaces_the_holder_and_is_that_task(unique: Shard) -> None:
    holder = test_unique.put(unique, b"1")
    assert tick(unique, joining(conflict="replace")) == Ticked("made", holder)
    [held] = unique.fetch()
    assert (held.local, held.payload, held.run) == (holder, b'{"n":1}', b"nightly@1000")
    assert (now(unique).run, unique.snapshot().counters) == (holder, {"accepted": 1, "replaced": 1})


def test_a_run_follows_the_holder(unique: Shard) -> None:
    test_unique.put(unique, b"1")
    held = unique.fetch()
    made = tick(unique, joining(conflict="after"))
    assert (made.outcome, unique.state(made.detail)) == ("made", "scheduled")
    assert tick(unique, joining(conflict="after")) == Ticked("made", made.detail)
    unique.settle(held)
    [run] = unique.fetch()
    assert (run.local, run.run) == (made.detail, b"nightly@%d" % (1000 + HOUR))


def test_a_run_is_put_off_by_debounce(unique: Shard) -> None:
    known = joining(debounce_ms=HOUR, conflict="debounce", free="started")
    made = tick(unique, known)
    assert unique.state(made.detail) == "scheduled"
    assert tick(unique, known) == Ticked("made", made.detail)
    assert unique.snapshot().counters == {"accepted": 1, "replaced": 1}


def test_a_throttled_run_is_skipped_within_its_window(unique: Shard) -> None:
    known = replace(NIGHTLY, joins=json.dumps({"unique": False, "throttle": {"key": "0f" * 16, "ms": HOUR}}))
    made = tick(unique, known)
    unique.settle(unique.fetch())
    assert tick(unique, known) == Ticked("skipped", "unique", made.detail)


def test_a_throttled_run_with_trailing_runs_at_the_end_of_the_interval(unique: Shard) -> None:
    told = {"unique": False, "trailing": 1, "throttle": {"key": "0f" * 16, "ms": HOUR}}
    known = replace(NIGHTLY, joins=json.dumps(told))
    first, second = tick(unique, known), tick(unique, known)
    assert [one.outcome for one in (first, second)] == ["made", "made"]
    assert (unique.state(first.detail), unique.state(second.detail)) == ("ready", "scheduled")
    assert tick(unique, known) == Ticked("made", second.detail)
    assert unique.snapshot().counters == {"accepted": 2, "replaced": 1}


def test_a_refused_run_takes_no_lock(unique: Shard) -> None:
    unique.run(producer_calls.register(unique.t, unique.s, "tests:email", {**UNIQUE, "max_backlog": "0"}))
    assert tick(unique, joining()) == Ticked("skipped", "backlog")
    assert test_unique.sizes(unique) == (0, 0)


@pytest.mark.parametrize("rules", [UNIQUE, policy(Rules(running=1))])
def test_a_definition_that_says_nothing_of_it_makes_no_run(
    transport: SyncTransport, rules: dict[str, str]
) -> None:
    shard = Shard(transport, rules)
    put(shard)
    before = now(shard)
    assert tick(shard, NIGHTLY) == Ticked("rich", "")
    assert tick(shard, replace(NIGHTLY, joins='{"x":1}')) == Ticked("rich", "")
    assert (now(shard), shard.snapshot().counters) == (before, {})


@pytest.mark.parametrize("joins", ["3", '{"unique":{}}', '{"lane":5}', '{"lane":"a","cost":0}'])
def test_what_cannot_be_joined_writes_nothing(unique: Shard, joins: str) -> None:
    before = now(unique)
    with pytest.raises(ServerError, match="MALFORMED schedule nightly; nothing was written"):
        tick(unique, replace(NIGHTLY, joins=joins))
    assert (now(unique), unique.snapshot().counters) == (before, {})


def laned(transport: SyncTransport, **more: str) -> Shard:
    shard = Shard(transport, policy(Rules(lane_running=1), **more))
    put(shard)
    return shard


IN_LANE = replace(NIGHTLY, joins='{"unique":false,"lane":"a"}')


def test_a_run_enters_its_lane_and_lives_while_it_is_parked(transport: SyncTransport) -> None:
    shard = laned(transport)
    [first] = shard.enqueue(NewTask(b"{}", joins='{"lane":"a"}'))
    assert isinstance(first, Accepted)
    made = tick(shard, IN_LANE)
    assert (made.outcome, why(shard, made.detail), shard.snapshot().counters) == (
        "made",
        "limit",
        {"accepted": 2},
    )
    assert tick(shard, IN_LANE, overlap="skip") == Ticked("skipped", "overlap")
    shard.settle(shard.fetch())
    [run] = shard.fetch()
    assert (run.local, run.run) == (made.detail, b"nightly@1000")
    assert tick(shard, IN_LANE, overlap="skip") == Ticked("skipped", "overlap")
    shard.settle([run])
    assert tick(shard, IN_LANE, overlap="skip").outcome == "made"


def test_parked_runs_count_for_the_backlog(transport: SyncTransport) -> None:
    shard = laned(transport, max_backlog="2")
    assert [tick(shard, IN_LANE).outcome for _ in range(3)] == ["made", "made", "skipped"]


def test_a_run_of_a_type_with_both_is_parked_with_its_lock(transport: SyncTransport) -> None:
    shard = laned(transport, rich="1")
    shard.enqueue(NewTask(b"{}", joins='{"lane":"a"}'))
    made = tick(shard, joining("a"))
    assert (why(shard, made.detail), test_unique.holder(shard)) == ("limit", made.detail)
    assert tick(shard, joining("a")) == Ticked("skipped", "unique", made.detail)
    shard.settle(shard.fetch())
    shard.settle(shard.fetch())
    assert test_unique.sizes(shard) == (0, 0)
    assert shard.run(daemon_calls.promote(shard.t, 10, rich=True)).moved == 0


def test_what_an_older_release_cannot_do_it_cannot_read() -> None:
    known = joining("a")
    stored = json.loads(known.stored())
    assert (stored["letter"], definition.read(known.stored()).parts) == ("n*", known.parts)
    assert json.loads(NIGHTLY.stored())["letter"] == "n"
    assert "joins" not in json.loads(NIGHTLY.stored())

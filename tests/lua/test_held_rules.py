"""Rules of lanes and unique keys that are held while a process that cannot obey them lives; and those that a
registration by an older release has removed. One call at a time."""

from __future__ import annotations

import pytest

from streamq import joining
from streamq.calls import daemon as daemon_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls.daemon import Lanes
from streamq.calls.producer import NeedsLane, NotJoined
from streamq.errors import InvalidOption
from streamq.model.outcome import HandedBack
from streamq.model.task import Accepted, Duplicate, NewTask
from streamq.options.unique_plan import Plan
from streamq.transport.sync_transport import SyncTransport
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard
from tests.lua.test_lanes import laned, policy, put, settle, why
from tests.lua.test_lanes_older import register_as_older
from tests.lua.test_unique import call, new

GATE = policy(Rules(lane_running=1))
UNIQUE = {"rich": "1", "unique": Plan(("n",)).stored(), "max_backlog": "1000000000000000"}
BOTH = {"lanes", "unique"}


def register(shard: Shard, policy: dict[str, str], lacking: set[str] | None) -> str | None:
    return shard.run(producer_calls.register(shard.t, shard.s, "tests:email", policy, lacking))


def in_policy(shard: Shard) -> set[str]:
    stored = shard.run(question_calls.policy(shard.t))
    return {"gate", "lane", "unique", "rich"} & stored.keys()


def enforce(shard: Shard, lacking: set[str]) -> int:
    return shard.run(producer_calls.enforce(shard.t, shard.s, lacking))


def state(shard: Shard) -> Lanes:
    return shard.run(daemon_calls.next_promotion([shard.t]))[1][0]


def both(shard: Shard) -> NewTask:
    """A task as a program with the code sends it: in a lane, with a lock."""
    return joining.in_lane(new(), "a")


@pytest.fixture
def shard(transport: SyncTransport) -> Shard:
    return Shard(transport)


def test_who_registers_new_rules_is_to_ask_the_processes(shard: Shard) -> None:
    assert register(shard, {**GATE, **UNIQUE}, None) is None
    assert in_policy(shard) == set()
    assert register(shard, {"lease_ms": "5000"}, None) == "tests:email"


@pytest.mark.parametrize("rules", [GATE, UNIQUE], ids=["lanes", "unique"])
def test_rules_that_are_in_force_are_registered_without_asking(shard: Shard, rules: dict[str, str]) -> None:
    register(shard, rules, set())
    assert register(shard, rules, None) == "tests:email"
    register_as_older(shard)
    assert register(shard, rules, None) == "tests:email"
    assert in_policy(shard) == set(rules) - {"max_backlog"}


def test_held_rules_are_not_obeyed_and_their_tasks_are_plain(shard: Shard) -> None:
    register(shard, {**GATE, **UNIQUE}, BOTH)
    assert in_policy(shard) == set()
    [first, second] = [answer for _ in range(2) for answer in shard.enqueue(both(shard))]
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert [why(shard, one.local) for one in (first, second)] == ["ready", "ready"]
    assert [entry.fields for entry in shard.fetch_raw()] == [[b"p", b"{}"], [b"p", b"{}"]]
    assert shard.command("EXISTS", shard.t.slots, shard.t.lanes, shard.t.unique) == 0


def test_a_caller_by_name_enqueues_a_plain_task_until_the_rules_are_in_force(shard: Shard) -> None:
    register(shard, {**GATE, **UNIQUE}, BOTH)
    shard.put()
    assert enforce(shard, set()) == 2
    with pytest.raises((NeedsLane, NotJoined)):
        shard.put()


def test_each_rule_waits_for_its_own_feature(shard: Shard) -> None:
    register(shard, {**GATE, **UNIQUE}, BOTH)
    assert (enforce(shard, BOTH), in_policy(shard), Lanes.UNENFORCED in state(shard)) == (0, set(), True)
    assert (enforce(shard, {"lanes"}), in_policy(shard)) == (1, {"rich", "unique"})
    assert (enforce(shard, set()), in_policy(shard)) == (1, {"rich", "unique", "gate", "lane"})
    assert state(shard) == Lanes.THERE
    assert (enforce(shard, set()), put(shard)[0]) == (0, "n")


def test_a_later_registration_puts_them_into_force(shard: Shard) -> None:
    register(shard, GATE, {"lanes"})
    put(shard)
    assert register(shard, GATE, None) is None  # a worker that starts asks again
    register(shard, GATE, set())
    assert in_policy(shard) == {"gate", "lane"}
    put(shard)
    assert why(shard, put(shard)) == "limit"


def test_a_registration_by_an_older_release_leaves_held_rules_held(shard: Shard) -> None:
    register(shard, {**GATE, **UNIQUE}, BOTH)
    register_as_older(shard)
    assert Lanes.UNENFORCED in state(shard)
    assert (enforce(shard, set()), in_policy(shard)) == (2, {"rich", "unique", "gate", "lane"})


def test_rules_in_force_stay_so_and_may_change(shard: Shard) -> None:
    register(shard, {**GATE, **UNIQUE}, set())
    other = policy(Rules(lane_running=2))
    register(shard, {**other, **UNIQUE}, BOTH)
    assert shard.run(question_calls.policy(shard.t))["gate"] == other["gate"]


def test_a_type_without_rules_forgets_the_held_ones(shard: Shard) -> None:
    register(shard, {**GATE, **UNIQUE}, BOTH)
    register(shard, {}, None)
    assert (shard.command("EXISTS", shard.t.rules), state(shard)) == (0, Lanes.NONE)


def test_the_order_of_lanes_is_never_held(shard: Shard) -> None:
    register(shard, policy(Rules(order=True)), {"lanes"})
    assert in_policy(shard) == {"gate", "lane"}


def test_a_type_with_tasks_does_not_become_ordered_while_others_are_held(shard: Shard) -> None:
    register(shard, GATE, {"lanes"})
    put(shard)
    with pytest.raises(InvalidOption, match="1 of its tasks wait without a lane"):
        register(shard, policy(Rules(order=True)), set())


# -- what an older registration removes ------------------------------------------------------------------


@pytest.fixture
def lost(transport: SyncTransport) -> Shard:
    """A type with a rule of unique keys, whose policy an older release has registered since."""
    shard = Shard(transport, UNIQUE)
    register_as_older(shard)
    assert in_policy(shard) == set()
    return shard


def test_a_caller_by_name_still_learns_of_the_lock(lost: Shard) -> None:
    with pytest.raises(NotJoined):
        lost.put()
    assert lost.run(producer_calls.policy_rules(lost.t)) == {"unique": UNIQUE["unique"]}
    assert isinstance(call(lost), Accepted)


def test_the_daemon_puts_the_rule_back(lost: Shard) -> None:
    assert Lanes.UNENFORCED in state(lost)
    assert (enforce(lost, BOTH), in_policy(lost)) == (0, {"rich", "unique"})
    assert lost.run(question_calls.policy(lost.t))["max_backlog"] == UNIQUE["max_backlog"]
    assert state(lost) == Lanes.NONE


def test_a_lock_is_still_a_lock(lost: Shard) -> None:
    first, second = call(lost), call(lost)
    assert isinstance(first, Accepted)
    assert second == Duplicate(first.local)


def test_a_successor_that_an_older_worker_released_asks_its_lane(transport: SyncTransport) -> None:
    """That release appends it to the stream as it stands in the schedule: it asks for a slot and has none."""
    shard = laned(transport, Rules(lane_running=1))
    holder = put(shard)
    older = shard.command("XADD", shard.t.normal, "*", *shard_fields(shard, put(shard, delay_ms=60_000)))
    passed = [one for one in shard.fetch() if one.asks_its_lane]
    assert [one.place for one in passed] == [f"n{older.decode()}"]
    settle(shard, passed, HandedBack())
    assert [why(shard, holder), why(shard, passed[0].local)] == ["running", "limit"]


def shard_fields(shard: Shard, local: str) -> list[bytes]:
    """The fields of a task of the schedule, as an older worker moves it to its stream."""
    fields = [*shard.locate(local).fields, b"i", local.encode()]
    shard.command("DEL", shard.t.schedule)
    return fields

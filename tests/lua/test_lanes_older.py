"""Lanes beside processes of a release that does not know them, one call at a time.

What those do is done here by what they have: the plain scripts, and a registration that leaves nothing in the
policy but its own fields.
"""

from __future__ import annotations

import pytest

from streamq.calls import daemon as daemon_calls
from streamq.calls import lanes as lane_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls.producer import NeedsLane
from streamq.errors import InvalidOption
from streamq.model.outcome import Completed, Expired, HandedBack
from streamq.model.task import NewTask, TaskId
from streamq.transport.sync_transport import SyncTransport
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard
from tests.lua.test_lanes import held, laned, plainly, policy, put, settle, why


def register_as_older(shard: Shard) -> None:
    """Register as a release that does not know lanes: its fields of the policy, and none else."""
    fields = shard.command("HKEYS", shard.t.policy)
    shard.command("HSET", shard.t.policy, "handler", "tests:email", "lease_ms", "10000", "max_lost", "3")
    shard.command("HDEL", shard.t.policy, *(set(fields) - {b"handler", b"lease_ms", b"max_lost"}))


@pytest.fixture
def older(transport: SyncTransport) -> Shard:
    """One of lane `a` runs, two are parked, and an older release has registered the type."""
    shard = laned(transport, Rules(lane_running=1))
    for _ in range(3):
        put(shard)
    register_as_older(shard)
    return shard


def test_a_producer_with_the_code_does_not_pass_the_gate(older: Shard) -> None:
    assert why(older, put(older)) == "limit"
    assert held(older, "a") == 1


@pytest.mark.parametrize("times", [1, 2])
def test_a_producer_without_the_code_is_told_the_argument(older: Shard, times: int) -> None:
    for _ in range(times):
        with pytest.raises(NeedsLane) as told:
            older.enqueue(NewTask(b"{}", "normal"))
        assert told.value.argument == "customer"
    assert older.command("XLEN", older.t.normal) == 1


def test_whoever_asks_the_gate_puts_the_rules_back_and_has_all_lanes_counted(older: Shard) -> None:
    put(older, "b")
    found = older.run(question_calls.policy(older.t))
    assert found["gate"] == policy(Rules(lane_running=1))["gate"]
    assert (found["lane"], found["recount"], found["sweep"]) == ("customer", "1", "")


def test_the_daemon_puts_the_rules_back_though_nothing_is_parked(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    put(shard)
    later = put(shard, delay_ms=1)
    register_as_older(shard)
    assert daemon_calls.Lanes.UNCOUNTED in shard.run(daemon_calls.next_promotion([shard.t]))[1][0]
    while shard.run(daemon_calls.promote(shard.t, 10, rich=True)).moved == 0:
        pass
    assert why(shard, later) == "limit"
    assert "gate" in shard.run(question_calls.policy(shard.t))


def test_a_count_puts_the_rules_back_though_nobody_asks_the_gate(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    put(shard)
    waits = put(shard)
    register_as_older(shard)
    plainly(shard, shard.fetch(), Expired())
    assert daemon_calls.Lanes.UNCOUNTED in shard.run(daemon_calls.next_promotion([shard.t]))[1][0]
    assert shard.recount() == {"a": (1, 0)}
    assert why(shard, waits) == "ready"
    assert "gate" in shard.run(question_calls.policy(shard.t))


def test_a_slot_comes_back_in_the_meantime(older: Shard) -> None:
    assert settle(older, older.fetch(), Completed()) == [True]
    assert held(older, "a") == 1


def test_an_operator_may_set_limits_in_the_meantime(older: Shard) -> None:
    assert older.run(lane_calls.limit(older.t, "a", "2;;;")) == ""
    assert held(older, "a") == 2


def test_a_registration_that_knows_lanes_takes_them_away_for_good(older: Shard) -> None:
    older.run(producer_calls.register(older.t, older.s, "tests:email", {}))
    assert older.command("EXISTS", older.t.rules) == 0
    older.run(daemon_calls.promote(older.t, 10, rich=True))
    assert older.command("EXISTS", older.t.lanes, older.t.rules) == 0


def test_an_ordered_type_with_tasks_is_registered_again(transport: SyncTransport) -> None:
    rules = policy(Rules(order=True))
    shard = Shard(transport, rules)
    put(shard)
    register_as_older(shard)
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", rules))
    shard.command("DEL", shard.t.rules)
    register_as_older(shard)
    with pytest.raises(InvalidOption, match="1 of its tasks wait without a lane"):
        shard.run(producer_calls.register(shard.t, shard.s, "tests:email", rules))


@pytest.mark.parametrize(
    "damage", [("SET", "garbage"), ("SET", "[1]"), ("SET", '{"gate":1}'), ("LPUSH", "x")]
)
def test_rules_that_streamq_cannot_have_written_count_as_none(
    transport: SyncTransport, damage: tuple[str, str]
) -> None:
    shard = Shard(transport)
    shard.command(damage[0], shard.t.rules, damage[1])
    shard.put()
    assert why(shard, put(shard)) == "ready"
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", {}))
    assert shard.command("EXISTS", shard.t.rules) == 0


def test_what_an_older_daemon_promoted_asks_its_lane_when_it_is_handed_back(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    first, later = put(shard), put(shard, delay_ms=1)
    shard.promote_until(1)
    assert [shard.state(later), held(shard, "a")] == ["ready", 1]
    passed = [one for one in shard.fetch() if one.asks_its_lane]
    assert [one.local for one in passed] == [later]
    assert settle(shard, passed, HandedBack()) == [True]
    assert [why(shard, first), why(shard, later)] == ["running", "limit"]
    assert shard.recount() == {}


def test_what_older_processes_end_holds_its_slot_until_it_is_counted(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    put(shard)
    waits = put(shard)
    plainly(shard, shard.fetch(), Expired())
    assert why(shard, waits) == "limit"
    assert shard.recount() == {"a": (1, 0)}
    assert why(shard, waits) == "ready"


def test_what_an_older_worker_handed_back_holds_its_slot_in_the_schedule(transport: SyncTransport) -> None:
    shard = laned(transport, Rules(lane_running=1))
    first, second = put(shard), put(shard)
    plainly(shard, shard.fetch(), HandedBack(delay_ms=60_000, times=1))
    shard.command("HSET", shard.t.slots, "a", "0;;;;")
    assert shard.recount() == {"a": (0, 1)}
    assert [shard.state(first), why(shard, second)] == ["scheduled", "limit"]
    cancelled = shard.run(producer_calls.cancel(shard.t, shard.s, TaskId("email", 0, first)))
    assert (cancelled, why(shard, second)) == ("cancelled", "ready")

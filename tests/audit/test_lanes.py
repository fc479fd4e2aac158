"""The audit of lanes on a live queue: it finds what is wrong while tasks come and end, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from streamq.audit import lane_walks
from streamq.calls import producer as producer_calls
from streamq.control.admin import Admin
from streamq.control.inspector import Inspector
from streamq.embedded import EmbeddedServer
from streamq.model.outcome import Completed
from streamq.model.task import NewTask
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.conftest import command
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard
from tests.lua.test_lanes import laned, policy, settle
from tests.variant import changed


def enqueue(shard: Shard, lanes: list[str]) -> None:
    for n in range(0, len(lanes), 500):
        shard.enqueue(
            *[NewTask(b"{}", "normal", joins=f'{{"lane":"{lane}"}}') for lane in lanes[n : n + 500]]
        )


def faults(shard: Shard) -> set[tuple[str, str]]:
    found = Inspector(shard.transport, "shop", 1).audit()
    return {(one.code, one.where) for one in found.problems}


def opened(url: str, rules: Rules) -> Shard:
    shard = laned(SyncTransport(Address.parse(url)), rules)
    shard.run(producer_calls.announce("shop", 1))
    return shard


@contextmanager
def busy(url: str, rules: Rules, lanes: list[str]) -> Iterator[Callable[[], int]]:
    """A worker ends tasks, and as many come, until the block is left; how many ended so far."""
    shard, stop, ended = opened(url, rules), threading.Event(), [0]

    def work() -> None:
        while not stop.is_set():
            batch = shard.fetch(budget=20)
            settle(shard, batch, Completed())
            ended[0] += len(batch)
            enqueue(shard, [lanes[(ended[0] + n) % len(lanes)] for n in range(len(batch))])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: ended[0]
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    "rules", [Rules(lane_running=3), Rules(running=40, lane_running=5), Rules(fair=True)],
    ids=["lanes", "type", "fair"],
)  # fmt: skip
def test_what_moves_is_no_fault_and_what_is_wrong_is_found(url: str, rules: Rules) -> None:
    shard = opened(url, rules)
    names = [f"lane {n}" for n in range(200)]
    enqueue(shard, names * 4)
    with busy(url, rules, names) as ended:
        for _ in range(3):
            assert faults(shard) == set()
        shard.command("HSET", shard.t.slots, "nobody", "2;;;;")
        assert faults(shard) == {("slots_differ", "'nobody': 2 recorded, 0 actual")}
        Admin(shard.transport, "shop", 1).repair()
        assert faults(shard) == set()
        assert ended() > 100


def test_a_lane_with_many_tasks_is_judged_while_nothing_moves(url: str) -> None:
    shard = opened(url, Rules(lane_running=1000))
    enqueue(shard, ["acme"] * (lane_walks.TASKS + 50))
    assert faults(shard) == set()
    shard.command("HSET", shard.t.slots, "acme", f"{lane_walks.TASKS};;;;")
    assert faults(shard) == {
        ("slots_differ", f"'acme': {lane_walks.TASKS} recorded, {lane_walks.TASKS + 50} actual")
    }


def test_lanes_that_a_changed_score_hid_go_on_after_its_repair(url: str) -> None:
    """They have neither their turn nor a timer: no daemon would look at them."""
    shard = opened(url, Rules(running=1))
    enqueue(shard, ["first", "acme", "other"])
    rows = shard.command("ZRANGE", shard.t.lanes, 0, -1)
    shard.command("ZADD", shard.t.lanes, -5, rows[1])
    shard.command("ZREM", shard.t.turns, "acme", "other")
    done = Admin(shard.transport, "shop", 1).repair()
    assert "changed_score" in {one.problem.code for one in done.repaired}
    assert shard.command("ZRANGE", shard.t.turns, 0, -1) == [b"acme", b"other"]
    assert faults(shard) == set()


def test_nothing_is_judged_while_changed_rules_are_brought_to_the_lanes(url: str) -> None:
    shard = opened(url, Rules(lane_running=1))
    enqueue(shard, ["acme", "acme"])
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", policy(Rules(lane_running=2))))
    assert faults(shard) == set()


@pytest.mark.parametrize("lanes", [1, 7, 300])
def test_a_call_that_has_no_time_leaves_the_rest_to_the_next(url: str, lanes: int) -> None:
    """Each checks one thing at least, so a slow server is audited too, and finds the same."""
    shard = opened(url, Rules(lane_running=1))
    enqueue(shard, [f"lane {n % lanes}" for n in range(2 * lanes + 40)])
    shard.command("HSET", shard.t.slots, "nobody", ";;;9000000000000000;")
    shard.command("ZADD", shard.t.turns, 1, "neither")
    shard.command("ZADD", shard.t.ripe, 10**15, "lane 0")
    wrong = {("missing_timer", "nobody"), ("stale_turn", "neither"), ("stale_timer", "lane 0")}
    assert faults(shard) == wrong
    with changed(lambda _, text: text.replace("CALL = 0.002, 64", "CALL = -1, 0")):
        assert faults(shard) == wrong


PARKED = 1_000_000


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("lanes", [1, 1000, PARKED], ids=["one lane", "1000 lanes", "a lane each"])
def test_a_million_parked_tasks(valkey: EmbeddedServer, url: str, lanes: int) -> None:
    """Prints how long the audit takes, and the longest of its calls by the server's slow log."""
    shard = opened(url, Rules(running=100, lane_running=1))
    began = time.monotonic()
    enqueue(shard, [f"lane {n % lanes}" for n in range(PARKED)])
    filled = time.monotonic()
    command(url, "CONFIG", "SET", "slowlog-log-slower-than", 2000)
    command(url, "SLOWLOG", "RESET")
    found = faults(shard)
    took = time.monotonic() - filled
    slow = command(url, "SLOWLOG", "GET", 1000)
    assert isinstance(slow, list)
    longest = sorted((int(row[2]) / 1000 for row in slow), reverse=True)
    told = f"audited in {took:.0f} s, {len(longest)} calls over 2 ms, longest {longest[:5]} ms"
    print(f"\n{lanes:,} lanes: filled in {filled - began:.0f} s, {told}")
    assert found == set()

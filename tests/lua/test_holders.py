"""Completions of tasks with claims are settled together: the worker tells what it read in their entries."""

from __future__ import annotations

import pytest

from streamq.calls import worker as worker_calls
from streamq.keys import GROUP
from streamq.model.delivery import Delivery
from streamq.model.outcome import Completed, Settlement
from streamq.transport.sync_transport import SyncTransport
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard
from tests.lua.test_lanes import held, laned, put

KEPT = Completed(b'"done"', 60_000)


def settle(shard: Shard, deliveries: list[Delivery], writer: str = "settler") -> list[bool]:
    items = [Settlement(one.place, one.local, KEPT, rich=True, claims=one.claims) for one in deliveries]
    return shard.run(worker_calls.settle(shard.t, shard.s, writer, shard.sequence(), items))


def running(transport: SyncTransport) -> tuple[Shard, list[Delivery]]:
    shard = laned(transport, Rules())
    for lane in ("a", "b", "a" * 40, "c" * 200):  # whose packed names have heads of one and of two bytes
        put(shard, lane)
    return shard, sorted(shard.fetch(), key=lambda one: one.local)


def left(shard: Shard) -> list[int]:
    return [shard.command("HLEN", shard.t.slots), shard.command("XLEN", shard.t.normal)]


def test_all_are_ended_and_give_their_slots_back(transport: SyncTransport) -> None:
    shard, deliveries = running(transport)
    assert left(shard) == [4, 4]
    assert settle(shard, deliveries) == [True] * 4
    assert left(shard) == [0, 0]
    assert [shard.locate(one.local).result for one in deliveries] == [b'"done"'] * 4
    counters = shard.snapshot().counters
    assert (counters["started"], counters["completed"]) == (4, 4)
    assert settle(shard, deliveries, "zombie") == [False] * 4


@pytest.mark.parametrize("stale", [0, 2])
def test_one_that_is_no_longer_ours_keeps_what_it_holds(transport: SyncTransport, stale: int) -> None:
    shard, deliveries = running(transport)
    lost = deliveries[stale]
    shard.command("XACK", shard.t.normal, GROUP, lost.place[1:])
    shard.command("XDEL", shard.t.normal, lost.place[1:])
    assert settle(shard, deliveries) == [one is not lost for one in deliveries]
    assert left(shard) == [1, 0]
    assert shard.locate(lost.local).result is None
    assert shard.command("HGET", shard.t.counters, "completed") == b"3"


def test_one_that_is_named_twice_is_ended_once(transport: SyncTransport) -> None:
    shard, deliveries = running(transport)
    put(shard, "a")
    assert held(shard, "a") == 2
    assert settle(shard, [*deliveries, deliveries[0]]) == [True, True, True, True, False]
    assert held(shard, "a") == 1
    assert shard.locate(deliveries[0].local).result == b'"done"'


def test_one_whose_entry_was_deleted_behind_our_back_gives_its_slot_back(transport: SyncTransport) -> None:
    shard, deliveries = running(transport)
    shard.command("XDEL", shard.t.normal, deliveries[1].place[1:])
    assert settle(shard, deliveries) == [True] * 4
    assert left(shard) == [0, 0]


def test_what_was_deleted_is_ended_where_others_were_not_ours(transport: SyncTransport) -> None:
    shard, deliveries = running(transport)
    shard.command("XDEL", shard.t.normal, deliveries[1].place[1:], deliveries[2].place[1:])
    shard.command("XACK", shard.t.normal, GROUP, deliveries[2].place[1:])
    assert settle(shard, deliveries) == [True, True, False, True]
    assert left(shard) == [1, 0]

"""Sorted sets in the order of their bytes, where another program has changed a score: walks end, nothing is
taken from another lane or group, the audit finds and repairs it, and the daemon does so by itself."""

from __future__ import annotations

import pytest

from streamq.calls import daemon as daemon_calls
from streamq.calls import lanes as lane_calls
from streamq.calls import listing as listing_calls
from streamq.calls import operator as operator_calls
from streamq.control.admin import Admin
from streamq.control.inspector import Inspector
from streamq.model.outcome import Completed, Died
from streamq.transport.sync_transport import SyncTransport
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard
from tests.lua.test_lanes import laned, put, settle, why

LATE = 2 * 10**12


def parked(transport: SyncTransport) -> tuple[Shard, list[str]]:
    """Three lanes with 40 parked tasks each; more than a step of a walk has."""
    shard = laned(transport, Rules(lane_running=1))
    return shard, [put(shard, lane) for lane in "abc" for _ in range(41)]


def scatter(shard: Shard, key: str, every: int = 7) -> int:
    """Give rows other scores: the last the lowest, so that walks meet them in the wrong order."""
    rows = shard.command("ZRANGE", key, 0, -1)[::every]
    for n, row in enumerate(rows):
        shard.command("ZADD", key, -n if n % 2 else n + 1, row)
    return len(rows)


def look(shard: Shard) -> list[str]:
    return sorted({one.code for one in Inspector(shard.transport, "shop", 1).audit().problems})


def test_walks_end_and_the_audit_names_the_fault(transport: SyncTransport) -> None:
    shard, _ = parked(transport)
    scatter(shard, shard.t.lanes)
    assert "changed_score" in look(shard)
    inspector, seen, cursor = Inspector(transport, "shop", 1), 0, ""
    while True:
        page = inspector.tasks("parked", "email", limit=10, cursor=cursor)
        seen += len(page.rows)
        assert seen <= 120
        if not (cursor := page.cursor or ""):
            break
    assert len(list(inspector.lanes("email"))) <= 3


def test_the_repair_gives_every_task_back(transport: SyncTransport) -> None:
    shard, ids = parked(transport)
    scatter(shard, shard.t.lanes)
    done = Admin(transport, "shop", 1).repair()
    assert [one.problem.code for one in done.repaired] == ["changed_score"]
    assert look(shard) == []
    assert {why(shard, one) for one in ids} == {"ready", "limit"}


def test_a_daemon_repairs_it_by_itself(transport: SyncTransport) -> None:
    shard, ids = parked(transport)
    changed = scatter(shard, shard.t.lanes)
    assert shard.run(daemon_calls.trim([shard.t], shard.s, 1000, 1000, 1000)) == changed
    assert look(shard) == []
    assert {why(shard, one) for one in ids} == {"ready", "limit"}


def test_a_daemon_does_so_in_bounded_steps(transport: SyncTransport) -> None:
    shard, _ = parked(transport)
    changed, steps = scatter(shard, shard.t.lanes, 2), list[int]()
    while done := shard.run(daemon_calls.trim([shard.t], shard.s, 1000, 1000, 10)):
        steps.append(done)
    assert (sum(steps), max(steps)) == (changed, 10)


def test_the_purge_of_a_lane_takes_none_of_another(transport: SyncTransport) -> None:
    shard, _ = parked(transport)
    rows = shard.command("ZRANGE", shard.t.lanes, 0, -1)
    shard.command("ZADD", shard.t.lanes, 1, rows[0])  # of lane a, behind those of lane c
    while shard.run(lane_calls.purge_lane(shard.t, "c", 100)):
        pass
    assert sorted(shard.command("ZRANGE", shard.t.lanes, 0, -1)) == rows[:80]


@pytest.mark.parametrize("verb", ["requeue", "purge"])
def test_a_group_of_dead_letters_takes_none_of_another(transport: SyncTransport, verb: str) -> None:
    shard = Shard(transport)
    for _ in range(9):
        shard.put()
    for n, one in enumerate(shard.fetch()):
        shard.settle([one], Died("attempts", b"[]", fingerprint="abc"[n % 3] * 8))
    rows = shard.command("ZRANGE", shard.t.groups, 0, -1)
    shard.command("ZADD", shard.t.groups, 1, rows[0])  # of group a, behind those of group c
    group = rows[-1].split()[0].decode()
    listed, cursor = list[str](), ""
    for _ in range(9):
        page = shard.run(listing_calls.page_dead(shard.t, cursor, 1, group))
        listed, cursor = [*listed, *(row.fingerprint for row in page.rows)], page.cursor
    assert set(listed) <= {group}
    moved = shard.run(getattr(operator_calls, verb)(shard.t, 100, LATE, [], fingerprint=group))
    assert (moved.done, shard.snapshot().dead) == (3, 6)
    assert sorted(shard.command("ZRANGE", shard.t.groups, 0, -1)) == rows[:6]


def test_a_lane_goes_on_as_soon_as_a_daemon_looks(transport: SyncTransport) -> None:
    shard, ids = parked(transport)
    last = shard.command("ZRANGE", shard.t.lanes, -1, -1)[0]
    shard.command("ZADD", shard.t.lanes, -1, last)  # before all others: it hides them
    assert settle(shard, shard.fetch(budget=2), Completed()) == [True] * 2
    assert [why(shard, one) for one in (ids[1], ids[42])] != ["ready"] * 2
    for _ in range(2):
        shard.run(daemon_calls.promote(shard.t, 10, rich=True))
    assert [why(shard, one) for one in (ids[1], ids[42])] == ["ready"] * 2

"""What users expect of lanes, each as it is told: a rate for a minute, a limit that is taken away, no daemon.

Time is the test's own, so a minute takes a second. The same with real workers is in `worker.test_lanes`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamq.calls import daemon as daemon_calls
from streamq.calls import producer as producer_calls
from streamq.embedded import EmbeddedServer
from streamq.model.outcome import Completed, Died
from streamq.model.task import NewTask
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard
from tests.lua.test_lane_fuzz import Fuzz
from tests.lua.test_lanes import policy, put, settle, why
from tests.variant import changed, own_clock


@pytest.fixture
def timed(transport: SyncTransport) -> Iterator[SyncTransport]:
    with changed(own_clock):
        yield transport


def begun(transport: SyncTransport, rules: Rules, now_us: int = 1_800_000_000_000_000) -> Shard:
    shard = Fuzz(transport, rules, 1).shard
    set_clock(shard, now_us)
    return shard


def set_clock(shard: Shard, now_us: int) -> None:
    shard.command("DEL", "clock")
    shard.command("RPUSH", "clock", now_us // 10**6, now_us % 10**6)


def promote(shard: Shard) -> int | None:
    """Do what a daemon does when it is time; return when it is time again, in ms."""
    return shard.run(daemon_calls.promote(shard.t, 100, rich=True)).next_due_ms


def laned(*lanes: str) -> list[NewTask]:
    return [NewTask(b"{}", "normal", joins=f'{{"lane":"{lane}"}}') for lane in lanes]


def test_ten_a_second_are_six_hundred_a_minute_in_order_and_nobody_asks_in_between(
    timed: SyncTransport,
) -> None:
    begin = 1_800_000_000_000_000
    shard, started, wakes = begun(timed, Rules(interval=100_000)), list[str](), 0
    ids = [answer.local for answer in shard.enqueue(*laned(*["a"] * 650))]  # type: ignore[union-attr]
    now = begin
    while now < begin + 60_000_000:
        batch = shard.fetch()
        assert len(batch) <= 1
        started += [one.local for one in batch]
        settle(shard, batch, Completed())
        due = promote(shard)
        assert due is not None
        assert due * 1000 > now, "a daemon is told to look at once though nothing can go"
        now = due * 1000
        wakes += 1
        set_clock(shard, now)
        promote(shard)
    assert started == ids[: len(started)]
    assert abs(len(started) - 600) <= 1
    assert wakes <= len(started) + 1


def test_without_a_daemon_whoever_settles_admits_what_has_a_token_by_now(timed: SyncTransport) -> None:
    shard = begun(timed, Rules(lane_interval=1_000_000))
    first, second, other = put(shard), put(shard), put(shard, "b")
    assert [why(shard, one) for one in (first, second, other)] == ["ready", "rate", "ready"]
    set_clock(shard, 1_800_000_001_500_000)
    settle(shard, [one for one in shard.fetch() if one.local == other], Completed())
    assert why(shard, second) == "ready"


def test_when_all_that_hold_a_slot_are_lost_for_good_those_who_wait_are_admitted_by_that(
    transport: SyncTransport,
) -> None:
    shard = Shard(transport, policy(Rules(lane_running=3), max_lost="1"))
    holders, waiting = [put(shard) for _ in range(3)], [put(shard) for _ in range(3)]
    for one in shard.fetch():
        shard.age(one, 600_000)
    assert shard.reclaim().dead == 3
    assert {shard.state(one) for one in holders} == {"dead"}
    assert [why(shard, one) for one in waiting] == ["ready"] * 3


@pytest.mark.parametrize("outcome", [Completed(), Died("attempts", b"[]")], ids=["completed", "dead"])
def test_a_tenant_that_is_alone_has_the_whole_window(
    transport: SyncTransport, outcome: Completed | Died
) -> None:
    """Each settlement admits as many as it ends: the workers of one tenant never want for tasks."""
    shard = Shard(transport, policy(Rules(fair=True), window="20"))
    shard.enqueue(*laned(*["a"] * 300))
    done = 0
    while batch := shard.fetch(budget=7):
        done += len(batch)
        settle(shard, batch, outcome)
        assert shard.snapshot().ready == min(20, 300 - done)
    assert done == 300


PARKED = 390_000


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_limit_that_is_taken_away_lets_390_000_go_in_short_steps(valkey: EmbeddedServer, url: str) -> None:
    """Prints how many steps that took, and the longest by the server's slow log."""
    shard = Shard(SyncTransport(Address.parse(url)), policy(Rules(lane_running=1)))
    for n in range(0, PARKED, 1000):
        shard.enqueue(*laned(*[f"lane {m % 100}" for m in range(n, n + 1000)]))
    shard.command("CONFIG", "SET", "slowlog-log-slower-than", 2000)
    shard.command("SLOWLOG", "RESET")
    shard.run(producer_calls.register(shard.t, shard.s, "tests:email", policy(Rules(lane_running=10**6))))
    calls = 0
    while shard.command("XLEN", shard.t.normal) < PARKED:
        calls += 1
        promote(shard)
        assert calls < PARKED // 50
    slow = sorted((int(row[2]) / 1000 for row in shard.command("SLOWLOG", "GET", 1000)), reverse=True)
    print(f"\n{calls} calls, {len(slow)} over 2 ms, longest {slow[:5]} ms")
    assert not shard.command("EXISTS", shard.t.lanes, shard.t.turns)

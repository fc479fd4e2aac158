"""Signals in the scripts: stored, taken once, in their order, and delivered to who is suspended."""

from __future__ import annotations

import pytest

from streamq import memos
from streamq.calls import daemon as daemon_calls
from streamq.calls import operator as operator_calls
from streamq.calls import signals as signal_calls
from streamq.calls import steps as step_calls
from streamq.calls import worker as worker_calls
from streamq.calls.signals import LIFE_MS, MOST_UNREAD, Taken
from streamq.errors import UsageError
from streamq.model.delivery import Delivery
from streamq.model.effect import Stepped, Suspend
from streamq.model.outcome import Completed, Died, HandedBack, Outcome, Retried, Settlement
from streamq.model.reply import Note
from streamq.transport.sync_transport import SyncTransport
from tests.lua import test_lanes as lanes
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard

NOTE = Note("action-1", b'{"by":"ada"}')
HOUR = 3_600_000
NAME = memos.wait_name("yes", 1)


def taken(shard: Shard) -> Delivery:
    shard.put()
    [held] = shard.fetch()
    return held


def give(shard: Shard, local: str, value: bytes = b"1", key: str = "k", name: str = "yes") -> str:
    return shard.run(signal_calls.signal(shard.t, local, name, value, key.rjust(16, "0")))


def take(
    shard: Shard, held: Delivery, number: int = 1, timeout_ms: int | None = HOUR, consumer: str = "c"
) -> Taken:
    name = memos.wait_name("yes", number)
    return shard.run(signal_calls.take(shard.t, consumer, held.place, held.local, name, "yes", timeout_ms))


def settle(shard: Shard, held: Delivery, outcome: Outcome, *more: Suspend) -> list[bool]:
    item = Settlement(held.place, held.local, outcome, effects=(Stepped(), *more))
    return shard.run(worker_calls.settle(shard.t, shard.s, "settler", shard.sequence(), [item]))


def suspend(shard: Shard, held: Delivery, ms: int = HOUR) -> None:
    settle(shard, held, HandedBack(True, ms), Suspend(NAME))


def kept(shard: Shard, held: Delivery) -> dict[str, bytes]:
    return shard.run(step_calls.memos(shard.t, held.local)).by_name


def test_a_signal_before_the_wait_is_stored_and_taken_once(shard: Shard) -> None:
    local = shard.put()
    assert give(shard, local, b"7") == "stored"
    assert 0 < shard.command("PTTL", shard.t.mail(local)) <= LIFE_MS
    assert shard.run(signal_calls.mailbox(shard.t, local)) == {"yes": 1}
    [held] = shard.fetch()
    assert take(shard, held) == Taken(b"7")
    assert take(shard, held) == Taken(b"7"), "the same wait gets the same answer"
    assert take(shard, held, 2) == Taken(left_ms=HOUR)
    assert shard.run(signal_calls.mailbox(shard.t, local)) == {}


def test_signals_of_a_name_come_in_their_order_and_those_of_another_stay(shard: Shard) -> None:
    held = taken(shard)
    for n in range(3):
        assert give(shard, held.local, b"%d" % n, key=f"k{n}") == "stored"
    assert give(shard, held.local, b"9", key="other", name="no") == "stored"
    assert [take(shard, held, n).value for n in (1, 2, 3, 4)] == [b"0", b"1", b"2", None]
    assert shard.run(signal_calls.mailbox(shard.t, held.local)) == {"no": 1}


def test_a_call_that_is_sent_again_gives_no_second_signal(shard: Shard) -> None:
    held = taken(shard)
    assert give(shard, held.local) == give(shard, held.local) == "stored"
    assert take(shard, held).value == b"1"
    assert give(shard, held.local) == "stored"
    assert take(shard, held, 2).value is None
    assert give(shard, held.local, key="new") == "delivered"
    assert give(shard, held.local, key="new") == "stored"
    assert take(shard, held, 2).value == b"1"
    assert take(shard, held, 3).value is None


def test_who_is_suspended_for_it_becomes_ready_in_the_same_step(shard: Shard) -> None:
    held = taken(shard)
    assert take(shard, held, timeout_ms=None) == Taken(left_ms=-1)
    suspend(shard, held)
    assert shard.state(held.local) == "scheduled"
    assert give(shard, held.local, b"5") == "delivered"
    assert shard.snapshot().ready == 1
    [again] = shard.fetch()
    assert (again.local, again.attempt) == (held.local, 1)
    assert kept(shard, again) == {NAME: b"+5"}
    assert settle(shard, again, Completed()) == [True]
    assert shard.command("HLEN", shard.t.steps) == 0


def test_one_that_comes_between_the_wait_and_the_suspension_is_not_slept_through(shard: Shard) -> None:
    held = taken(shard)
    take(shard, held)
    assert give(shard, held.local) == "delivered"
    suspend(shard, held)
    assert (shard.snapshot().ready, shard.snapshot().scheduled) == (1, 0)


def test_a_signal_of_another_name_wakes_nobody(shard: Shard) -> None:
    held = taken(shard)
    take(shard, held)
    suspend(shard, held)
    for name in ("no", "yes 1", "ye", "wait yes"):
        assert give(shard, held.local, key=name, name=name) == "stored"
    assert shard.state(held.local) == "scheduled"


def test_a_retry_that_waits_for_its_time_is_not_woken(shard: Shard) -> None:
    held = taken(shard)
    take(shard, held)
    suspend(shard, held, 1)
    shard.promote_until(1)
    [again] = shard.fetch()
    settle(shard, again, Retried(HOUR, b"[]"))
    assert give(shard, held.local) == "delivered"
    assert shard.state(held.local) == "scheduled"
    shard.run(operator_calls.run_now(shard.t, held.local))
    [third] = shard.fetch()
    assert take(shard, third).value == b"1"


def test_a_timeout_stays_and_a_signal_wins_that_came_before_anybody_looked(shard: Shard) -> None:
    held = taken(shard)
    assert take(shard, held, timeout_ms=0) == Taken(late=True)
    assert give(shard, held.local) == "stored"
    assert take(shard, held, timeout_ms=HOUR) == Taken(late=True), "what was decided stays"
    assert take(shard, held, 2, timeout_ms=0).value == b"1"


def test_the_time_of_a_wait_counts_from_its_first_attempt(shard: Shard) -> None:
    held = taken(shard)
    take(shard, held, timeout_ms=200)
    suspend(shard, held, 200)
    shard.promote_until(1)
    [again] = shard.fetch()
    assert take(shard, again, timeout_ms=200) == Taken(late=True)


@pytest.mark.parametrize("how", ["other", "reclaimed", "nonsense"])
def test_only_who_holds_the_delivery_takes(shard: Shard, how: str) -> None:
    held = taken(shard)
    give(shard, held.local)
    if how == "reclaimed":
        shard.age(held, 600_000)
        shard.reclaim_all()
    place = held._replace(place="x1") if how == "nonsense" else held
    assert take(shard, place, consumer="d" if how == "other" else "c") == Taken(lost=True)
    assert shard.run(signal_calls.mailbox(shard.t, held.local)) == {"yes": 1}


def test_a_memo_of_a_step_is_not_taken_for_a_wait(shard: Shard) -> None:
    held = taken(shard)
    shard.run(step_calls.checkpoint(shard.t, "c", held.place, held.local, NAME, b"5"))
    assert take(shard, held) == Taken(other=True)
    assert give(shard, held.local) == "stored"


def test_there_is_an_end_to_what_nobody_takes(shard: Shard) -> None:
    local = shard.put()
    for n in range(MOST_UNREAD):
        assert give(shard, local, key=f"k{n}") == "stored"
    assert give(shard, local, key="more") == "full"


@pytest.mark.parametrize("how", ["completed", "dead", "cancelled", "never"])
def test_a_task_that_has_ended_gets_none(shard: Shard, how: str) -> None:
    held = taken(shard)
    if how == "completed":
        shard.settle([held])
    if how == "dead":
        settle(shard, held, Died("attempts", b"[]"))
    if how == "cancelled":
        from streamq.calls import producer as producer_calls
        from streamq.model.task import TaskId

        settle(shard, held, HandedBack())
        shard.run(producer_calls.cancel(shard.t, shard.s, TaskId("email", 0, held.local)))
    local = "n1-1" if how == "never" else held.local
    assert give(shard, local) == ("dead" if how == "dead" else "unknown")
    assert shard.command("EXISTS", shard.t.mail(local)) == 0


def test_run_now_ends_a_sleep_and_leaves_who_waits_for_a_signal(shard: Shard) -> None:
    sleeper = taken(shard)
    shard.run(
        step_calls.checkpoint(
            shard.t, "c", sleeper.place, sleeper.local, "sleep 1", memos.sleep(shard.now() + HOUR)
        )
    )
    settle(shard, sleeper, HandedBack(True, HOUR), Suspend("sleep 1"))
    assert shard.run(operator_calls.run_now(shard.t, sleeper.local, NOTE))
    assert memos.wakes_at(kept(shard, sleeper)["sleep 1"]) == 0
    shard.settle(shard.fetch())
    held = taken(shard)
    take(shard, held)
    suspend(shard, held)
    with pytest.raises(UsageError, match="it waits for a signal"):
        shard.run(operator_calls.run_now(shard.t, held.local, NOTE))
    assert shard.state(held.local) == "scheduled"


def test_a_lost_delivery_takes_its_signal_along(shard: Shard) -> None:
    held = taken(shard)
    take(shard, held)
    give(shard, held.local)
    shard.age(held, 600_000)
    shard.reclaim_all()
    [again] = shard.fetch()
    assert take(shard, again).value == b"1"


def test_who_waits_in_a_lane_asks_it_when_the_signal_comes(transport: SyncTransport) -> None:
    shard = lanes.laned(transport, Rules(running=1))
    first, second = lanes.put(shard), lanes.put(shard)
    [held] = shard.fetch()
    take(shard, held)
    suspend(shard, held)
    assert [one.local for one in shard.fetch()] == [second]
    assert give(shard, first) == "delivered"
    assert shard.state(first) == "parked"


def test_an_ordered_lane_waits_for_the_signal_of_its_first(transport: SyncTransport) -> None:
    shard = lanes.laned(transport, Rules(order=True))
    first, second = lanes.put(shard), lanes.put(shard)
    [held] = shard.fetch()
    take(shard, held)
    suspend(shard, held)
    assert (shard.state(first), shard.state(second)) == ("parked", "parked")
    assert shard.fetch() == []
    assert give(shard, first) == "delivered"
    assert [one.local for one in shard.fetch()] == [first]


def test_a_daemon_finds_nothing_to_do_with_who_waits_for_ever(shard: Shard) -> None:
    held = taken(shard)
    take(shard, held, timeout_ms=None)
    suspend(shard, held, 100 * 366 * 86_400_000)
    assert shard.run(daemon_calls.promote(shard.t, 10)).moved == 0
    assert shard.run(operator_calls.run_now(shard.t, "n1-1")) is False


def test_an_empty_mailbox_lives_for_an_hour(shard: Shard) -> None:
    held = taken(shard)
    mail = shard.t.mail(held.local)
    give(shard, held.local, key="1")
    give(shard, held.local, key="2")
    assert take(shard, held).value == b"1"
    assert shard.command("PTTL", mail) > HOUR  # a value is left
    assert take(shard, held, number=2).value == b"1"
    assert 0 < shard.command("PTTL", mail) <= HOUR
    give(shard, held.local, key="3")
    assert shard.command("PTTL", mail) > HOUR

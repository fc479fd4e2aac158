"""announce, open_shard, close_shard and lower_known: given -> call -> want, and in every order."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import suppress

import pytest

from streamq.calls import daemon as daemon_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.calls.producer import ShardClosed
from streamq.keys import APPS, shard_keys, type_keys
from streamq.model.outcome import Cancelled, Completed, Died
from streamq.model.task import NewTask, TaskId
from streamq.shards import AppRecord
from streamq.transport.sync_transport import SyncTransport
from tests.lua.shard import Shard


def announce(transport: SyncTransport, shards: int, *, lead: bool = True, floor: int = 0) -> AppRecord:
    return transport.run(producer_calls.announce("shop", shards, lead=lead, floor=floor))


def record(transport: SyncTransport) -> AppRecord | None:
    return transport.run(producer_calls.app_record("shop"))


def close(transport: SyncTransport, shard: int, epoch: int) -> bool:
    keys = shard_keys("shop", shard)
    types = [type_keys("shop", shard, name) for name in transport.run(question_calls.types(keys))]
    return transport.run(daemon_calls.close_shard(keys, types, epoch))


def test_more_shards_are_known_at_once_and_fewer_are_not(transport: SyncTransport) -> None:
    assert record(transport) is None
    assert announce(transport, 1) == AppRecord(1, 1)
    raised = announce(transport, 4)
    assert (raised.shards, raised.known, list(raised.past)) == (4, 4, [1])
    lowered = announce(transport, 2)
    assert (lowered.shards, lowered.known, sorted(lowered.past)) == (2, 4, [1, 4])
    assert announce(transport, 2) == lowered == record(transport)
    back = announce(transport, 1)
    assert sorted(back.past) == [2, 4]


def test_who_does_not_lead_changes_no_number_of_shards(transport: SyncTransport) -> None:
    announce(transport, 1)
    raised = announce(transport, 3, lead=False)
    assert (raised.shards, raised.known, raised.epoch) == (1, 3, 1)
    assert announce(transport, 3, lead=False, floor=40).epoch == 41


def test_the_past_is_bounded(transport: SyncTransport) -> None:
    for n in range(1, 40):
        announce(transport, n)
    found = record(transport)
    assert found is not None
    assert len(found.past) == 8


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b"7", b"{", b"\xff", b'{"shards":"x"}', b'{"shards":2,"past":[]}']
)
def test_a_damaged_record_is_mended(transport: SyncTransport, raw: bytes) -> None:
    transport.run(Call(None, (), ("HSET", APPS, "shop", raw), int))
    announce(transport, 3)
    found = record(transport)
    assert found is not None
    assert (found.shards, found.known) == (3, 3)


def test_a_shard_that_holds_anything_is_not_closed(shard: Shard) -> None:
    def closes() -> bool:
        if not close(shard.transport, 0, 1):
            return False
        shard.command("DEL", shard.s.closed)
        return True

    assert closes()
    local = shard.put()
    assert not closes()
    [delivery] = shard.fetch()
    assert not closes()
    shard.settle([delivery], Completed(b"1", 60_000))
    assert closes()  # results stay, and expire
    assert shard.state(local) == "completed"
    shard.put(delay_ms=60_000)
    assert not closes()
    shard.command("DEL", shard.t.schedule)
    shard.put()
    shard.settle(shard.fetch(), Died("attempts", b"[]"))
    assert not closes()
    shard.command("DEL", shard.t.dead, shard.t.letters)
    shard.put()
    shard.settle(shard.fetch(), Cancelled())
    assert not closes()  # it is known for a day that it was cancelled


def test_a_type_that_nobody_spoke_of_keeps_its_shard_open(shard: Shard) -> None:
    assert not shard.run(daemon_calls.close_shard(shard.s, [], 1))
    shard.command("SADD", shard.s.types, "other")
    assert not shard.run(daemon_calls.close_shard(shard.s, [shard.t], 1))


def test_the_later_epoch_stays(transport: SyncTransport) -> None:
    keys = shard_keys("shop", 3)
    assert close(transport, 3, 7)
    assert close(transport, 3, 5)
    assert transport.run(producer_calls.open_shard(keys, 6)) == 7
    assert transport.run(producer_calls.open_shard(keys, 8)) == 7
    assert transport.run(producer_calls.open_shard(keys, 8)) == -1


def test_known_is_lowered_only_as_long_as_the_record_says_the_same(transport: SyncTransport) -> None:
    announce(transport, 3)
    assert not transport.run(daemon_calls.lower_known("shop", 3, 0))  # in use
    announce(transport, 1)
    assert not transport.run(daemon_calls.lower_known("shop", 2, 0))  # not the last
    assert not transport.run(daemon_calls.lower_known("shop", 3, 9))  # somebody asked meanwhile
    assert transport.run(daemon_calls.lower_known("shop", 3, 0))
    assert not transport.run(daemon_calls.lower_known("shop", 3, 0))
    assert transport.run(daemon_calls.lower_known("shop", 2, 0))
    assert not transport.run(daemon_calls.lower_known("shop", 1, 0))
    found = record(transport)
    assert found is not None
    assert found.known == 1


Steps = Generator[None, None, None]


def old_producer(shard: Shard, writer: str) -> Steps:
    """A producer that goes on using a shard, with a pause wherever another process may act."""
    for n in range(1, 4):
        floor = 0
        while True:
            with suppress(ShardClosed):
                shard.enqueue(NewTask(b"{}"), writer=writer, sequence=n)
                break
            yield
            found = announce(shard.transport, 2, lead=False, floor=floor)
            yield
            floor = max(0, shard.run(producer_calls.open_shard(shard.s, found.epoch)))
            yield
        yield


def daemon(shard: Shard) -> Steps:
    for _ in range(4):
        found = record(shard.transport)
        assert found is not None
        yield
        if found.known > found.shards and close(shard.transport, 1, found.epoch):
            yield
            shard.run(daemon_calls.lower_known("shop", found.known, found.epoch))
        yield


def worker(shard: Shard) -> Steps:
    for _ in range(4):
        shard.settle(shard.fetch())
        yield


@pytest.mark.parametrize("seed", range(25))
def test_no_order_of_steps_leaves_a_task_in_a_shard_that_nobody_serves(
    transport: SyncTransport, seed: int
) -> None:
    """Guard: the epoch, and the order of raising, opening and enqueueing."""
    random_ = random.Random(seed)
    for _ in range(8):
        transport.run(Call(None, (), ("FLUSHALL",), str))
        shard = Shard(transport)
        shard.t, shard.s = type_keys("shop", 1, "email"), shard_keys("shop", 1)
        announce(transport, 2)
        announce(transport, 1)
        shard.run(worker_calls.groups(shard.t.streams))
        running = [
            old_producer(shard, "a"),
            old_producer(shard, "b"),
            daemon(shard),
            daemon(shard),
            worker(shard),
        ]
        while running:
            one = random_.choice(running)
            if next(one, running) is running:
                running.remove(one)
            found, held = record(transport), shard.run(question_calls.counts(shard.t))
            assert found is not None
            if held.ready + held.running:
                assert found.known == 2
        assert shard.run(question_calls.counts(shard.t)).counters.get("accepted") == 6


def test_cancel_in_a_shard_that_was_given_up_says_unknown(shard: Shard) -> None:
    assert close(shard.transport, 0, 1)
    task = TaskId("email", 0, "n1732450000000-0")
    assert shard.run(producer_calls.cancel(shard.t, shard.s, task)) == "unknown"

"""Whatever makes a task ready rings while somebody waits for the doorbell; a fetch takes out the empty."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamq.calls import daemon as daemon_calls
from streamq.calls import operator as operator_calls
from streamq.calls import worker as worker_calls
from streamq.keys import GROUP
from streamq.model.outcome import Died, HandedBack, Retried
from streamq.model.reply import Note
from streamq.model.task import NewTask
from tests.lua.shard import Shard


def _dead(shard: Shard) -> str:
    local = shard.put()
    shard.settle(shard.fetch(), Died("attempts", b"[]"))
    return local


def _requeue(shard: Shard) -> None:
    _dead(shard)
    _listen(shard)
    shard.run(operator_calls.requeue(shard.t, 10, shard.now()))


def _resubmit(shard: Shard) -> None:
    local = _dead(shard)
    _listen(shard)
    assert shard.run(operator_calls.resubmit(shard.t, local, b"{}", Note("a", b"b")))


def _run_now(shard: Shard) -> None:
    local = shard.put(delay_ms=60_000)
    _listen(shard)
    assert shard.run(operator_calls.run_now(shard.t, local))


def _promote(shard: Shard) -> None:
    shard.put(delay_ms=1)
    _listen(shard)
    shard.promote_until(1)


def _reclaim(shard: Shard) -> None:
    shard.put()
    [delivery] = shard.fetch()
    shard.age(delivery, 10_000_000)
    _listen(shard)
    assert shard.run(daemon_calls.reclaim(shard.t, shard.s, "n", "0-0", 10, 0)).returned == 1


def _repair(shard: Shard) -> None:
    shard.put()
    [delivery] = shard.fetch()
    shard.command("XACK", shard.t.normal, GROUP, delivery.place[1:])
    _listen(shard)
    assert shard.run(daemon_calls.repair(shard.t, "n", "-", 10))[1] == 1


def _retry(shard: Shard) -> None:
    shard.put()
    deliveries = shard.fetch()
    _listen(shard)
    shard.settle(deliveries, Retried(0, b"[]"))


def _hand_back(shard: Shard) -> None:
    shard.put()
    deliveries = shard.fetch()
    _listen(shard)
    shard.settle(deliveries, HandedBack())


def _enqueue(shard: Shard) -> None:
    _listen(shard)
    shard.enqueue(NewTask(b"{}"), NewTask(b"{}"))


def _enqueue_with_more(shard: Shard) -> None:
    _listen(shard)
    shard.enqueue(NewTask(b"{}", fields=(("x", "60000"),)))


def _listen(shard: Shard) -> None:
    assert shard.command("ZCARD", shard.s.ready) == 0
    shard.run(worker_calls.watch(shard.s, found=False, force=False))


WAYS = [
    _enqueue, _enqueue_with_more, _promote, _reclaim, _repair, _requeue, _resubmit, _retry, _run_now,
    _hand_back,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_it_rings_and_a_fetch_that_empties_takes_it_out(shard: Shard, way: Callable[[Shard], None]) -> None:
    way(shard)
    stream = shard.t.suspect if way is _hand_back else shard.t.normal
    assert shard.run(worker_calls.listed(shard.s)) == [stream.encode()]
    assert shard.command("ZRANGE", shard.s.bell, 0, -1) == [stream.encode()]
    sources = [worker_calls.Source(shard.t, letter, 10) for letter in "sn"]
    _, found = shard.run(worker_calls.fetch("c", 10, sources, rings=True))
    assert len(found) == 1
    assert shard.command("EXISTS", shard.s.ready, shard.s.bell) == 0


def test_what_is_left_stays_and_another_is_woken(shard: Shard) -> None:
    _listen(shard)
    shard.enqueue(*[NewTask(b"{}") for _ in range(3)])
    for left in (2, 1):
        assert shard.run(worker_calls.answer_bell(shard.s, 0.1)) == shard.t.normal.encode()
        shard.run(worker_calls.fetch("c", 1, [worker_calls.Source(shard.t, "n", 1)], rings=True))
        assert len(shard.run(worker_calls.listed(shard.s))) == 1, left
    shard.run(worker_calls.fetch("c", 1, [worker_calls.Source(shard.t, "n", 1)], rings=True))
    assert shard.command("EXISTS", shard.s.ready, shard.s.bell) == 0


def test_nobody_rings_where_nobody_waits(shard: Shard) -> None:
    shard.put()
    assert shard.command("EXISTS", shard.s.doorbell, shard.s.ready, shard.s.bell) == 0


def test_what_did_not_ring_is_mustered_once(shard: Shard) -> None:
    shard.put()
    shard.put(priority="low")
    shard.fetch(letters="l")
    assert shard.run(worker_calls.muster(shard.s, shard.t.streams)) == 1  # what runs is not ready
    assert shard.run(worker_calls.listed(shard.s)) == [shard.t.normal.encode()]
    assert shard.run(worker_calls.muster(shard.s, shard.t.streams)) == 0

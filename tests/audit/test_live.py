"""The audit of a busy queue: no false alarm, and no command that holds the server up for 5 ms.

The small one is part of every run. The long one fills a million tasks:
    pytest -m long tests/audit/test_live.py -s
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from streamq import StreamQ, scripts
from streamq.audit import Audit
from streamq.audit.walks import STEP
from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
from streamq.embedded import EmbeddedServer
from streamq.model.delivery import Delivery
from streamq.model.outcome import Completed, Died, HandedBack, Outcome, Retried, Settlement
from streamq.model.task import Accepted, NewTask
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from streamq.transport.writer import Writer
from tests.conftest import command
from tests.lua.shard import Shard

SLOW_US = 5000
NAMES = {scripts.load(name).sha: name for name in scripts.names()}


def fill(shard: Shard, number: int, payload: bytes = b'{"to":"ada@example.com","n":1}') -> None:
    """So many tasks: nine in ten ready; the others delayed, retried, dead, running and moved."""
    tenth = number // 10
    put(shard, number - tenth // 2, payload, None)
    put(shard, tenth // 2, payload, 3_600_000)
    outcomes: list[Outcome] = [Retried(3_600_000, b"[]"), Died("attempts", b"[]"), HandedBack()]
    taken = 0
    while taken < tenth:
        deliveries = shard.fetch(budget=300)
        taken += len(deliveries)
        for n, outcome in enumerate(outcomes):
            shard.settle(deliveries[n::4], outcome)  # the fourth part goes on running


def put(shard: Shard, number: int, payload: bytes, delay: int | None) -> None:
    for n in range(0, number, 300):
        answers = shard.enqueue(*[NewTask(payload, "normal", delay)] * min(300, number - n))
        assert all(isinstance(answer, Accepted) for answer in answers)


@contextmanager
def busy(url: str, keep_running: int) -> Iterator[Callable[[], int]]:
    """A worker that completes, retries, hands back and buries, and a daemon's promotions and reclaims, each
    as fast as it can, until the end. Answers how many deliveries were settled."""
    stop, settled, failed = threading.Event(), [0], list[BaseException]()

    def work(name: str) -> None:
        transport = SyncTransport(Address.parse(url))
        shard, writer = Shard(transport), Writer()
        outcomes: list[Outcome] = [Completed(b"1", 60_000)] * 7
        outcomes += [Retried(1, b"[]"), HandedBack(), Died("attempts", b"[]")]
        held: list[Delivery] = []
        try:
            while not stop.is_set():
                held += shard.fetch(name, 100)
                part, held = held[:-keep_running], held[-keep_running:]
                for n, outcome in enumerate(outcomes):
                    settle(shard, writer, part[n::10], outcome)
                settled[0] += len(part)
                shard.enqueue(*[NewTask(b"{}", "high", 1)] * 20, writer=name, sequence=writer.next())
                shard.promote()
                shard.reclaim_all()
        except BaseException as error:
            failed.append(error)
        transport.close()

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: settled[0]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []


def settle(shard: Shard, writer: Writer, deliveries: list[Delivery], outcome: Outcome) -> None:
    items = [Settlement(d.place, d.local, outcome) for d in deliveries]
    if items:
        settled = shard.run(worker_calls.settle(shard.t, shard.s, f"s-{writer.id}", writer.next(), items))
        assert all(settled)


def slow_steps(app: StreamQ, audit: Callable[[], Audit]) -> tuple[Audit, dict[str, int]]:
    """An audit, and which of its steps held the server up for too long, with how often each did.

    On a crowded machine the server is put aside for some ms now and then, in the middle of any step: one that
    is slow of its own accord is so more often than once in twenty.
    """
    url = str(app.address)
    command(url, "CONFIG", "SET", "slowlog-log-slower-than", SLOW_US, "slowlog-max-len", 10_000)
    command(url, "SLOWLOG", "RESET")
    found = audit()
    rows = command(url, "SLOWLOG", "GET", -1)
    assert isinstance(rows, list)
    slow: Counter[str] = Counter()
    for row in rows:
        name = NAMES.get(row[3][1].decode("utf-8", "replace"), row[3][0].decode())
        if name.startswith("audit") or name in ("ZSCAN", "HSCAN", "SCAN", "counts", "survey", "XINFO"):
            slow[name] += 1
    few = 1 + found.checked / STEP / 20
    return found, {name: times for name, times in slow.items() if times > few}


def never_quick(app: StreamQ) -> set[str]:
    """The steps that were slow in each of some audits."""
    found, slow = slow_steps(app, app.inspector.audit)
    always = set(slow)
    for _ in range(5):
        if not always:
            break
        found, slow = slow_steps(app, app.inspector.audit)
        always &= set(slow)
    assert found.problems == []
    return always


def test_a_busy_queue_is_audited_without_a_false_alarm_or_a_slow_step(app: StreamQ, url: str) -> None:
    shard = Shard(SyncTransport(Address.parse(url)))
    shard.run(producer_calls.announce("shop", 1))
    fill(shard, 15_000)
    assert never_quick(app) == set()
    with busy(url, 50) as settled:
        before = settled()
        found = app.inspector.audit()
        assert (found.problems, found.checked > 12_000) == ([], True)
        assert settled() > before
        done = app.admin.repair()
        assert (done.problems, done.repaired) == ([], [])
    assert app.inspector.audit().ok


def test_large_payloads_are_read_few_at_a_time(app: StreamQ, url: str) -> None:
    shard = Shard(SyncTransport(Address.parse(url)))
    shard.run(producer_calls.announce("shop", 1))
    large = b'"' + b"x" * (256 * 1024) + b'"'
    for delay in (None, 3_600_000):
        for _ in range(60):
            shard.put(large, delay_ms=delay)
    shard.settle(shard.fetch(budget=20), Died("attempts", b"[]"))
    shard.fetch(budget=20)
    assert never_quick(app) == set()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_million_tasks(valkey: EmbeddedServer, url: str) -> None:
    app = StreamQ("shop", url)
    shard = Shard(SyncTransport(Address.parse(url)))
    shard.run(producer_calls.announce("shop", 1))
    began = time.monotonic()
    fill(shard, 1_000_000)
    print(f"\nfilled in {time.monotonic() - began:.1f} s")
    assert measured("idle", app, lambda: 0) == set()
    with busy(url, 1000) as settled:
        assert measured("busy", app, settled) == set()
    app.close()


def measured(label: str, app: StreamQ, settled: Callable[[], int]) -> set[str]:
    """The steps that were slow in each of up to three audits; as `never_quick`, with figures."""
    always: set[str] = set(NAMES.values())
    for _ in range(3):
        before, began = settled(), time.monotonic()
        found, slow = slow_steps(app, app.inspector.audit)
        took = time.monotonic() - began
        rate = (settled() - before) / took
        print(
            f"{label}: {found.checked:,} checked in {took:.1f} s beside {rate:,.0f} settled a second; {slow=}"
        )
        assert found.problems == []
        always &= set(slow)
        if not always:
            break
    return always

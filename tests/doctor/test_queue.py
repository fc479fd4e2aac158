"""The doctor on the queue: who serves it, and what waits too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import orjson
import pytest

from streamq import Every, Lane, StreamQ
from streamq.calls import daemon as daemon_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls import worker as worker_calls
from streamq.keys import shard_keys, type_keys
from streamq.model.outcome import Died
from streamq.schedules.state import State
from streamq.shards import shard_of
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.conftest import command
from tests.doctor.looks import look, one
from tests.lua.shard import Shard


@pytest.fixture
def shard(url: str) -> Iterator[Shard]:
    transport = SyncTransport(Address.parse(url))
    found = Shard(transport)
    found.run(producer_calls.announce("shop", 1))
    yield found
    transport.close()


def beat(shard: Shard, name: str, **details: object) -> None:
    told = {"heartbeat": 5.0, "types": ["email"], "version": "1.0"} | details
    shard.run(worker_calls.beat(shard.s, name, orjson.dumps(told)))


def test_nobody_is_there(shard: Shard, url: str) -> None:
    shard.put()
    checks = look(url)
    assert one(checks, "daemon").status == "fault"
    assert "streamq daemon" in one(checks, "daemon").fix
    found = one(checks, "workers of shop")
    assert (found.status, found.finding) == ("fault", "none is alive; email (1 ready)")
    beat(shard, "w1", types=["other"])
    assert "none serves email" in one(look(url), "workers of shop").finding


def test_a_daemon_of_another_app_is_none_of_ours(shard: Shard, url: str) -> None:
    shard.run(daemon_calls.attend("d1", b'{"only":"other","heartbeat":10}'))
    assert one(look(url), "daemon").status == "fault"
    shard.run(daemon_calls.attend("d2", b'{"only":"shop","heartbeat":10}'))
    assert one(look(url), "daemon").finding == "1 alive: d2"


def test_several_releases(shard: Shard, url: str) -> None:
    beat(shard, "w1")
    beat(shard, "w2", version="1.1")
    found = one(look(url), "releases")
    assert (found.status, "1 with 1.0, 1 with 1.1" in found.finding) == ("warning", True)


def test_deliveries_of_workers_that_are_gone(shard: Shard, url: str) -> None:
    shard.put()
    [delivery] = shard.fetch("dead-worker")
    found = one(look(url), "deliveries of shop")
    assert (found.status, "1 held by workers that are gone: dead-worker" in found.finding) == (
        "warning",
        True,
    )
    beat(shard, "dead-worker")
    assert one(look(url), "deliveries of shop").status == "ok"
    assert delivery


def test_tasks_that_die_and_suspects(shard: Shard, url: str) -> None:
    assert one(look(url), "dead letters of shop").finding == "none"
    shard.put()
    shard.settle(shard.fetch(), Died("attempts", b"[]"))
    found = one(look(url), "dead letters of shop")
    assert (found.status, found.finding) == ("warning", "1 of 1 in the last hour")
    [local] = shard.command("ZRANGE", shard.t.dead, 0, -1)
    shard.command("ZADD", shard.t.dead, 1, local)
    assert one(look(url), "dead letters of shop").status == "ok"
    shard.command("XADD", shard.t.suspect, "*", "p", "{}", "l", "2")
    assert "1 suspects" in one(look(url), "dead letters of shop").finding


def test_overdue_tasks(shard: Shard, url: str) -> None:
    shard.put(delay_ms=1_000_000)
    assert one(look(url), "schedule of shop").status == "ok"
    [row] = shard.command("ZRANGE", shard.t.schedule, 0, 0)
    shard.command("ZADD", shard.t.schedule, 1, row)
    assert one(look(url), "schedule of shop").status == "fault"


def test_long_silent_processes_are_forgotten_by_those_who_beat(shard: Shard) -> None:
    beat(shard, "old")
    shard.command("ZADD", shard.s.workers, 1, "old")
    beat(shard, "new")
    assert [name for name, _ in shard.run(question_calls.workers(shard.s))] == ["new"]
    kept = shard.run(question_calls.heartbeats(shard.s))
    assert list(kept) == ["new"]


def test_recurring_tasks_that_are_late_or_damaged(app: StreamQ, url: str) -> None:
    name = "recurring tasks of shop"
    report = app.task(name="report")(lambda: None)
    report.enqueue()
    assert name not in [check.name for check in look(url)]
    app.schedules.put("nightly", Every("1h"), report.bind())
    assert one(look(url), name).finding == "1 schedules, none late"
    keys, now = shard_keys("shop", 0), app.inspector.now_ms()
    late = State(revision=9, next=now - 60_000, anchor=now).stored()
    command(url, "HSET", keys.schedules, "nightly:state", late)
    found = one(look(url), name)
    assert (found.status, "nightly: runs are late by up to 6" in found.finding) == ("fault", True)
    command(url, "HSET", keys.schedules, "nightly", "x")
    found = one(look(url), name)
    assert (found.status, "nightly makes no runs: the stored schedule is damaged" in found.finding) == (
        "fault",
        True,
    )
    command(url, "SET", keys.schedules, "x")
    assert one(look(url), name).status == "fault"


def test_lanes_whose_older_tasks_are_in_another_shard(url: str) -> None:
    def program(shards: int) -> tuple[StreamQ, Callable[[str], object]]:
        app = StreamQ("shop", url, shards=shards)

        @app.task(name="email", lane=Lane("customer", running=1))
        def email(customer: str) -> None: ...

        return app, email.enqueue

    name = "lanes of shop"
    before, enqueue = program(2)
    for n in range(8):
        enqueue(f"customer {n}")
    assert name not in [check.name for check in look(url)]
    before.close()
    after, enqueue = program(3)
    moved = [n for n in range(8) if shard_of(f"customer {n}", 2) != shard_of(f"customer {n}", 3)]
    assert moved
    enqueue(f"customer {moved[0]}")
    found = one(look(url), name)
    assert (found.status, "email: shard" in found.finding) == ("warning", True)
    assert "limits count per shard, and order does not hold" in found.finding
    assert found.fix
    after.close()


def test_rules_that_an_old_process_keeps_from_being_in_force(app: StreamQ, url: str) -> None:
    @app.task(lane=Lane("customer", running=1), unique=True)
    async def email(customer: str) -> None: ...

    t, s = type_keys("shop", 0, "email"), shard_keys("shop", 0)
    transport = SyncTransport(Address.parse(url))
    old = orjson.dumps({"types": ["email"], "speaks": ["envelope:1"], "heartbeat": 60})
    transport.run(worker_calls.beat(s, "old-1", old))
    email.enqueue("acme")
    found = one(look(url), "rules of email")
    assert found.status == "warning"
    assert found.finding == (
        "its lanes and limits and unique keys are not in force: processes that do not know them serve it "
        "(old-1)"
    )
    transport.run(worker_calls.leave(s, "old-1", t.streams))
    transport.run(producer_calls.enforce(t, s, ()))
    assert one(look(url), "lanes of shop").finding.startswith("email: 1 of its first 1 tasks are in no lane")
    transport.close()

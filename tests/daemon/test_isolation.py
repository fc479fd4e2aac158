"""One app's, shard's or type's wrong keys cost only themselves, and are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import structlog

from streamq import Daemon, StreamQ
from streamq.calls.call import Call
from streamq.cli import main
from streamq.keys import shard_keys, type_keys
from tests.conftest import command
from tests.running import QUICK, begun, tending, until, working

OPTIONS = replace(QUICK, sample_interval=0.1)
DAMAGE: dict[str, list[tuple[str, ...]]] = {
    "types of an app": [("SET", shard_keys("aaa", 0).types, "x")],
    "types of another shard": [
        ("HSET", "streamq:apps", "aaa", '{"shards":2,"known":2}'), ("SET", shard_keys("aaa", 1).types, "x")
    ],
    "record": [("HSET", "streamq:apps", "aaa", '{"shards":1,"known":1,"epoch":1e999}')],
    "workers": [("SET", shard_keys("aaa", 0).workers, "x")],
    "a heartbeat without end": [
        ("ZADD", shard_keys("aaa", 0).workers, "+inf", "w"),
        ("HSET", shard_keys("aaa", 0).heartbeats, "w", "{}"),
    ],
    "paused": [("SET", shard_keys("aaa", 0).paused, "x")],
    **{
        kind: [
            ("SADD", shard_keys("aaa", 0).types, "bad"),
            ("SET", getattr(type_keys("aaa", 0, "bad"), kind), "x"),
        ]
        for kind in (
            "high", "normal", "suspect", "schedule", "index", "dead", "letters", "counters", "policy",
            "cancels", "waiters", "gone", "groups", "buckets", "sampled", "expiring",
        )
    },
    "counters that are no numbers": [
        ("SADD", shard_keys("aaa", 0).types, "bad"),
        ("HSET", type_keys("aaa", 0, "bad").counters, "accepted", "1e999", "completed", "nan"),
    ],
    "workers of its own": [("SET", shard_keys("shop", 0).workers, "x")],
    "a type of its own": [
        ("SADD", shard_keys("shop", 0).types, "aa"), ("SET", type_keys("shop", 0, "aa").counters, "x"),
        ("SET", type_keys("shop", 0, "aa").schedule, "x"), ("SET", type_keys("shop", 0, "aa").normal, "x"),
    ],
}  # fmt: skip


def damaged(url: str, what: str) -> None:
    command(url, "HSET", "streamq:apps", "aaa", '{"shards":1,"known":1}')
    for words in DAMAGE[what]:
        command(url, *words)


@pytest.mark.parametrize("what", DAMAGE)
async def test_every_chore_serves_the_others(url: str, what: str) -> None:
    app = StreamQ("shop", url)

    @app.task(lease=0.3, max_lost=10)
    async def work() -> int:
        return 1

    @app.task(expires=0.1)
    async def late() -> None: ...

    damaged(url, what)
    keys = type_keys("shop", 0, "work")
    lost, delayed, expiring = (
        await work.aenqueue(),
        await work.options(delay=0.1).aenqueue(),
        await late.aenqueue(),
    )
    command(url, "XGROUP", "CREATE", keys.normal, "workers", "0")
    command(url, "XREADGROUP", "GROUP", "workers", "gone", "STREAMS", keys.normal, ">")
    async with tending(app, OPTIONS) as daemon:
        await until(lambda: app.inspector._transport.run(_reclaimed()) >= 1)  # reclaimed
        await until(lambda: delayed.status() == "ready")  # promoted
        await until(lambda: expiring.status() == "expired")
        await until(lambda: command(url, "EXISTS", keys.sampled) == 1)
        seen = await daemon.backlog()
        assert seen is not None
        assert {(row["app"], row["type"]) for row in seen.rows} >= {("shop", "work"), ("shop", "late")}
        assert daemon.not_ready() == []
        if what != "workers of its own":
            async with working(app):
                assert (await lost.aresult(10), await delayed.aresult(10)) == (1, 1)


def _reclaimed() -> Any:
    counters = type_keys("shop", 0, "work").counters
    return Call(None, (counters,), ("HGET", counters, "reclaimed"), lambda raw: int(raw or 0))


async def test_a_fault_is_told_once_and_wherever_one_looks(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = StreamQ("shop", url)
    damaged(url, "schedule")
    chore_status: list[str] = []
    with structlog.testing.capture_logs() as lines:
        daemon = Daemon(app.address, OPTIONS, after_round=chore_status.append)
        task = await begun(daemon)
        try:
            await until(lambda: chore_status.count("promote") > 5 and chore_status.count("heartbeat") > 0)
            told = [
                line for line in lines if line["event"] == "chore.failed" and line["log_level"] == "error"
            ]
            promoting = [line for line in told if line.get("chore") == "promote"]
            assert [(line["app"], line["type"]) for line in promoting] == [("aaa", "bad")]
            assert any("aaa:0:bad" in fault for fault in daemon.faults())
            assert daemon.not_ready() == []
            await daemon._beat()
            main(["doctor", "--url", url, "--app", "shop"])
        finally:
            daemon.stop()
            await task
    assert "aaa:0:bad" in capsys.readouterr().out


async def test_tasks_of_a_type_whose_policy_is_no_hash_are_taken_back(url: str) -> None:
    """By the default lease; the fault is told with the key, and what to do."""
    app = StreamQ("shop", url)

    @app.task
    async def work() -> int:
        return 1

    lost, keys = await work.aenqueue(), type_keys("shop", 0, "work")
    command(url, "XGROUP", "CREATE", keys.normal, "workers", "0")
    command(url, "XREADGROUP", "GROUP", "workers", "gone", "STREAMS", keys.normal, ">")
    entry = lost.id.rpartition(":")[2][1:]
    command(url, "XCLAIM", keys.normal, "workers", "gone", 0, entry, "IDLE", 60_000, "JUSTID")
    command(url, "DEL", keys.policy)
    command(url, "SET", keys.policy, "x")
    async with tending(app, OPTIONS) as daemon:
        await until(lambda: lost.status() == "ready")
        await until(lambda: any(keys.policy in fault and "Rename" in fault for fault in daemon.faults()))

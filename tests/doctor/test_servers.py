"""The doctor on real servers: well ones, and ones that are set up badly on purpose."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from streamq import StreamQ
from streamq.cli import main
from streamq.doctor import node, server, slots
from streamq.errors import AuthenticationFailed, RedisUnavailable
from streamq.keys import DAEMONS
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.conftest import command
from tests.doctor.conftest import Start
from tests.doctor.looks import Capture, lasting, look, one, redis_binary
from tests.ports import free_port
from tests.running import serving, wait_until


async def test_everything_is_well_with_the_settings_of_compose(start: Start, capsys: Capture) -> None:
    url = start()
    app = StreamQ("shop", url)

    @app.task
    async def work() -> int:
        return 1

    async with serving(app):
        await (await work.aenqueue()).aresult(5)
        wait_until(lambda: command(url, "ZCARD", DAEMONS) == 1)
        before = lasting(url)
        checks = look(url)
        assert [check for check in checks if check.status != "ok"] == []
        assert {check.name for check in checks} == {
            "reach", "clock", "version", "persistence", "eviction", "memory", "replication", "rights",
            "daemon", "releases", "workers of shop", "deliveries of shop", "schedule of shop",
            "dead letters of shop",
        }  # fmt: skip
        assert main(["doctor", "--url", url]) == 0
        out = capsys.readouterr().out
        lines = [line for line in out.splitlines() if line[:2] in ("✓ ", "! ", "✗ ", "? ", "  ")]
        assert [line[:1] for line in lines] == ["✓"] * len(checks)  # the others are the worker's log
        assert main(["doctor", "--url", url, "--json", "--app", "shop"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert (shown["ok"], set(shown["checks"][0])) == (True, {"name", "status", "finding", "fix"})
        assert lasting(url) == before
    assert command(url, "EXISTS", DAEMONS) == 0  # a daemon that ends says so


def test_an_empty_server_has_no_apps(start: Start) -> None:
    assert one(look(start()), "apps").status == "ok"


@pytest.mark.parametrize(
    ("config", "name", "status", "finding", "fix"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "eviction", "fault", "deletes TASKS", "noeviction"),
        ({"maxmemory_policy": "volatile-ttl"}, "eviction", "warning", "deletes results", "noeviction"),
        ({"appendonly": "no"}, "persistence", "fault", "a restart loses every task", "appendonly yes"),
        ({"appendonly": "no", "save": "60 1"}, "persistence", "warning", "snapshots only", "appendonly yes"),
        ({"appendfsync": "no"}, "persistence", "warning", "a power cut loses", "appendfsync everysec"),
        ({"appendfsync": "always"}, "persistence", "ok", "a power cut loses nothing", ""),
        ({"min_replicas_to_write": "1"}, "replication", "fault", "writes are refused", "INFO replication"),
        ({"maxmemory": "64mb"}, "memory", "ok", "of 64 MiB used", ""),
    ],
)
def test_settings(
    start: Start, config: dict[str, str], name: str, status: str, finding: str, fix: str
) -> None:
    found = one(look(start(**config)), name)
    assert (found.status, finding in found.finding, fix in found.fix) == (status, True, True), found


def test_a_server_that_is_nearly_full(start: Start, capsys: Capture) -> None:
    url = start()
    used = node.ask(SyncTransport(Address.parse(url))).number("used_memory")
    command(url, "SET", "ballast", b"x" * used * 9)
    command(url, "CONFIG", "SET", "maxmemory", used * 11)
    found = one(look(url), "memory")
    assert (found.status, "is about to be refused" in found.finding) == ("fault", True)
    assert main(["doctor", "--url", url]) == 6
    out = capsys.readouterr().out
    assert "✗ memory" in out
    assert "fix: redis-cli CONFIG SET maxmemory" in out
    command(url, "CONFIG", "SET", "maxmemory", used * 13)
    assert one(look(url), "memory").status == "warning"


def test_a_primary_without_persistence_would_wipe_its_replica(start: Start) -> None:
    port = free_port()
    primary = start(port=port, appendonly="no")
    replica = start(replicaof=f"127.0.0.1 {port}", repl_diskless_sync_delay="0")
    wait_until(lambda: b"state=online" in command(primary, "INFO", "replication"))  # type: ignore[operator]
    assert "wipes its replicas too" in one(look(primary), "persistence").finding
    wait_until(lambda: one(look(primary), "replication").status == "ok")
    assert one(look(primary), "replication").finding == "primary with 1 replicas"
    found = one(look(replica), "replication")
    assert (found.status, "it takes no tasks" in found.finding) == ("fault", True)
    assert "the URL of the primary" in found.fix


def test_redis_7_0_wants_its_append_only_file_rewritten_after_a_start(start: Start) -> None:
    url = start(redis_binary())
    found = [check for check in look(url) if check.name == "restart"]
    if node.ask(SyncTransport(Address.parse(url))).version >= (7, 2):
        assert found == []
        return
    assert "BGREWRITEAOF" in found[0].fix
    command(url, "BGREWRITEAOF")
    wait_until(lambda: not [check for check in look(url) if check.name == "restart"])


def test_a_server_that_is_not_there(capsys: Capture) -> None:
    assert main(["doctor", "--url", "unix:///no/such.sock"]) == 69
    out = capsys.readouterr().out
    assert "✗ reach" in out
    assert "start the server" in out
    assert main(["doctor", "--url", "unix:///no/such.sock", "--json"]) == 69
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_a_clock_that_is_wrong_is_noticed(url: str) -> None:
    """Injected: the server's clock cannot be set from here."""
    asked = node.ask(SyncTransport(Address.parse(url)))
    assert abs(asked.skew) < 5
    for skew, status in ((0.2, "ok"), (-2.0, "warning"), (3600.0, "fault")):
        found = one(list(server.checks(replace(asked, skew=skew), "here")), "clock")
        assert found.status == status
        assert (status == "ok") or "timedatectl" in found.fix


def test_what_cannot_be_brought_about_here_is_judged_from_what_a_server_would_say(url: str) -> None:
    asked = node.ask(SyncTransport(Address.parse(url)))

    def judged(**info: str) -> dict[str, str]:
        seen = replace(asked, info=asked.info | info, round_trip=0.05)
        return {check.name: check.status for check in server.checks(seen, "here")}

    assert judged()["reach"] == "warning"
    assert judged(valkey_version="7.1.0")["version"] == "fault"
    assert judged(aof_last_write_status="err")["persistence"] == "fault"
    assert judged(used_memory="400000000", used_memory_rss="900000000")["fragmentation"] == "warning"
    assert judged(used_memory_rss=asked.info["total_system_memory"])["memory"] == "fault"
    lagging = {"connected_slaves": "1", "slave0": "ip=10.0.0.2,port=6379,state=online,offset=1,lag=99"}
    assert judged(**lagging)["replication"] == "warning"


def test_slots_of_a_cluster(start: Start, tmp_path: Path) -> None:
    port = free_port()
    url = start(port=port, cluster_enabled="yes", cluster_require_full_coverage="no")
    half = slots.SLOTS // 2
    command(url, "CLUSTER", "ADDSLOTSRANGE", 0, half - 1)
    wait_until(lambda: b"cluster_state:ok" in command(url, "CLUSTER", "INFO"))  # type: ignore[operator]
    asked = node.ask(SyncTransport(Address.parse(url)))
    transport = SyncTransport(Address.parse(url))
    served = [n for n in range(20) if slots.slot("shop", n) < half]
    unserved = [n for n in range(20) if slots.slot("shop", n) >= half]
    [found] = slots.checks(transport, asked, {"shop": 20})
    assert found.status == "fault"
    assert f"shard {unserved[0]} (slot {slots.slot('shop', unserved[0])})" in found.finding
    assert served
    command(url, "CLUSTER", "ADDSLOTSRANGE", half, slots.SLOTS - 1)
    [found] = slots.checks(transport, asked, {"shop": 20})
    assert (found.status, found.finding) == ("ok", "app shop: 20 shards on 1 of 1 masters")
    assert slots.slot("shop", 3) == command(url, "CLUSTER", "KEYSLOT", "streamq:{shop:3}:types")
    transport.close()


def test_shards_that_crowd_on_one_master() -> None:
    number = slots.slot("shop", 0)
    found = slots._app("shop", 1, [(0, number, "a:1"), (number + 1, 16383, "b:1")])
    assert found.status == "ok"
    crowded = slots._app("shop", 9, [(0, 16383, "a:1"), (16384, 16384, "b:1")])
    assert (crowded.status, "9 shards on 1 of 2 masters" in crowded.finding) == ("warning", True)


def test_the_doctor_raises_where_there_is_nobody_to_examine(url: str) -> None:
    with pytest.raises(RedisUnavailable):
        look("unix:///no/such.sock")
    with pytest.raises(AuthenticationFailed):
        look(url.replace("unix://", "unix://nobody:x@"))

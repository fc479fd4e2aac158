"""The doctor on real servers: well ones, and ones that are set up badly on purpose."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from streamq import StreamQ, calls, scripts
from streamq.cli import main
from streamq.doctor import Check, examine, node, rights, server, slots
from streamq.embedded import EmbeddedServer
from streamq.errors import AuthenticationFailed, RedisUnavailable
from streamq.keys import DAEMONS
from streamq.model import Died
from streamq.transport import Address, SyncTransport
from tests.conftest import command
from tests.lua.shard import Shard
from tests.ports import free_port
from tests.running import serving, wait_until

Capture = pytest.CaptureFixture[str]
Start = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server that keeps its data, as compose.yaml does, with other settings on top."""
    with ExitStack() as stack:

        def run(binary: Path | None = None, *, port: int | None = None, **config: str) -> str:
            place = tmp_path / f"server-{len(list(tmp_path.iterdir()))}"
            settings = {name.replace("_", "-"): value for name, value in config.items()}
            started = EmbeddedServer(data_dir=place, port=port, config=settings, binary=binary)
            return stack.enter_context(started).url

        yield run


def look(url: str, *, user: str | None = None) -> list[Check]:
    transport = SyncTransport(Address.parse(url), patience=0.5)
    try:
        return list(examine(transport, user=user).checks)
    finally:
        transport.close()


def one(checks: list[Check], name: str) -> Check:
    [found] = [check for check in checks if check.name == name]
    return found


def redis_binary() -> Path:
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no redis-server on the PATH")
    return Path(found)


# -- a set-up that is well --------------------------------------------------------------------------------


def lasting(url: str) -> set[bytes]:
    """The keys, without those of the rollups, which come as time goes by."""
    keys = command(url, "KEYS", "*")
    assert isinstance(keys, list)
    return {key for key in keys if not re.search(rb":(minute:|quarter:|sampled)", key)}


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
        assert (shown["ok"], set(shown["checks"][0])) == (True, {"name", "status", "said", "fix"})
        assert lasting(url) == before
    assert command(url, "EXISTS", DAEMONS) == 0  # a daemon that ends says so


def test_an_empty_server_has_no_apps(start: Start) -> None:
    assert one(look(start()), "apps").status == "ok"


# -- servers that are set up badly ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "name", "status", "said", "fix"),
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
def test_settings(start: Start, config: dict[str, str], name: str, status: str, said: str, fix: str) -> None:
    found = one(look(start(**config)), name)
    assert (found.status, said in found.said, fix in found.fix) == (status, True, True), found


def test_a_server_that_is_nearly_full(start: Start, capsys: Capture) -> None:
    url = start()
    used = node.ask(SyncTransport(Address.parse(url))).number("used_memory")
    command(url, "SET", "ballast", b"x" * used * 9)
    command(url, "CONFIG", "SET", "maxmemory", used * 11)
    found = one(look(url), "memory")
    assert (found.status, "is about to be refused" in found.said) == ("fault", True)
    assert main(["doctor", "--url", url]) == 6
    out = capsys.readouterr().out
    assert "✗ memory" in out
    assert "mend it: redis-cli CONFIG SET maxmemory" in out
    command(url, "CONFIG", "SET", "maxmemory", used * 13)
    assert one(look(url), "memory").status == "warning"


def test_a_primary_without_persistence_would_wipe_its_replica(start: Start) -> None:
    port = free_port()
    primary = start(port=port, appendonly="no")
    replica = start(replicaof=f"127.0.0.1 {port}", repl_diskless_sync_delay="0")
    wait_until(lambda: b"state=online" in command(primary, "INFO", "replication"))  # type: ignore[operator]
    assert "wipes its replicas too" in one(look(primary), "persistence").said
    wait_until(lambda: one(look(primary), "replication").status == "ok")
    assert one(look(primary), "replication").said == "primary with 1 replicas"
    found = one(look(replica), "replication")
    assert (found.status, "it takes no tasks" in found.said) == ("fault", True)
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
    assert abs(asked.skew) < 0.5
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


# -- rights --------------------------------------------------------------------------------------------------


def as_user(url: str, name: str, *rules: str) -> str:
    """The URL of a user with these rights."""
    command(url, "ACL", "SETUSER", name, "reset", "on", ">secret", *rules)
    return url.replace("unix://", f"unix://{name}:secret@")


@pytest.fixture
def users(any_url: str) -> Iterator[str]:
    yield any_url
    command(any_url, "ACL", "DELUSER", "someone")


ALL = ("~streamq:*", "&streamq:*", "&streamq:{*}:wake")


def granted(role: str) -> list[str]:
    """What `needed` says, as far as every server knows it."""
    names = [name for name in rights.needed(rights.ROLES[role]) if name != "WAITAOF"]
    return [f"+{rights._command(n).lower().replace(' ', '|')}" for n in names]


@pytest.mark.parametrize("role", ["producer", "producer of durable tasks", "worker", "daemon"])
def test_a_user_for_one_role_can_be_that(users: str, role: str) -> None:
    url = as_user(users, "someone", *ALL, *granted(role), "+@connection", "+multi", "+info")
    able = [check for check in look(url) if check.name == "rights"]
    assert (able[0].status, role in able[0].said) == ("ok", True)
    assert {check.status for check in able[1:]} <= {"warning"}


@pytest.mark.parametrize("asked_as", ["itself", "someone else"])
def test_who_may_not_wait_can_be_any_producer_but_one_of_durable_tasks(users: str, asked_as: str) -> None:
    url = as_user(users, "someone", *ALL, *granted("producer"), "+multi", "+info", "-wait")
    checks = look(url) if asked_as == "itself" else look(users, user="someone")
    able, *warned = [check for check in checks if check.name == "rights"]
    assert "may be producer" in able.said
    [lacking] = [check for check in warned if "producer of durable tasks" in check.said]
    assert (lacking.status, "+wait" in lacking.fix) == ("warning", True)


@pytest.mark.parametrize("right", ["+xadd", "+evalsha", "~streamq:*"])
def test_a_right_that_is_missing_is_named_with_what_grants_it(users: str, right: str) -> None:
    rules = [rule for rule in (*ALL, "+@all") if rule != right]
    if right.startswith("+"):
        rules.append("-" + right[1:])
    url = as_user(users, "someone", *rules)
    refused = [check for check in look(url) if check.name == "rights" and check.status != "ok"]
    assert refused
    assert any(right in check.fix for check in refused)
    assert any(check.status == "fault" for check in refused)


def test_a_channel_that_is_missing(users: str) -> None:
    url = as_user(users, "someone", "~streamq:*", "+@all", "resetchannels")
    assert any("'&streamq:*'" in check.fix for check in look(url) if check.name == "rights")


def test_the_rights_of_another_user(users: str) -> None:
    as_user(users, "someone", *ALL, *granted("producer"))
    able = [check for check in look(users, user="someone") if check.name == "rights"]
    assert "user someone may be producer" in able[0].said


def test_a_user_who_may_only_read(users: str, capsys: Capture) -> None:
    """What he may not see is unknown; nothing is written."""
    app = StreamQ("shop", users)
    app.send("email", {})
    app.close()
    url = as_user(
        users,
        "someone",
        "~streamq:*",
        "+@read",
        "+eval",
        "+evalsha",
        "+time",
        "+acl|whoami",
        "+multi",
        "+client|setname",
    )
    before = {key: command(users, "DUMP", key) for key in command(users, "KEYS", "*")}  # type: ignore[attr-defined]
    checks = look(url)
    assert {key: command(users, "DUMP", key) for key in command(users, "KEYS", "*")} == before  # type: ignore[attr-defined]
    assert one(checks, "server").status == "unknown"
    assert "may be observer" in next(c for c in checks if c.name == "rights").said
    assert one(checks, "workers of shop").status == "warning"
    blind = look(as_user(users, "someone", "+time", "+client|setname"))
    assert {check.name: check.status for check in blind}["rights"] == "unknown"
    assert main(["doctor", "--url", users.replace("unix://", "unix://nobody:x@")]) == 77
    assert "✗ reach" in capsys.readouterr().out


def test_every_command_of_every_script_has_a_sample_that_the_server_takes(users: str) -> None:
    for name in scripts.names():
        for used in rights.used(name):
            assert rights.sample(used, "shop")
    transport = SyncTransport(Address.parse(users))
    for role in rights.ROLES.values():
        for used in rights.needed(role):
            sample = rights.sample(used, "shop")
            if command(users, "COMMAND", "INFO", sample[0]) != [None]:  # WAITAOF is newer than some servers
                assert command(users, "ACL", "DRYRUN", "default", *sample) == b"OK", used
    transport.close()


def test_trying_rights_runs_nothing(users: str) -> None:
    look(users)
    assert command(users, "DBSIZE") == 0


# -- the queue -----------------------------------------------------------------------------------------------


@pytest.fixture
def shard(url: str) -> Iterator[Shard]:
    transport = SyncTransport(Address.parse(url))
    found = Shard(transport)
    found.run(calls.announce("shop", 1))
    yield found
    transport.close()


def beat(shard: Shard, name: str, **details: object) -> None:
    told = {"heartbeat": 5.0, "types": ["email"], "version": "1.0"} | details
    shard.run(calls.beat(shard.s, name, orjson.dumps(told)))


def test_nobody_is_there(shard: Shard, url: str) -> None:
    shard.put()
    checks = look(url)
    assert one(checks, "daemon").status == "fault"
    assert "streamq daemon" in one(checks, "daemon").fix
    found = one(checks, "workers of shop")
    assert (found.status, found.said) == ("warning", "none is alive; email (1 ready)")
    beat(shard, "w1", types=["other"])
    assert "none serves email" in one(look(url), "workers of shop").said


def test_a_daemon_of_another_app_is_none_of_ours(shard: Shard, url: str) -> None:
    shard.run(calls.attend("d1", b'{"only":"other","heartbeat":10}'))
    assert one(look(url), "daemon").status == "fault"
    shard.run(calls.attend("d2", b'{"only":"shop","heartbeat":10}'))
    assert one(look(url), "daemon").said == "1 alive: d2"


def test_several_releases(shard: Shard, url: str) -> None:
    beat(shard, "w1")
    beat(shard, "w2", version="1.1")
    found = one(look(url), "releases")
    assert (found.status, "1 with 1.0, 1 with 1.1" in found.said) == ("warning", True)


def test_deliveries_of_workers_that_are_gone(shard: Shard, url: str) -> None:
    shard.put()
    [delivery] = shard.fetch("dead-worker")
    found = one(look(url), "deliveries of shop")
    assert (found.status, "1 held by workers that are gone: dead-worker" in found.said) == ("warning", True)
    beat(shard, "dead-worker")
    assert one(look(url), "deliveries of shop").status == "ok"
    assert delivery


def test_tasks_that_die_and_suspects(shard: Shard, url: str) -> None:
    assert one(look(url), "dead letters of shop").said == "none"
    shard.put()
    shard.settle(shard.fetch(), Died("attempts", b"[]"))
    found = one(look(url), "dead letters of shop")
    assert (found.status, found.said) == ("warning", "1 of 1 in the last hour")
    [local] = shard.command("ZRANGE", shard.t.dead, 0, -1)
    shard.command("ZADD", shard.t.dead, 1, local)
    assert one(look(url), "dead letters of shop").status == "ok"
    shard.command("XADD", shard.t.suspect, "*", "p", "{}")
    assert "1 suspects" in one(look(url), "dead letters of shop").said


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
    assert [name for name, _ in shard.run(calls.workers(shard.s))] == ["new"]
    kept = shard.run(calls.heartbeats(shard.s))
    assert list(kept) == ["new"]


# -- cluster -------------------------------------------------------------------------------------------------


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
    assert f"shard {unserved[0]} (slot {slots.slot('shop', unserved[0])})" in found.said
    assert served
    command(url, "CLUSTER", "ADDSLOTSRANGE", half, slots.SLOTS - 1)
    [found] = slots.checks(transport, asked, {"shop": 20})
    assert (found.status, found.said) == ("ok", "app shop: 20 shards on 1 of 1 masters")
    assert slots.slot("shop", 3) == command(url, "CLUSTER", "KEYSLOT", "streamq:{shop:3}:types")
    transport.close()


def test_shards_that_crowd_on_one_master() -> None:
    number = slots.slot("shop", 0)
    found = slots._app("shop", 1, [(0, number, "a:1"), (number + 1, 16383, "b:1")])
    assert found.status == "ok"
    crowded = slots._app("shop", 9, [(0, 16383, "a:1"), (16384, 16384, "b:1")])
    assert (crowded.status, "9 shards on 1 of 2 masters" in crowded.said) == ("warning", True)


def test_the_doctor_raises_where_there_is_nobody_to_examine(url: str) -> None:
    with pytest.raises(RedisUnavailable):
        look("unix:///no/such.sock")
    with pytest.raises(AuthenticationFailed):
        look(url.replace("unix://", "unix://nobody:x@"))

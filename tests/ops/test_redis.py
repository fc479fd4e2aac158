"""The server's configuration and its users, on a real Redis: what they may, and what they must not."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from streamq import AuthenticationFailed, Daemon, Every, RedisError, StreamQ, Worker, scripts
from streamq.calls.call import Call
from streamq.cli import main
from streamq.daemon.chores import CHORES
from streamq.doctor import needs, rights, users
from streamq.server_binary import find_server
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.ports import free_port
from tests.running import OPTIONS, QUICK, begun, until, wait_until

REDIS = Path(__file__).resolve().parents[2] / "ops" / "redis"
SERVER = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(SERVER is None, reason="no redis-server on the PATH")
FILE = (REDIS / "users.acl").read_text()
USERS = {line.split()[1]: line.split()[2:] for line in FILE.splitlines()}
Url = Callable[[str], str]
STREAM = "streamq:{acl:0}:email:normal"
READING = (
    ("stats",), ("top",), ("workers",), ("audit",), ("dead", "list"), ("dead", "groups"),
    ("task", "list", "dead"), ("schedules",), ("schedules", "show", "hourly"),
)  # fmt: skip
"""Commands that a viewer may give."""
BUSY = replace(QUICK, heartbeat=0.2, sample_interval=0.2)


@contextmanager
def serving(config: str, folder: Path, *args: str, binary: str | None = SERVER) -> Iterator[None]:
    """A server with a configuration of ours, on a socket in this folder."""
    path = folder / "redis.conf"
    path.write_text(config)
    process = subprocess.Popen(
        [str(binary), str(path), *args], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def with_password(line: re.Match[str]) -> str:
    """A user as it is switched on: with the digest of a password."""
    if line[1] == "default":
        return line[0]
    return f"user {line[1]} on #{sha256(f'secret-{line[1]}'.encode()).hexdigest()}"


@pytest.fixture(scope="module", params=["valkey", "redis"])
def queue(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Url]:
    """redis.conf and users.acl as they are, but for the places of things, on a server of each kind."""
    binary = SERVER if request.param == "redis" else str(find_server())
    if binary is None:
        pytest.skip("no redis-server on the PATH")
    folder = tmp_path_factory.mktemp("redis")
    other = users.file("team1:", users.QUEUE, "team1-")
    (folder / "users.acl").write_text(
        re.sub(r"^user ([\w-]+) off", with_password, FILE + other, flags=re.MULTILINE)
    )
    config = (REDIS / "redis.conf").read_text()
    config = config.replace("/etc/redis/users.acl", str(folder / "users.acl"))
    config = re.sub(r"^port 6379$", f"port 0\nunixsocket {folder}/s", config, flags=re.MULTILINE)

    def url(user: str) -> str:
        return f"unix://{user}:secret-{user}@{folder}/s"

    with serving(config, folder, binary=binary):
        wait_until(lambda: answers(folder / "s"))
        yield url


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def command(url: str, *args: str) -> Any:
    transport = SyncTransport(Address.parse(url), patience=0)
    try:
        return transport.run(Call(None, (), args, lambda reply: reply))
    finally:
        transport.close()


def shop(url: str) -> StreamQ:
    """The app as its workers have it."""
    app = StreamQ("acl", url)

    @app.task(max_attempts=2, backoff=lambda _: 0.01, rate_limit="1000/1m", max_backlog=1000)
    async def email(fail: bool) -> str:
        if fail:
            raise ValueError("no")
        return "sent"

    @app.task
    async def order() -> str:
        return (await email.aenqueue(False)).id

    @app.task(schedule=Every("1h"))
    async def hourly() -> None: ...

    return app


async def test_the_way_of_a_task_under_the_rights_of_each_role(
    queue: Url, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each part logs in as itself: enqueue, delay, fetch, fail, retry, die, cancel, wait, look, requeue."""
    command(queue("admin"), "ACL", "LOG", "RESET")
    producer, app = StreamQ("acl", queue("producer"), patience=0), shop(queue("worker"))
    worker, daemon = Worker(app, OPTIONS), Daemon(Address.parse(queue("daemon")), BUSY)
    running = [await begun(worker), await begun(daemon)]
    followed = await (await producer.asend("order")).aresult(10)
    bad = await producer.asend("email", {"fail": True})
    later = producer.send("email", {"fail": False}, delay=0.2)
    never = producer.send("email", {"fail": False}, delay=3600)
    assert await producer.handle(followed).aresult(10) == await later.aresult(10) == "sent"
    await until(lambda: bad.status() == "dead")
    assert never.cancel() == "cancelled"
    put = producer.aschedules.put
    assert (await put("often", Every("1s"), producer.bound("email", {"fail": False}))).standing == "active"
    # The promoter would sleep for half a minute.
    await until_rounds(daemon, lambda: producer.send("email", {"fail": False}, delay=0.1))
    look = ("--app", "acl", "--json", "--url", queue("viewer"))
    for args in (*READING, ("task", "show", bad.id)):
        assert main([*args, *look]) == 0, capsys.readouterr()
    act = ("--app", "acl", "--json", "--url", queue("operator"))
    assert main(["dead", "requeue", bad.id, *act]) == 0, capsys.readouterr()
    yesterday = ("--from", "2026-11-01T00:00Z", "--to", "2026-11-01T00:00:05Z")
    for verb in (
        ["pause", "often"],
        ["resume", "often"],
        ["run-now", "often"],
        ["backfill", "often", *yesterday],
    ):
        assert main(["schedules", *verb, *act]) == 0, capsys.readouterr()
    assert await producer.aschedules.remove("often")
    await until(lambda: bad.status() == "dead")
    assert command(queue("admin"), "ACL", "LOG") == []  # nobody was refused anything that it could do without
    for refused in (["pause", "hourly"], ["run-now", "hourly"], ["remove", "hourly", "--yes"]):
        assert main(["schedules", *refused, *look]) != 0
    assert main(["dead", "purge", bad.id, "--yes", *look]) != 0
    assert bad.status() == "dead"
    assert main(["dead", "purge", bad.id, "--yes", *act]) == 0, capsys.readouterr()
    metrics = await daemon.metrics()
    assert metrics.gauges["streamq_redis_up",] == 1
    assert metrics.gauges["streamq_redis_memory_max_bytes",] == 2 * 1024**3
    for service in (worker, daemon):
        service.stop()
    for task in running:
        await task


async def until_rounds(daemon: Daemon, wake: Callable[[], object]) -> None:
    """Until every chore has had a good round from now on, and none was refused anything. `wake` is called
    once it is known which rounds have been."""
    before = daemon._chore_status.last_success()
    wake()
    chores = [chore.name for chore in CHORES]
    await until(
        lambda: all(
            daemon._chore_status.last_success().get(name, 0) > before.get(name, 0) for name in chores
        ),
        20,
    )
    outcomes = [
        key for key in daemon._counters.snapshot().counters if key[0] == "streamq_daemon_rounds_total"
    ]
    assert {outcome for _, _, outcome in outcomes} == {"ok"}


DANGEROUS: list[tuple[str, ...]] = [
    ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("CONFIG", "SET", "maxmemory", "0"),
    ("CONFIG", "GET", "*"), ("SHUTDOWN", "NOSAVE"), ("ACL", "LIST"), ("SAVE",),
    ("SCRIPT", "FLUSH"), ("REPLICAOF", "NO", "ONE"), ("MONITOR",), ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "LIST"), ("XGROUP", "DESTROY", STREAM, "workers"), ("FUNCTION", "LIST"),
    ("XTRIM", STREAM, "MAXLEN", "0"), ("GET", "somebody:elses"), ("RANDOMKEY",),
    ("RENAME", "streamq:apps", "x"), ("MIGRATE", "h", "1", "k", "0", "1"), ("SWAPDB", "0", "1"),
    ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ("EVAL", "return redis.call('GET', KEYS[1])", "1", "mine"),
    ("EVAL", "return redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)", "1", STREAM),
]  # fmt: skip


@pytest.mark.parametrize("user", ["producer", "worker", "daemon", "viewer", "operator"])
def test_no_role_may_do_what_it_has_no_need_of(queue: Url, user: str) -> None:
    for args in DANGEROUS:
        with pytest.raises(RedisError) as refused:
            command(queue(user), *args)
        # From a script, Redis and Valkey each have words of their own for it.
        said = str(refused.value)
        assert isinstance(refused.value, AuthenticationFailed) or re.search(
            r"ermission|can't run|can't access", said
        )


@pytest.mark.parametrize(
    "args",
    [
        ("SET", "streamq:x", "1"), ("DEL", "streamq:apps"), ("XADD", STREAM, "*", "p", "{}"),
        ("EVAL", "return redis.call('DEL', KEYS[1])", "1", "streamq:apps"),
        ("PUBLISH", "streamq:{acl:0}:wake", "x"),
    ],
)  # fmt: skip
def test_a_viewer_writes_nothing(queue: Url, args: tuple[str, ...]) -> None:
    with pytest.raises(RedisError):
        command(queue("viewer"), *args)


def test_the_default_user_is_off(queue: Url) -> None:
    with pytest.raises(AuthenticationFailed):
        command(queue("producer").replace("producer:secret-producer@", ""), "PING")


DURABLE = "producer of durable tasks"
SCRIPTS = {
    "producer": (
        "enqueue", "enqueue_rich", "register", "announce", "open_shard", "wait", "cancel", "locate",
        "signal", "policy_rules", "write_schedule",
        "flow_build", "flow_commit", "flow_start", "flow_advance", "flow_release", "flow_step", "flow_grow",
        "flow_keep",
        "flow_mark", "flow_again", "flow_renew", "flow_inputs", "flow_signal",
    ),
    "worker": (
        "fetch", "renew", "settle", "settle_rich", "beat", "leave", "groups", "orders", "tally", "watch",
        "muster", "survey", "rights", "next_promotion", "checkpoint", "memos", "emit", "take_signal",
        "flow_behind",
    ),
    "daemon": (
        "next_due", "next_promotion", "enforce", "recount", "set_window",
        "expire", "promote", "promote_rich", "reclaim", "restamp", "repair", "sweep", "trim",
        "survey", "groups", "counts", "sample", "beat", "leave", "close_shard", "lower_known", "cancel",
        "due_schedules", "page_schedules", "tick", "tick_rich", "write_schedule",
    ),
    "viewer": (
        "counts", "locate", "memos", "sizes",
        "lane_list", "lane_tasks", "audit_lanes", "audit_slots", "audit_steps", "audit_flow",
        "audit_held", "audit_turns", "unlaned", "audit_dead", "audit_keys", "audit_letters",
        "audit_pending", "audit_place", "audit_rows", "audit_schedule", "audit_stream", "dead_count",
        "dead_groups", "dead_slices", "page_buckets", "page_group", "page_locks", "page_results", "page_set",
        "page_streams", "page_schedules", "rollups", "survey",
    ),
    "operator": (
        "requeue", "purge", "cancel", "enqueue", "enqueue_rich", "reseal", "resubmit",
        "run_now",
        "signal", "pause", "drain",
        "listen", "repair", "groups", "forget", "repair_counters", "log_action", "tick",
        "tick_rich", "write_schedule",
        "limit", "open_lane", "purge_lane", "recount", "repair_lane", "unlock", "dismiss",
        "repair_books", "repair_claim", "repair_dead", "repair_lifetime", "repair_lock",
        "repair_pending", "repair_place", "repair_row", "repair_scores", "repair_steps", "repair_type",
    ),
}  # fmt: skip


def test_every_script_belongs_to_a_role() -> None:
    """Guard: who adds a script says here who calls it, and the ACL file is checked for its commands."""
    assert {name for listed in SCRIPTS.values() for name in listed} == set(scripts.names())


@pytest.mark.parametrize("user", list(SCRIPTS))
def test_a_roles_rights_cover_its_scripts(user: str) -> None:
    needed = {command for name in SCRIPTS[user] for command in commands_of(name)}
    if user == "worker":
        needed |= {command for name in SCRIPTS["producer"] for command in commands_of(name)}
    if user == "operator":
        needed |= {command for name in SCRIPTS["viewer"] for command in commands_of(name)}
    if user != "operator":
        needed -= {"hsetnx", "rpop"}  # of the log of operators' actions, which they do not write
    given = {rule.strip("()")[1:] for rule in USERS[user] if rule.strip("(")[0] == "+"}
    assert {
        command for command in needed if command not in given and command.split("|")[0] not in given
    } == set()


@pytest.mark.parametrize(
    ("user", "roles"),
    [
        ("producer", {"producer", DURABLE}), ("worker", {"producer", DURABLE, "worker"}),
        ("daemon", {"daemon"}), ("viewer", {"observer"}),
        ("operator", {"observer", "operator", "producer", DURABLE}),
    ],
)  # fmt: skip
def test_the_doctor_finds_that_each_user_can_fill_its_role(queue: Url, user: str, roles: set[str]) -> None:
    transport = SyncTransport(Address.parse(queue("admin")), patience=0)
    [said] = [check.finding for check in rights.checks(transport, "acl", user) if check.status == "ok"]
    transport.close()
    assert roles == set(said.removeprefix(f"user {user} may be ").split(", ")) & set(needs.ROLES)


@pytest.mark.parametrize("user", ["producer", "worker"])
def test_who_enqueues_may_wait_until_it_is_durable(queue: Url, user: str) -> None:
    assert command(queue(user), "WAIT", "0", "1") == 0
    try:
        command(queue(user), "WAITAOF", "0", "0", "1")
    except RedisError as error:
        assert "unknown command" in str(error)  # Redis before 7.2
    with pytest.raises(RedisError):
        command(queue("sentinel"), "WAIT", "0", "1")


def commands_of(script: str) -> set[str]:
    text = scripts.load(script).text
    found = re.findall(r"redis\.p?call\(\s*'(\w+)'(?:, '(\w+)')?", text)
    containers = ("XINFO", "XGROUP")
    return {f"{a}|{b}".lower() if a in containers else a.lower() for a, b in found}


def test_every_user_is_off_and_has_no_password() -> None:
    assert set(USERS) == {"default", *users.QUEUE, *users.SERVER}
    for rules in USERS.values():
        assert rules[0] == "off"
        assert not [rule for rule in rules if rule[0] in ">#" or rule in ("on", "nopass")]


def test_the_file_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["acl"]) == 0
    assert capsys.readouterr().out == FILE


@needs_redis
def test_a_node_of_a_cluster_starts_with_its_configuration(tmp_path: Path) -> None:
    config = (
        REDIS / "cluster.conf"
    ).read_text() + f"unixsocket {tmp_path}/s\nport {free_port()}\nbind 127.0.0.1\n"
    with serving(config, tmp_path):
        wait_until(lambda: answers(tmp_path / "s"))
        wait_until(lambda: b"cluster_enabled:1" in command(f"unix://{tmp_path}/s", "INFO", "cluster"))


@needs_redis
def test_a_sentinel_starts_with_its_configuration(tmp_path: Path) -> None:
    port = free_port()
    config = (REDIS / "sentinel.conf").read_text()
    config = re.sub(
        r"^port 26379$", f"port {port}\nbind 127.0.0.1\nunixsocket {tmp_path}/s", config, flags=re.MULTILINE
    )
    config = config.replace("sentinel monitor queue redis-1", "sentinel monitor queue 127.0.0.1")
    with serving(config, tmp_path, "--sentinel"):
        wait_until(lambda: answers(tmp_path / "s"))
        masters = command(f"unix://{tmp_path}/s", "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "queue")
        assert masters == [b"127.0.0.1", b"6379"]

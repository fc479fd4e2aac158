"""Queues under a prefix of their own, on a server that is shared by the rules of an ACL."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator

import pytest

from streamq import AuthenticationFailed, Daemon, InvalidOption, ResultTimeout, StreamQ, Worker, environment
from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.cli import main
from streamq.client import waiting
from streamq.keys import app_pattern, known_key, shard_keys, type_keys
from streamq.namespace import Namespace
from streamq.scripts import names
from tests.conftest import command
from tests.running import OPTIONS, QUICK, begun, clean, serving, until

PREFIX = "team1:"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def team(any_url: str) -> Iterator[str]:
    """The URL of a user who may do everything with what begins with his prefix, and nothing else."""
    rules = ("reset", "on", ">secret", f"~{PREFIX}*", f"&{PREFIX}*", "+@all")
    command(any_url, "ACL", "SETUSER", "team1", *rules)
    yield any_url.replace("unix://", "unix://team1:secret@")
    command(any_url, "ACL", "DELUSER", "team1")


def shop(url: str, **options: str | int) -> StreamQ:
    app = StreamQ("shop", url, **options)  # type: ignore[arg-type]

    @app.task(max_attempts=1)
    async def email(fail: bool = False) -> str:
        if fail:
            raise ValueError("no")
        return "sent"

    return app


async def test_the_way_of_a_task_under_a_prefix(team: str, any_url: str, capsys: Capture) -> None:
    """Everything a queue does stays below its prefix, and the same app without one sees nothing of it."""
    app, other = shop(team, prefix=PREFIX, shards=2), shop(any_url)
    worker, daemon = Worker(app, OPTIONS), Daemon(app.address, QUICK)
    running = [await begun(worker), await begun(daemon)]
    now, later = app.send("email"), app.send("email", delay=0.1)
    assert await now.aresult(10) == await later.aresult(10) == "sent"
    never, bad = app.send("email", delay=3600), app.send("email", {"fail": True})
    assert never.cancel() == "cancelled"
    await until(lambda: bad.status() == "dead")
    with app.inspector.tail() as events:
        await until(lambda: worker.parts.event_publisher.active)
        await app.send("email").aresult(10)
        await until(lambda: bool(events.next(0.2)))
    clean(app)
    options = ["--url", team, "--prefix", PREFIX, "--app", "shop"]
    for args in (["stats"], ["dead", "list"], ["workers"], ["apps"]):
        assert main([*args, *(options[:4] if args == ["apps"] else options)]) == 0
    assert "shop" in capsys.readouterr().out
    main(["doctor", *options, "--json"])
    checks = {one["name"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["rights"]["status"] == "ok"
    assert app.admin.purge(bad.id) == 1
    keys = command(any_url, "KEYS", "*")
    assert isinstance(keys, list)
    assert {key[: len(PREFIX)] for key in keys} == {PREFIX.encode()}
    assert (other.inspector.types(), other.handle(now.id).status()) == ([], "unknown")
    for service in (worker, daemon):
        service.stop()
    for task in running:
        await task


async def test_queues_of_two_prefixes_and_the_default_side_by_side(url: str) -> None:
    """With the same name on one database, in one process."""
    apps = [shop(url), shop(url, prefix="a:"), shop(url, prefix="b")]
    handles = [app.send("email") for app in apps]
    assert len({hash(handle) for handle in handles} | {1}) > 1
    assert apps[0].handle(handles[0].id) == handles[0] != apps[1].handle(handles[0].id)
    async with serving(apps[1]):
        assert await handles[1].aresult(10) == "sent"
    assert [handle.status() for handle in handles] == ["ready", "completed", "ready"]
    assert [one.inspector.stats()[0].ready for one in apps] == [1, 0, 1]


def test_a_refusal_names_the_keys_and_channels_that_the_user_needs(team: str) -> None:
    with pytest.raises(AuthenticationFailed, match=r"~streamq:\* .*&streamq:\*"):
        StreamQ("shop", team).send("email")
    with pytest.raises(AuthenticationFailed, match=r"~team2:\* .*&team2:\*"):
        StreamQ("shop", team, prefix="team2:").inspector.stats()


def test_a_channel_that_is_refused_is_named(team: str, any_url: str) -> None:
    command(any_url, "ACL", "SETUSER", "team1", "resetchannels")
    app = StreamQ("shop", team, prefix=PREFIX)
    with pytest.raises(AuthenticationFailed, match=r"~team1:\* .*&team1:\*"), app.inspector.tail():
        pass


async def test_who_waits_is_told_which_channel_is_refused(
    team: str, any_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The result is polled then, and a log line names the rules, once."""
    waiting._LOGGED.clear()
    app = StreamQ("shop", team, prefix=PREFIX)
    handle = await app.asend("email")
    command(any_url, "ACL", "SETUSER", "team1", "resetchannels")
    for _ in range(2):
        with pytest.raises(ResultTimeout):
            await handle.aresult(0.5)
    [line] = [one for one in "".join(capsys.readouterr()).splitlines() if "result.polled" in one]
    assert re.search(r"~team1:\* .*&team1:\*", line)
    await app.aclose()


@pytest.mark.parametrize("walk", ["run_on_all_nodes", "run_on_reachable_nodes", "there"])
def test_a_walk_over_all_nodes_names_the_rules(team: str, any_url: str, walk: str) -> None:
    app = StreamQ("shop", team, prefix=PREFIX)
    transport = app.inspector.transport
    [node] = transport.run_on_all_nodes(question_calls.now())
    call = Call(None, (), ("HGET", "elsewhere", "x"), lambda raw: raw)
    with pytest.raises(AuthenticationFailed, match=r"~team1:\* .*&team1:\*"):
        transport.run_on_node(node, call) if walk == "there" else getattr(transport, walk)(call)
    app.close()


@pytest.mark.parametrize("walk", ["everywhere", "there"])
async def test_an_awaited_walk_over_all_nodes_names_the_rules(team: str, walk: str) -> None:
    app = StreamQ("shop", team, prefix=PREFIX)
    transport = app.ainspector.transport
    [node] = await transport.run_on_all_nodes(question_calls.now())
    call = Call(None, (), ("HGET", "elsewhere", "x"), lambda raw: raw)
    with pytest.raises(AuthenticationFailed, match=r"~team1:\* .*&team1:\*"):
        await (transport.run_on_node(node, call) if walk == "there" else transport.run_on_all_nodes(call))
    await app.aclose()


def test_the_doctor_names_the_rules_of_the_prefix(any_url: str, team: str, capsys: Capture) -> None:
    command(any_url, "ACL", "SETUSER", "team1", "resetkeys", "~elsewhere:*", "resetchannels")
    main(["doctor", "--url", team, "--prefix", PREFIX, "--app", "shop", "--json"])
    fixes = [one["fix"] for one in json.loads(capsys.readouterr().out)["checks"] if one["name"] == "rights"]
    assert any("~team1:*" in fix and "'&team1:*'" in fix for fix in fixes)


@pytest.mark.parametrize(
    "prefix",
    ["", " ", "a b:", "{a}:", "a*:", "a?", "[a]", "a\\", "ä:", "a\n", "x" * 101, "a}:"],
)
def test_prefixes_that_would_not_do(prefix: str) -> None:
    with pytest.raises(InvalidOption, match="is not a valid prefix for keys"):
        StreamQ("shop", prefix=prefix)


def test_a_prefix_that_would_not_do_is_told_on_the_command_line(capsys: Capture) -> None:
    assert main(["stats", "--prefix", "{x}"]) == 2
    assert "is not a valid prefix for keys" in capsys.readouterr().err


def test_the_prefix_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv(environment.PREFIX.name, "env:")
    assert StreamQ("shop").address.prefix == "env:"
    assert StreamQ("shop", prefix="code:").address.prefix == "code:"
    assert main(["config", "show", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["settings"]}
    assert (found["prefix"]["value"], found["prefix"]["source"]) == ("env:", "environment")
    assert main(["config", "show", "--json", "--prefix", "o:"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["settings"]}
    assert (found["prefix"]["value"], found["prefix"]["source"]) == ("o:", "option")


def test_names_of_the_default_prefix_are_as_they_were() -> None:
    t, s = type_keys("shop", 3, "email"), shard_keys("shop", 3)
    assert (t.high, t.results("n1-0")) == ("streamq:{shop:3}:email:high", "streamq:{shop:3}:email:results:0")
    assert (s.control, s.wake, s.events) == tuple(
        f"streamq:{{shop:3}}:{n}" for n in ("control", "wake", "events")
    )
    assert t.done("n1-0") == "streamq:{shop:3}:email:done:n1-0"
    assert Namespace().apps == "streamq:apps"
    assert Namespace().daemons == "streamq:{daemons}:daemons"


@pytest.mark.parametrize("namespace", [Namespace(), Namespace("team1:"), Namespace("x/y-", 5)])
def test_every_key_of_a_shard_is_in_one_slot_and_known(namespace: Namespace) -> None:
    app = namespace.app("shop")
    t, s = type_keys(app, 3, "email"), shard_keys(app, 3)
    keys = [*t.streams, t.schedule, t.writer("w"), t.results("d5-9"), s.types, s.key("a}b{c"), s.closed]
    assert {key.partition("{")[2].partition("}")[0] for key in keys} == {"shop:3"}
    assert all(key.startswith(namespace.prefix) for key in [*keys, s.control, t.done("x"), namespace.news])
    assert None not in [known_key(app, key) for key in keys]
    assert known_key("shop", t.high) is None or namespace.prefix == "streamq:"
    assert app_pattern(app).startswith(namespace.prefix)
    channels = [s.wake, s.control, s.events, t.done("n1-0")]
    assert [channel.count(":db5") for channel in channels] == [int(namespace.database == 5)] * 4
    again = pickle.loads(pickle.dumps(app))  # noqa: S301 - made here
    assert type_keys(again, 3, "email") == t


def test_scripts_are_told_every_name() -> None:
    from streamq.scripts import load

    assert [name for name in names() if ":wake" in load(name).text or "apps'" in load(name).text] == []


def test_wait_looks_at_the_queue_of_the_prefix(url: str, capsys: Capture) -> None:
    app = StreamQ("shop", url, prefix="team1:")
    app.send("email", {"n": 1})
    app.close()
    assert main(["wait", "--url", url, "--prefix", "team1:", "--timeout", "0"]) == 1

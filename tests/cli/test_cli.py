"""The command line against a real server: what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from streamq import StreamQ
from streamq.cli import COMMANDS, main
from streamq.codec import add_failure
from streamq.model import Died
from streamq.transport import Address, SyncTransport
from tests.conftest import command
from tests.lua.shard import Shard

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def shard(url: str, monkeypatch: pytest.MonkeyPatch) -> Shard:
    """App `shop` with type `email` on the server that the commands find."""
    monkeypatch.setenv("STREAMQ_URL", url)
    StreamQ("shop", url).send("email", {"n": 0})
    return Shard(SyncTransport(Address.parse(url)))


def run(capsys: Capture, *args: str) -> tuple[int, str, str]:
    code = main(args)
    out = capsys.readouterr()
    return code, out.out, out.err


def as_json(capsys: Capture, *args: str) -> Any:
    code, out, _ = run(capsys, *args, "--json")
    assert code == 0
    return json.loads(out)


def bury(shard: Shard) -> list[str]:
    deliveries = shard.fetch()
    failures = add_failure(
        b"",
        attempt=1,
        at_ms=1_700_000_000_000,
        worker="w1",
        error="ValueError",
        message="no \x1b[31m",
        traceback="tb",
    )
    shard.settle(deliveries, Died("attempts", failures))
    return [f"email:0:{d.local}" for d in deliveries]


def test_help_lists_every_command_quickly() -> None:
    took: list[float] = []
    for _ in range(5):
        began = time.monotonic()
        out = subprocess.run(
            [sys.executable, "-m", "streamq", "--help"], capture_output=True, text=True, check=True
        ).stdout
        took.append(time.monotonic() - began)
        assert all(name in out for name in COMMANDS)
    assert min(took) < 0.15


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_exit_codes(capsys: Capture, name: str) -> None:
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    assert "exit codes" in out


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, ""),
        (["stat"], 2, "there is no command 'stat': did you mean 'stats'?"),
        (["stats", "--nonsense"], 2, "unrecognized arguments"),
        (["stats", "--url", "ftp://x"], 78, "ftp:// is no server URL that streamq knows; write redis://"),
        (["stats", "--url", "redis://h/abc"], 78, "the database in a server URL is a number"),
        (["stats", "--url", "redis://h?nonsense=1"], 78, "the server URL has no option 'nonsense'"),
        (["stats", "--url", "unix:///no/such.sock"], 69, "no connection to unix:///no/such.sock"),
        (["task", "show", "nonsense"], 2, "'nonsense' is not a task id; one looks like"),
        (["task", "show", "email:0:n1-0"], 3, "there is no task email:0:n1-0"),
        (["task", "cancel", "email:0:n1-0"], 3, "there is no task"),
        (["dead", "show", "email:0:n1-0"], 3, "is no dead letter, it is unknown"),
        (["dead", "requeue"], 2, "say which: ids, --type TYPE or --all"),
        (["dead", "purge", "--all"], 1, "say --yes where nobody can be asked"),
        (["enqueue", "email", "{"], 2, "line 1 is not JSON"),
        (["enqueue", "email", "[1]"], 2, "line 1 is not a JSON object"),
        (["enqueue", "email"], 2, "give the arguments as JSON, - for standard input, or --file"),
        (["enqueue", "email", "--file", "/no/such"], 2, "cannot read '/no/such'"),
        (["enqueue", "e mail", "{}"], 2, "is no name for a task type"),
        (["enqueue", "email", "{}", "--delay", "soon"], 2, "write a duration as '90s'"),
        (["worker", "no_such_module"], 78, "there is no module 'no_such_module' here"),
        (["daemon", "--url", "embedded://"], 2, "does not run on an embedded server"),
        (["demo", "--tasks", "0"], 2, "must be a whole number of at least 1"),
    ],
)
def test_wrong_input_gets_one_line_and_its_exit_code(
    capsys: Capture, shard: Shard, args: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    got, _, err = run(capsys, *args)
    assert got == code
    assert said in err
    assert "Traceback" not in err


def test_which_app(capsys: Capture, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMQ_URL", url)
    assert "no app has used this server yet" in run(capsys, "stats")[2]
    StreamQ("one", url).send("email", {})
    assert as_json(capsys, "stats")["app"] == "one"
    StreamQ("two", url).send("email", {})
    code, _, err = run(capsys, "stats")
    assert (code, "say which with --app: one, two" in err) == (2, True)
    assert as_json(capsys, "stats", "--app", "two")["app"] == "two"
    monkeypatch.setenv("STREAMQ_APP", "one")
    assert as_json(capsys, "stats")["app"] == "one"


def test_version(capsys: Capture) -> None:
    assert run(capsys, "version")[1].startswith("streamq 0.")
    assert "streamq" in as_json(capsys, "version")
    assert run(capsys, "--version")[0] == 0


def test_enqueue_one_many_and_delayed(capsys: Capture, shard: Shard, tmp_path: Path) -> None:
    code, out, _ = run(capsys, "enqueue", "email", '{"to":"ada"}', "--priority", "high")
    assert (code, out.startswith("email:0:h")) == (0, True)
    lines = tmp_path / "tasks.jsonl"
    lines.write_text("\n".join(json.dumps({"n": n}) for n in range(1200)) + "\n\n")
    assert as_json(capsys, "enqueue", "email", "--file", str(lines))["accepted"] == 1200
    assert as_json(capsys, "enqueue", "email", "{}", "--delay", "1h")["ids"][0].startswith("email:0:d")
    assert (shard.snapshot().ready, shard.snapshot().scheduled) == (1202, 1)


def test_enqueue_from_standard_input(shard: Shard) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamq", "enqueue", "sms", "-", "--app", "shop"],
        input=b'{"n":1}\n{"n":2}\nnonsense\n', capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"no worker has registered task type 'sms' yet" in done.stderr
    assert b"line 3 is not JSON" in done.stderr


def test_stats_and_audit(capsys: Capture, shard: Shard, url: str) -> None:
    [one] = as_json(capsys, "stats")["types"]
    assert (one["type"], one["ready"], one["counters"]["accepted"]) == ("email", 1, 1)
    assert "email" in run(capsys, "stats")[1]
    assert as_json(capsys, "audit") == {"app": "shop", "checked": 1, "ok": True, "problems": []}
    assert "no invariant broken" in run(capsys, "audit")[1]


@pytest.mark.parametrize(
    ("harm", "invariant"),
    [
        (("XADD", "streamq:{shop:0}:email:normal", "*", "p", "{}"), "I5"),
        (("HINCRBY", "streamq:{shop:0}:email:counters", "completed", "1"), "I5"),
        (("XADD", "streamq:{shop:0}:email:normal", "*", "p", "{}", "i", "n1-0"), "I1"),
        (("ZADD", "streamq:{shop:0}:email:dead", "1", "n1-0"), "I1"),
        (("HSET", "streamq:{shop:0}:email:letters", "n1-0", "x"), "I7"),
        (("ZADD", "streamq:{shop:0}:email:schedule", "1", "garbage"), "I1"),
    ],
)
def test_audit_notices_what_is_broken(
    capsys: Capture, shard: Shard, url: str, harm: tuple[str, ...], invariant: str
) -> None:
    command(url, *harm)
    code, out, _ = run(capsys, "audit", "--json")
    found = json.loads(out)
    assert (code, found["ok"]) == (6, False)
    assert invariant in {problem["invariant"] for problem in found["problems"]}
    assert run(capsys, "audit")[0] == 6


def test_audit_notices_limbo_and_ghosts(capsys: Capture, shard: Shard, url: str) -> None:
    shard.put()
    one, two = shard.fetch()
    command(url, "XACK", shard.t.normal, "workers", one.place[1:])
    command(url, "XDEL", shard.t.normal, two.place[1:])
    problems = json.loads(run(capsys, "audit", "--json")[1])["problems"]
    assert {(p["invariant"], p["problem"]) for p in problems} >= {
        ("I6", "delivered to nobody"), ("I1", "pending but deleted"),
    }  # fmt: skip


def test_audit_repairs_what_it_can(capsys: Capture, shard: Shard, url: str) -> None:
    shard.fetch()
    command(url, "HSET", shard.t.index, "n5-5", "n6-6")
    code, out, err = run(capsys, "audit")
    assert (code, "in the index but nowhere" in out, "--repair puts some of this right" in err) == (
        6,
        True,
        True,
    )
    code, out, _ = run(capsys, "audit", "--repair", "--dry-run")
    assert code == 6
    assert "would repair email:0 n5-5: in the index but nowhere: removed the row" in out
    shown = json.loads(run(capsys, "audit", "--repair", "--dry-run", "--json")[1])
    assert [one["where"] for one in shown["would_repair"]] == ["n5-5"]
    code, out, _ = run(capsys, "audit", "--repair")
    assert (code, out.startswith("repaired email:0 n5-5: "), "1 repaired" in out) == (0, True, True)
    assert as_json(capsys, "audit", "--repair")["repaired"] == []


def test_audit_tells_what_only_an_operator_can_do(capsys: Capture, shard: Shard, url: str) -> None:
    command(url, "HINCRBY", shard.t.counters, "accepted", "2")
    code, out, _ = run(capsys, "audit", "--repair")
    assert (code, "+2 tasks" in out, "--repair --write-off closes the books" in out) == (6, True, True)
    assert run(capsys, "audit", "--repair", "--write-off")[0] == 0
    assert shard.snapshot().counters["vanished"] == 2
    code, _, err = run(capsys, "audit", "--write-off")
    assert (code, "go with --repair" in err) == (2, True)


def test_task_show_and_cancel(capsys: Capture, shard: Shard) -> None:
    [task] = as_json(capsys, "enqueue", "email", '{"to":"ada"}', "--delay", "1h")["ids"]
    shown = as_json(capsys, "task", "show", task)
    assert (shown["state"], shown["payload"]) == ("scheduled", {"to": "ada"})
    assert "scheduled" in run(capsys, "task", "show", task)[1]
    assert run(capsys, "task", "cancel", task)[:2] == (0, "cancelled\n")
    code, _, err = run(capsys, "task", "cancel", task)
    assert (code, "too late" in err) == (1, True)


def test_dead_letters(capsys: Capture, shard: Shard) -> None:
    for _ in range(4):
        shard.put(b'{"n":1}')
    ids = bury(shard)
    listed = as_json(capsys, "dead", "list")["dead"]
    assert {one["id"] for one in listed} == set(ids)
    assert listed[0]["last_error"]["error"] == "ValueError"
    _, out, _ = run(capsys, "dead", "list", "email", "--limit", "2")
    assert len(out.splitlines()) == 3
    _, out, _ = run(capsys, "dead", "show", ids[0])
    assert "attempt 1 at 2023-11-14T22:13:20Z on w1: ValueError: no \\x1b[31m" in out
    assert "\x1b" not in out
    assert as_json(capsys, "dead", "requeue", ids[0]) == {"requeued": 1, "asked": 1}
    assert run(capsys, "dead", "requeue", ids[0])[0] == 3
    assert as_json(capsys, "dead", "purge", ids[1], "--yes") == {"purged": 1, "asked": 1}
    assert as_json(capsys, "dead", "requeue", "--type", "email") == {"requeued": 3, "asked": 3}
    bury(shard)
    assert as_json(capsys, "dead", "purge", "--all", "--yes")["purged"] == 4
    assert run(capsys, "dead", "list")[2] == "no dead letters\n"
    assert shard.snapshot().counters["purged"] == 5


def test_workers(capsys: Capture, shard: Shard) -> None:
    assert as_json(capsys, "workers")["workers"] == []
    assert "has no workers" in run(capsys, "workers")[2]
    from streamq import calls

    shard.run(calls.beat(shard.s, "w1", b'{"host":"h","pid":7,"types":["email"],"running_count":2}'))
    shard.run(calls.beat(shard.s, "w2", b"\xffgarbage"))
    assert {one["name"] for one in as_json(capsys, "workers")["workers"]} == {"w1", "w2"}
    assert "w1" in run(capsys, "workers")[1]


def test_no_terminal_no_progress_bar(shard: Shard) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamq", "enqueue", "email", "{}"], capture_output=True, check=True
    )
    assert done.stderr == b""


@pytest.mark.timeout(120)
def test_demo_adds_up() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamq", "demo", "--tasks", "400", "--json"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    account = json.loads(done.stdout)
    assert set(account) == {
        "accepted", "completed", "retried", "dead", "recovered", "lost", "settled_twice", "seconds",
        "tasks_per_second", "wait_ms",
    }  # fmt: skip
    assert (account["accepted"], account["completed"], account["lost"], account["settled_twice"]) == (
        400,
        400,
        0,
        0,
    )
    assert account["retried"] == 20
    assert account["recovered"] > 0
    assert set(account["wait_ms"]) == {"p50", "p95", "p99"}

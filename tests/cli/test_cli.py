"""The command line against a real server: what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from streamq import StreamQ, migration_hints
from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
from streamq.cli import COMMANDS, main, target
from streamq.control.inspector import Inspector
from streamq.envelope import encode_overrides
from streamq.model.delivery import Overrides
from streamq.options.typed import PerCall
from tests.cli.conftest import Capture, as_json, run
from tests.conftest import command
from tests.lua.shard import Shard


def test_help_lists_every_command_quickly() -> None:
    took: list[float] = []  # of the processor: others may be using it too
    for _ in range(5):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        out = subprocess.run(
            [sys.executable, "-m", "streamq", "--help"], capture_output=True, text=True, check=True
        ).stdout
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
        assert all(name in out for name in COMMANDS)
    assert min(took) < 0.15  # seconds; some 0.07 on a quick machine


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_of_its_own(capsys: Capture, name: str) -> None:
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    assert out.startswith(f"usage: streamq {name}")
    assert "exit codes:" not in out  # the list is on the main page


def test_help_about_a_command(capsys: Capture) -> None:
    assert run(capsys, "help", "stats") == run(capsys, "stats", "--help")
    assert run(capsys, "help") == run(capsys, "--help")


def test_words_of_other_command_lines_lead_to_ours(capsys: Capture) -> None:
    assert not migration_hints.COMMANDS.keys() & COMMANDS.keys()
    for hint in migration_hints.COMMANDS.values():
        for said in re.findall(r"`streamq ([a-z-]+)(?: ([a-z]+))?", hint):
            assert said[0] in COMMANDS
            assert run(capsys, *filter(None, said), "--help")[0] == 0


def test_the_exit_codes_are_on_the_main_page(capsys: Capture) -> None:
    assert "exit codes:" in run(capsys, "--help")[1]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, ""),
        (["stat"], 2, "unknown command 'stat': did you mean 'stats'?"),
        (["ls"], 2, "unknown command 'ls': `streamq stats` counts by task type"),
        (["purge"], 2, "`streamq dead purge` deletes dead letters"),
        (["beat"], 2, "`streamq daemon` promotes"),
        (["--url", "redis://x", "stats"], 2, "options come after the command"),
        (["stats", "--ulr", "redis://x"], 2, "unrecognized arguments: --ulr: did you mean --url?"),
        (["task"], 2, "task list: the state is missing: use scheduled, parked, ready"),
        (["task", "list"], 2, "task list: the state is missing: use scheduled, parked, ready"),
        (
            ["stats", "--nonsense"],
            2,
            "streamq stats: unrecognized arguments: --nonsense (see streamq stats --help)",
        ),
        (["stats", "--url", "ftp://x"], 78, "unknown scheme ftp://. Write redis://"),
        (["stats", "--url", "redis://h/abc"], 78, "the database must be a number"),
        (
            ["stats", "--url", "redis://h?nonsense=1"],
            78,
            "its option number 1 is unknown. Known are",
        ),
        (["stats", "--url", "unix:///no/such.sock"], 69, "no connection to unix:///no/such.sock"),
        (["task", "show", "nonsense"], 2, "'nonsense' is not a task id; one looks like"),
        (["task", "show", "email:0:n1-0"], 3, "unknown task email:0:n1-0"),
        (["task", "nonsense"], 2, "argument show|list|signal: invalid choice: 'nonsense'"),
        (["dead", "show", "email:0:n1-0"], 3, "is not a dead letter: it is unknown"),
        (["dead", "requeue"], 2, "select by ids, filters (--type"),
        (["dead", "purge", "--all"], 1, "pass --yes in non-interactive use"),
        (["enqueue", "email", "{"], 2, "line 1 is not JSON"),
        (["enqueue", "email", "[1]"], 2, "line 1 is not a JSON object"),
        (["enqueue", "email"], 2, "pass the arguments as JSON ('{}' if there are none)"),
        (["enqueue", "email", "--file", "/no/such"], 2, "cannot read '/no/such'"),
        (["enqueue", "e mail", "{}"], 2, "is not a valid name for a task type"),
        (["enqueue", "email", "{}", "--delay", "soon"], 2, "not a duration. Write '90s'"),
        (["enqueue", "email", "{}", "--at", "soon"], 2, "--at 'soon' is not a time: write it as"),
        (
            ["enqueue", "email", "{}", "--at", "2027-01-31T09:00"],
            2,
            "has no time zone: write 2027-01-31T09:00Z",
        ),
        (["enqueue", "email", "{}", "--at", "2027-01-31T09:00Z", "--delay", "5"], 2, "exclude each other"),
        (["enqueue", "email", "{}", "--max-attempts", "0"], 2, "max_attempts=0"),
        (["wait", "emial"], 3, "did you mean 'email'?"),
        (["wait", "--timeout", "soon"], 2, "Write '90s'"),
        (["stats", "emial"], 3, "did you mean 'email'?"),
        (["pause"], 2, "name the task types: `streamq stats` lists them"),
        (["resume"], 2, "name the task types"),
        (["task", "list", "ready", "sms", "--type", "email"], 2, "the task type is given twice"),
        (["task", "list", "readyy"], 2, "invalid choice: 'readyy'"),
        (["worker", "no_such_module"], 78, "there is no module 'no_such_module' here"),
        (["daemon", "--url", "embedded://"], 2, "does not run on an embedded server"),
        (["daemon", "--app", "no/such"], 2, "is not a valid name for an app"),
        (
            ["audit", "--app", "shopp"],
            3,
            "no data of app 'shopp' on this server: `streamq apps` lists the apps",
        ),
        (["dashboard", "--port", "99999"], 2, "--port 99999 is not a port"),
        (["dashboard", "--auth", "bearer:$NO_SUCH_NAME"], 2, "environment variable NO_SUCH_NAME is not set"),
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


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("app = (\n", "broken_code cannot be imported: "),
        (
            "import nothing_of_this_name\n",
            "broken_code.py:1 in <module>: ModuleNotFoundError: No module named",
        ),
        ("1 / 0\n", "broken_code.py:1 in <module>: ZeroDivisionError: division by zero"),
    ],
)
def test_code_that_cannot_be_imported_is_one_line(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    (tmp_path / "broken_code.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    got, _, err = run(capsys, "worker", "broken_code:app")
    assert (got, said in err, err.count("\n")) == (78, True, 1)


def test_which_app(capsys: Capture, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMQ_URL", url)
    assert "no app has used this server yet" in run(capsys, "stats")[2]
    StreamQ("one", url).send("email", {})
    assert as_json(capsys, "stats")["app"] == "one"
    StreamQ("two", url).send("email", {})
    code, _, err = run(capsys, "stats")
    assert (code, "choose one with --app: one, two" in err) == (2, True)
    assert as_json(capsys, "stats", "--app", "two")["app"] == "two"
    monkeypatch.setenv("STREAMQ_APP", "one")
    assert as_json(capsys, "stats")["app"] == "one"


def test_a_full_disk_under_the_output_is_one_line(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    for words in (["version"], ["apps", "--url", url, "--json"], ["--help"]):
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            monkeypatch.setattr(sys, "stdout", full)
            assert main(words) == 1
            monkeypatch.undo()
        assert capsys.readouterr().err == "streamq: cannot write the output: No space left on device\n"


def test_the_exit_code_is_the_commands_also_where_the_reader_of_its_messages_has_gone() -> None:
    """Python ends with 120 if it cannot write at its end what is buffered."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run([sys.executable, "-m", "streamq", "stat"], stderr=theirs, check=False)
    finally:
        os.close(theirs)
    assert done.returncode == 2


def test_a_command_whose_output_is_closed_does_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert main(["version"]) == 0
    assert main(["stat"]) == 2
    sys.stdout.close()
    sys.stderr.close()


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


def test_a_call_may_set_what_code_may_set(capsys: Capture, shard: Shard) -> None:
    options = [
        "--at",
        "2099-01-31T09:00+01:00",
        "--expires",
        "100d",
        "--timeout",
        "90",
        "--max-attempts",
        "2",
    ]
    given = run(capsys, "enqueue", "--help")[1]
    for name in PerCall.__annotations__:
        assert f"--{name.replace('_', '-')} " in given
    [task] = as_json(capsys, "enqueue", "email", "{}", *options, "--retention", "1h")["ids"]
    info = Inspector(shard.transport, "shop").task(task)
    due = datetime(2099, 1, 31, 8, tzinfo=UTC)
    assert info.state == "scheduled"
    assert int(info.detail["due_ms"]) == due.timestamp() * 1000
    assert info.fields["m"] == encode_overrides(Overrides(timeout=90.0, max_attempts=2, retention=3600.0))
    assert int(info.fields["x"]) == (due + timedelta(days=100)).timestamp() * 1000


def test_wait_until_nothing_is_left_to_do(capsys: Capture, shard: Shard) -> None:
    assert run(capsys, "wait", "--timeout", "0")[0] == 1
    assert as_json(capsys, "wait", "--app", "other", "--timeout", "5") == {"app": "other", "idle": True}
    shard.settle(shard.fetch())
    as_json(capsys, "enqueue", "email", "{}", "--delay", "1h")
    assert run(capsys, "wait", "email") == (0, "", "")
    code, _, err = run(capsys, "wait", "--type", "email", "--scheduled", "--timeout", "0.05")
    assert (code, "app 'shop' is not idle" in err) == (1, True)


def test_a_task_type_by_place_or_as_an_option(capsys: Capture, shard: Shard) -> None:
    StreamQ("shop", str(shard.transport.address)).send("sms", {})
    for words in (["stats"], ["task", "list", "ready"], ["dead", "list"], ["dead", "groups"]):
        by_place, by_option = (run(capsys, *words, *more)[1] for more in (["sms"], ["--type", "sms"]))
        assert re.sub(r"[\d.]+s", "", by_place) == re.sub(r"[\d.]+s", "", by_option)  # but for the ages
        assert "email" not in by_place
    by_place = as_json(capsys, "task", "list", "ready", "sms")
    assert by_place == as_json(capsys, "task", "ready", "--type", "sms")
    assert [one["type"] for one in as_json(capsys, "stats")["types"]] == ["email", "sms"]
    assert run(capsys, "pause", "--type", "sms")[1] == "paused sms\n"
    assert run(capsys, "resume", "--type", "sms", "email")[1] == "email was not paused\nresumed sms\n"


def test_a_throttled_task_by_name_runs_the_last_call_as_well(capsys: Capture, shard: Shard) -> None:
    args = ("--unique", "acme", "--throttle", "1h", "--trailing")
    first, second, third = [
        as_json(capsys, "enqueue", "email", f'{{"to":"{name}"}}', *args)["ids"][0] for name in ("a", "b", "c")
    ]
    assert second == third != first
    assert Inspector(shard.transport, "shop").task(second).payload == b'{"to":"c"}'
    code, _, err = run(capsys, "enqueue", "email", "{}", "--unique", "acme", "--trailing")
    assert (code, "pass throttle as well" in err) == (2, True)


def test_the_same_idempotency_key_enqueues_nothing(capsys: Capture, shard: Shard) -> None:
    args = ("enqueue", "email", '{"to":"ada"}', "--idempotency-key", "order-42")
    first = as_json(capsys, *args)
    assert (first["accepted"], first["duplicates"]) == (1, 0)
    assert as_json(capsys, *args) == {"accepted": 0, "duplicates": 1, "ids": first["ids"]}
    code, out, err = run(capsys, *args)
    assert (code, out.split()) == (0, first["ids"])
    assert "a task with this key exists" in err
    code, _, err = run(capsys, "enqueue", "email", "{}", "--idempotency-key", "order-42")
    assert code == 2
    assert f"belongs to task {first['ids'][0]}" in err
    code, _, err = run(capsys, "enqueue", "email", "-", "--idempotency-key", "k")
    assert code == 2
    assert "--idempotency-key names one task" in err
    assert run(capsys, *args[:3], "--durability", "disk")[0] == 2
    assert run(capsys, *args[:3], "--durability", "aof")[0] == 1  # this server has no file


def test_apps_with_their_shards(capsys: Capture, shard: Shard) -> None:
    assert as_json(capsys, "apps") == {
        "apps": [{"app": "shop", "shards": 1, "known_shards": 1, "types": ["email"]}]
    }
    shard.run(producer_calls.announce("shop", 4))
    shard.run(producer_calls.announce("shop", 2))
    code, out, _ = run(capsys, "apps")
    assert code == 0
    assert out.splitlines()[1].split()[:4] == ["shop", "2", "4", "1"]
    assert "shards 2 to 3 are being drained" in out
    before = shard.run(producer_calls.app_record("shop"))
    run(capsys, "enqueue", "email", "{}")
    assert shard.run(producer_calls.app_record("shop")) == before  # a command is no deploy


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
    assert {(p["invariant"], p["code"]) for p in problems} >= {
        ("I6", "undelivered"), ("I1", "deleted_while_pending"),
    }  # fmt: skip


def test_audit_repairs_what_it_can(capsys: Capture, shard: Shard, url: str) -> None:
    shard.fetch()
    command(url, "HSET", shard.t.index, "n5-5", "n6-6")
    code, out, err = run(capsys, "audit")
    assert (code, "in the index but nowhere" in out, "--repair fixes some of this" in err) == (
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
    assert (code, "+2 tasks" in out, "--repair --write-off balances the counters" in out) == (6, True, True)
    assert run(capsys, "audit", "--repair", "--write-off")[0] == 0
    assert shard.snapshot().counters["vanished"] == 2
    code, _, err = run(capsys, "audit", "--write-off")
    assert (code, "need --repair" in err) == (2, True)


def test_workers(capsys: Capture, shard: Shard) -> None:
    assert as_json(capsys, "workers")["workers"] == []
    assert "has no workers" in run(capsys, "workers")[2]

    shard.run(worker_calls.beat(shard.s, "w1", b'{"host":"h","pid":7,"types":["email"],"running_count":2}'))
    shard.run(worker_calls.beat(shard.s, "w2", b"\xffgarbage"))
    assert {one["name"] for one in as_json(capsys, "workers")["workers"]} == {"w1", "w2"}
    assert "w1" in run(capsys, "workers")[1]


def test_no_terminal_no_progress_bar(shard: Shard) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamq", "enqueue", "email", "{}"], capture_output=True, check=True
    )
    assert done.stderr == b""


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


def test_a_wait_for_the_server_is_told_at_once_on_a_terminal(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(target, "PATIENCE", 0.1)
    assert main(["stats", "--url", "redis://127.0.0.1:1"]) == 69
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0] == "streamq: redis://127.0.0.1:1/0 does not answer; trying for 0.1 s more"
    assert "Is the server running?" in told[1]

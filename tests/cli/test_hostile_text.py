"""What others wrote must not steer a terminal: every command, log line and line of `streamq dev`."""

from __future__ import annotations

import ast
import json
import logging
import re
import sys
from io import StringIO
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamq
from streamq import StreamQ, printable
from streamq.cli import COMMANDS, main
from streamq.dev.log import Log
from streamq.telemetry import logs
from tests.cli.conftest import Capture, bury, run
from tests.cli.terminal import Terminal
from tests.conftest import command
from tests.lua.shard import Shard

BAD = "x\r\nFORGED\x1b[2J\x1b]0;t\x07\x9b31m\x85\u202e\u2066\u2028\u2029\u200b\u00ad\ufeff\u3164\x7f\tx"
RAW = BAD.encode() + b"\xff\xed\xa0\x80"
PREFIX = "streamq:{shop:0}:"
OFTEN = {
    "every_ms": 5000, "type": "email", "letter": "n", "fields": [[BAD, BAD]], "misfire": "last",
    "overlap": "skip", "grace_ms": 5000, "print": BAD,
}  # fmt: skip
STANDS = {
    "revision": 1, "next": 5, "run": BAD, "run_type": BAD, "skipped": {BAD: 3}, "at": 5,
    "paused": {"by": BAD, "reason": BAD, "since_ms": 5},
}  # fmt: skip
FLOW = "1764547200000-402938475610"
NUMBERS = [
    word for name in ("nodes", "waiting", "released", "done", "skipped", "failed") for word in (name, "9")
]
NODE = {"m": BAD, "t": BAD, "l": "n", "a": [0], "error": BAD, "message": BAD, "reason": BAD, "node": BAD}
PACKAGE = Path(streamq.__file__).parent


def harmless(text: str) -> None:
    """AssertionError where a text may steer a terminal, or one of its lines is somebody else's."""
    assert all(line.isprintable() for line in text.split("\n")), ascii(text)
    assert not re.search("^FORGED|\u3164", text, re.MULTILINE), ascii(text)


@pytest.fixture
def hostile(shard: Shard, url: str) -> Shard:
    """A queue in which every text is hostile."""
    bury(shard, BAD, BAD)
    shard.put(RAW)
    shard.put(RAW, delay_ms=60_000)
    beat = orjson.dumps({"host": BAD, "pid": BAD, "types": [BAD], "running": [{"id": BAD, "since_ms": 1}]})
    about = orjson.dumps({"by": BAD, "reason": BAD, "at_ms": 5})
    for args in (
        ("SADD", f"{PREFIX}types", RAW),
        ("HSET", f"{PREFIX}paused", RAW, about),
        ("HSET", f"{PREFIX}paused", "email", about),
        ("ZADD", f"{PREFIX}workers", 9_999_999_999_999, RAW),
        ("HSET", f"{PREFIX}heartbeats", RAW, beat),
        ("ZADD", "streamq:daemons", 9_999_999_999_999, RAW),
        ("HSET", "streamq:daemon_heartbeats", RAW, orjson.dumps({"problems": [BAD]})),
        ("LPUSH", f"{PREFIX}action_log", "a"),
        ("HSET", f"{PREFIX}actions", "a", b"5 " + about),
        ("HSET", f"{PREFIX}email:policy", "handler", RAW, "version", RAW, "alias_of", RAW),
        ("HSET", f"{PREFIX}email:counters", RAW, "1"),
        ("HSET", f"{PREFIX}email:unique", RAW, RAW),
        ("ZADD", f"{PREFIX}email:lanes", 0, RAW),
        ("HSET", f"{PREFIX}email:slots", RAW, RAW),
        ("HSET", f"{PREFIX}schedules", RAW, RAW, "nightly", RAW, "often", orjson.dumps(OFTEN)),
        ("HSET", f"{PREFIX}schedules", "often:state", orjson.dumps(STANDS), "often:payload", RAW),
        ("ZADD", f"{PREFIX}schedules_due", 5, RAW),
        ("SET", f"{PREFIX}{BAD}:nonsense", "x"),
        ("ZADD", f"{PREFIX}flows", 5, RAW, 6, FLOW, 7, BAD),
        ("HSET", f"{PREFIX}flow={FLOW}", *NUMBERS, "name", "import", "state", "failed", "key", RAW),
        ("HSET", f"{PREFIX}flow={FLOW}", "cause", "0", "static", "2", "last", RAW, "maps", RAW),
        ("HSET", f"{PREFIX}flow={FLOW}", "n0", orjson.dumps(NODE), "n1", RAW),
        ("SET", f"{PREFIX}flow_states={FLOW}", "d" + BAD),
        ("HSET", f"{PREFIX}flow_results={FLOW}:0", "0", orjson.dumps(NODE)),
        ("HSET", f"{PREFIX}flow={BAD}", "state", BAD, "name", BAD),
        ("ZADD", f"{PREFIX}inbox", 5, RAW, 6, f"{FLOW} {BAD}"),
        ("ZADD", f"{PREFIX}blobs", 5, RAW, 9e15, BAD),
    ):
        command(url, *args)
    return shard


app = StreamQ("shop")


@app.task(name="email")
def _email(n: int = 0, text: str = BAD) -> None: ...


APP = f"{__name__}:app"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A code base of another queue, and the schemas of an app, with hostile texts."""
    app = f"app = Celery({BAD!r})\n@app.task(name={BAD!r}, queue={BAD!r}, odd={BAD!r})\n"
    code = f"from celery import Celery\n{app}def f(x): f.apply_async((1,), queue={BAD!r})\n"
    (tmp_path / "good.py").write_text(code, "utf-8")
    (tmp_path / f"{BAD}.py").write_text(f"{code}(", "utf-8")
    (tmp_path / "old.json").write_text("{}")
    return tmp_path


def lines(dead: str, ready: str, code: Path) -> list[list[str]]:
    return [
        ["stats"], ["stats", BAD], ["top", "--once"], ["apps"], ["apps", "--url", f"redis://{BAD}"],
        ["workers"],
        ["task", "list", "ready"], ["task", "list", "scheduled"], ["task", "list", "dead"],
        ["task", "show", dead],
        ["task", "show", ready], ["task", "show", BAD], ["task", BAD], ["cancel", BAD], ["run-now", BAD],
        ["run-now", ready], ["pause", BAD], ["pause", "nosuch"], ["resume", BAD], ["resume", "nosuch"],
        ["forget", BAD, "--yes"],
        ["unique", "email"], ["unique", BAD], ["unlock", "email", BAD], ["unlock", BAD, BAD],
        ["lanes", "email"], ["lanes", BAD],
        ["schedules"], ["schedules", "often"], ["schedules", "nightly"], ["schedules", BAD],
        ["schedules", "pause", BAD], ["schedules", "run-now", "often"], ["schedules", "resume", "nightly"],
        ["schedules", "backfill", "often", "--from", BAD, "--to", BAD], ["schedules", "remove", BAD, "--yes"],
        ["pause", "email", "--reason", BAD], ["dead"], ["dead", "groups"], ["dead", "show", dead],
        ["dead", "requeue", "--group", BAD], ["dead", "requeue", "--type", BAD], ["dead", "requeue", BAD],
        ["dead", "purge", "--all", "--dry-run"], ["dead", "list", "--error", BAD], ["drain", BAD], ["audit"],
        ["audit", "--repair", "--dry-run"], ["doctor"], ["doctor", "--app", BAD], ["stats", "--app", BAD],
        ["enqueue", BAD, "{}"], ["enqueue", "nosuch", BAD], ["enqueue", "nosuch", "{}"],
        ["enqueue", "email", "--file", BAD],
        ["config", "show"], ["config", "show", BAD], ["wait", BAD], ["wait", "nosuch", "--timeout", "0"],
        ["check", "--port", BAD],
        ["flow"], ["flow", "list"], ["flow", f"import:0:{FLOW}"], ["flow", BAD],
        ["flow", "cancel", BAD, "--yes"],
        ["flow", "retry", f"import:0:{FLOW}"], ["flow", "list", "--state", BAD],
        ["types"], ["types", "list", BAD], ["types", "retire", BAD, "--yes"],
        ["keys", "audit"], ["keys", "audit", "--unused", BAD], ["keys", BAD],
        ["keys", "reseal", BAD, "--yes"],
        ["dismiss", BAD], ["dismiss", "nobody"],
        ["migrate", "scan", str(code)], ["migrate", "scan", f"{code}/{BAD}"], ["migrate", BAD],
        ["schema", "export", BAD, BAD], ["schema", "check", APP, str(code / "old.json")],
        ["schema", "check", APP, f"{code}/{BAD}"], ["schema", "export", APP, "-"], ["schema", BAD, BAD, BAD],
        ["outbox", "status", BAD], ["outbox", "relay", f"{__name__}:{BAD}", "--once"], ["outbox", BAD, BAD],
        ["tail", BAD], ["bench", "--figures", BAD], ["demo", "--tasks", BAD], ["worker", BAD], ["dev", BAD],
        ["dashboard", "--host", BAD], ["dashboard", "--auth", BAD], ["daemon", "--log-level", BAD],
        ["completion", BAD], ["acl", BAD], ["version", BAD], [BAD], ["stats", f"--{BAD}"], ["help", BAD],
    ]  # fmt: skip


def test_no_command_writes_what_others_wrote_as_it_is(capsys: Capture, hostile: Shard, code: Path) -> None:
    """Texts of stored tasks, workers, flows and apps, and what was typed."""
    dead = hostile.command("ZRANGE", hostile.t.dead, 0, 0)[0].decode()
    ready = hostile.command("XRANGE", hostile.t.normal, "-", "+")[0][0].decode()
    tried = lines(f"email:0:{dead}", f"email:0:n{ready}", code)
    assert {args[0] for args in tried} >= set(COMMANDS)
    for args in tried:
        ended, out, err = run(capsys, *args)
        assert 0 <= ended < 256, args
        assert "Traceback" not in err, args
        harmless(out + err)


def test_json_is_exact_and_harmless(capsys: Capture, hostile: Shard) -> None:
    for args in (
        ["stats"],
        ["top"],
        ["workers"],
        ["task", "list", "dead"],
        ["dead", "groups"],
        ["audit"],
        ["schedules"],
        ["schedules", "show", "often"],
    ):
        code, out, err = run(capsys, *args, "--json")
        assert code in (0, 6)
        harmless(out + err)
        if args == ["stats"]:
            [email] = [one for one in json.loads(out)["types"] if one["type"] == "email"]
            assert email["paused"]["reason"] == BAD


def test_an_encoding_that_lacks_letters_is_no_fault(
    hostile: Shard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["task", "list", "ready"]) == 0
        assert main(["stats", "--json"]) == 0


@given(st.text(st.characters(codec=None), max_size=30))
def test_any_text(text: str) -> None:
    harmless(printable.line(text).replace("FORGED", ""))
    assert "\n" not in printable.line(text)
    harmless(printable.lines(text).replace("FORGED", "").replace("\t", " "))
    if not re.search("[\ud800-\udfff]", text):
        assert orjson.loads(printable.json(orjson.dumps([text]).decode())) == [text]


@pytest.mark.parametrize("form", ["console", "json"])
def test_log_lines(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    out = StringIO()
    monkeypatch.setattr(sys, "stderr", out)

    class Odd:
        def __repr__(self) -> str:
            return BAD

    logs.configure("debug", form)
    log = logs.get_logger()
    log.info(BAD, text=BAD, odd=Odd(), tuple=(BAD, Odd()), error=ValueError(BAD), **{BAD: BAD})
    log.error("failed", traceback=BAD)
    try:
        raise ValueError(BAD)  # noqa: TRY301 - its text is what is looked at
    except ValueError:
        log.exception("raised")
    logging.getLogger("theirs").warning("%s", BAD)
    harmless(out.getvalue().replace("\t", " "))
    assert len(out.getvalue().splitlines()) >= 4


def test_lines_of_dev(capsys: Capture) -> None:
    Log().write("worker", BAD)
    err = capsys.readouterr().err
    harmless(err)
    assert all(line.startswith("worker    |") for line in err.splitlines())


def test_only_one_place_writes() -> None:
    """Commands have no write to a terminal of their own: what passes `output` is harmless by construction."""
    allowed = {"output.py"}
    drawing = {"drawing.py", "screen.py"}
    for path in (PACKAGE / "cli").glob("*.py"):
        calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        names = {ast.unparse(one) for one in calls}
        found = names & {"sys.stdout.write", "sys.stderr.write", "print"}
        assert not found or path.name in allowed, path
        assert "from rich" not in path.read_text() or path.name in drawing, path


@pytest.mark.parametrize(
    "args", [["top"], ["workers"], ["dead"], ["dead", "groups"], ["task", "list", "ready"]]
)
def test_on_a_terminal(hostile: Shard, url: str, args: list[str]) -> None:
    """What is drawn with rich: its escape codes are the only ones."""
    with Terminal(*args, "--url", url, "--app", "shop") as terminal:
        if args == ["top"]:
            terminal.until("q ends")
            terminal.press("q")
        assert terminal.ended() == 0
        drawn = terminal.seen
    assert "FORGED" in drawn
    assert "\x1b[1m" in drawn or args == ["workers"]  # which has many wide columns
    plain = re.sub(r"\x1b\[(1|0|H|\?25[lh]|\?1049[lh])?m?", "", drawn)
    harmless(plain.replace("\r\n", "\n"))

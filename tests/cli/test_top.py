"""`streamq top`: once, as JSON, and live on a terminal that it leaves as it was."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from streamq import StreamQ
from streamq.calls import worker as worker_calls
from streamq.cli import overview, target, top
from streamq.cli.layout import plain
from streamq.embedded import EmbeddedServer
from tests.cli.conftest import Capture, as_json, bury, run
from tests.cli.terminal import Terminal
from tests.lua.shard import Shard
from tests.running import serving, until

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?25h\x1b[?1049l"


async def test_what_is_seen(app: StreamQ, shard: Shard) -> None:
    found = target.Target(shard.transport, "shop", None, "")

    def look() -> Any:
        return overview.Watch(found).read().as_object()

    @app.task
    async def email() -> None: ...

    async with serving(app) as worker:
        for _ in range(5):
            await (await email.aenqueue()).aresult(5)
        await until(lambda: look()["types"][0]["run"]["p50"] is not None)
        await until(lambda: look()["daemons"] != [] and look()["workers"] != [])
        seen = look()
    [one] = seen["types"]
    # The fixture's task has an argument that this handler lacks: it waits for newer code.
    assert (one["type"], one["ready"], one["scheduled"], one["dead"], one["paused"]) == (
        "email",
        0,
        1,
        0,
        None,
    )
    assert {"rate_in", "rate_out", "success", "wait", "run", "oldest_ready_age"} <= one.keys()
    assert seen["totals"].keys() >= {"ready", "running", "scheduled", "dead", "rate_in", "rate_out"}
    assert [one["name"] for one in seen["workers"]] == [worker.name]
    assert seen["server"]["used_memory"] > 0
    assert seen["server"]["max_memory"] is None


def test_one_object(capsys: Capture, shard: Shard) -> None:
    assert as_json(capsys, "top")["types"][0]["ready"] == 1


def test_once_for_people(capsys: Capture, shard: Shard) -> None:
    bury(shard)
    run(capsys, "pause", "email", "--reason", "the relay\x1b[31m is down")
    shard.put()
    shard.run(worker_calls.beat(
        shard.s, "w1",
        b'{"running_count":2,"concurrency":9,"running":[{"id":"email:0:n1-0","since_ms":1},{"id":7},{},3]}',
    ))  # fmt: skip
    shard.run(worker_calls.beat(shard.s, "w2", b'{"running":7,"concurrency":"\\u001b[31m"}'))
    code, out, _ = run(capsys, "top")
    assert code == 0
    assert "\x1b" not in out
    assert "shop at unix://" in out.splitlines()[0]
    assert "daemons NONE" in out.splitlines()[0]
    assert "paused by " in out
    assert "email 1 (longest" in out
    assert "no daemon is alive" in out


def test_rates_come_from_the_counters_while_it_is_live(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    found = target.Target(shard.transport, "shop", None, "")
    watch = overview.Watch(found)
    clock = [100.0]
    monkeypatch.setattr("streamq.cli.overview.time.monotonic", lambda: clock[0])
    watch.read()
    for _ in range(20):
        shard.put()
    shard.settle(shard.fetch()[:10])
    clock[0] += 2.0
    [row] = watch.read().types
    assert (row.recent.rate_in, row.recent.rate_out) == (10.0, 5.0)
    clock[0] += 60.0
    assert (watch.read().types[0].recent.rate_in or 0) < 1
    clock[0] += 5.0
    assert watch.read().types[0].recent.rate_in == 0


def test_many_types_fit_the_page(shard: Shard) -> None:
    app = StreamQ("shop")
    for n in range(30):
        for _ in range(2 if n == 29 else 1):
            app.send(f"type{n}")
    seen = overview.Watch(target.Target(shard.transport, "shop", None, "")).read()
    lines = plain(top.page(seen, 20))
    assert len(lines) <= 20
    assert any(line.startswith("type29") for line in lines)
    assert any(line.startswith("and ") and line.endswith(" more") for line in lines)
    assert len(plain(top.page(seen))) > 30


@pytest.mark.parametrize(
    ("keys", "number", "code"),
    [("q", 0, 0), ("\x04", 0, 0), ("\x03", 0, 130), ("", signal.SIGTERM, 130), ("", signal.SIGHUP, 130)],
)
def test_live_until_the_end_that_leaves_the_terminal_as_it_was(
    shard: Shard, url: str, keys: str, number: int, code: int
) -> None:
    with Terminal("top", "--url", url, "--interval", "250ms") as terminal:
        terminal.until("q ends")
        assert ENTER in terminal.seen
        assert terminal.modes() != terminal.before
        shard.put()
        terminal.until("ready 2 ")  # it looks again by itself
        if keys:
            terminal.press(keys)
        else:
            os.kill(terminal.process.pid, number)
        assert terminal.ended() == code
        assert LEAVE in terminal.seen
        assert terminal.modes() == terminal.before


def test_ctrl_z_gives_the_terminal_back(shard: Shard, url: str) -> None:
    with Terminal("top", "--url", url, "--interval", "250ms") as terminal:
        terminal.until("q ends")
        os.kill(terminal.process.pid, signal.SIGTSTP)
        terminal.until(LEAVE)
        deadline = time.monotonic() + 10
        while "T" not in Path(f"/proc/{terminal.process.pid}/stat").read_text().split()[2]:
            assert time.monotonic() < deadline
        assert terminal.modes() == terminal.before
        terminal.seen = ""
        os.kill(terminal.process.pid, signal.SIGCONT)
        terminal.until(ENTER)
        terminal.until("q ends")
        terminal.press("q")
        assert terminal.ended() == 0


def test_a_server_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    with EmbeddedServer(data_dir=tmp_path) as server:
        StreamQ("shop", server.url).send("email")
        with Terminal("top", "--url", server.url, "--interval", "250ms") as terminal:
            terminal.until("ready 1 ")
            server.stop()
            terminal.until("no connection to")
            terminal.seen = ""
            server.start()
            terminal.until("q ends")
            terminal.press("q")
            assert terminal.ended() == 0


def test_wrong_input_and_no_server(capsys: Capture, shard: Shard) -> None:
    code, _, err = run(capsys, "top", "--interval", "1ms")
    assert (code, "must be at least 0.25 s" in err, err.count("\n")) == (2, True, 1)
    assert run(capsys, "top", "--url", "unix:///no/such.sock")[0] == 69

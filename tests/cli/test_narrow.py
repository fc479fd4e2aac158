"""A terminal of eighty columns shows what matters whole, and says what is paused; times are its own."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from streamq import StreamQ
from streamq.cli import COMMANDS, overview, target, top
from streamq.cli.layout import Table, fitted, plain
from streamq.control.event_tail import Event
from streamq.model.outcome import Completed, Died, Retried
from streamq.worker.event_publisher import LONGEST_ERROR, _error
from tests.cli.conftest import Capture, run
from tests.lua.shard import Shard
from tests.running import until, working

LONG = "reconcile_the_ledgers_of_all_regional_subsidiaries_with_the_general_ledger"


def filled(shard: Shard) -> overview.Watch:
    app = StreamQ("shop")
    for name in ("email", LONG):
        for n in range(12):
            app.send(name, {"n": n})
    found = target.Target(shard.transport, "shop", None, "")
    found.admin.acting_for("ada").pause("email", "the relay is down " * 5)
    return overview.Watch(found)


def test_top_fits_eighty_columns_and_shows_what_is_paused(shard: Shard) -> None:
    seen = filled(shard).read()
    lines = plain(top.page(seen, 24, 80))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "email is paused by ada: the relay is down" in text
    assert re.search(r"^reconcile\w+…  +12 ", text, re.MULTILINE)
    for head in ("READY", "RUNNING", "SCHEDULED", "DEAD", "IN/S", "OUT/S", "OLDEST"):
        assert head in text
    assert "WAIT p95" in "\n".join(plain(top.page(seen)))


def test_stats_fits_a_terminal_of_eighty_columns(
    shard: Shard, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    filled(shard)
    monkeypatch.setattr("streamq.cli.stats.columns", lambda _: 80)
    code, out, err = run(capsys, "stats")
    assert code == 0
    assert max(map(len, out.splitlines()[:3])) <= 80
    assert "Σ" not in out.splitlines()[0]
    assert "email is paused by ada" in out + err
    monkeypatch.undo()
    monkeypatch.setenv("STREAMQ_URL", str(shard.transport.address))
    assert "Σ expired" in run(capsys, "stats")[1]  # a pipe gets everything


def test_a_table_gives_up_columns_in_their_order_and_then_cuts_the_first() -> None:
    table = Table(["NAME", "A", "B"], [["x" * 30, 1, "y" * 10]])
    assert fitted(table, 100, ("A", "B")) is table
    assert list(fitted(table, 43, ("A", "B")).head) == ["NAME", "B"]
    narrow = fitted(table, 20, ("A",))
    assert (list(narrow.head), narrow.rows[0][0]) == (["NAME", "B"], "x" * 11 + "…")


def failures(**last: Any) -> bytes:
    import orjson

    return orjson.dumps([{"error": "KeyError", "message": "old"}, last])


def test_events_tell_the_error_of_the_latest_attempt() -> None:
    assert _error(Completed()) == ""
    assert (
        _error(Retried(1, failures(error="ValueError", message="no\n  currency")))
        == "ValueError: no currency"
    )
    assert _error(Died("attempts", failures(error="ValueError"))) == "ValueError"
    assert _error(Died("lost", b"")) == ""
    assert _error(Died("lost", b"damaged")) == ""
    assert len(_error(Retried(1, failures(error="E", message="x" * 5000)))) == LONGEST_ERROR
    assert _error(Retried(1, failures(error="E", sealed="c2VjcmV0"))) in ("E", "")


async def test_tail_shows_errors_and_the_time_of_the_terminal(app: StreamQ, url: str) -> None:
    @app.task(max_attempts=1)
    async def charge(order: int) -> None:
        raise ValueError(f"order {order} has no currency")

    async with working(app) as worker:
        environment = {**os.environ, "TZ": "Asia/Tokyo"}
        command = [sys.executable, "-m", "streamq", "tail", "--url", url, "--app", "shop", "--event", "dead"]
        tail = subprocess.Popen(  # noqa: ASYNC220 - it only starts
            [*command, "--limit", "1"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        try:
            assert tail.stderr is not None
            assert await asyncio.to_thread(tail.stderr.readline) == "streamq: listening to shop\n"
            await until(lambda: worker.parts.event_publisher.active)
            await charge.aenqueue(7)
            out, _ = await asyncio.to_thread(tail.communicate, timeout=30)
        finally:
            tail.kill()
            tail.wait()
    assert "ValueError: order 7 has no currency" in out
    hour = int(out[:2])
    assert hour in {(app.inspector.now_ms() // 3_600_000 + add) % 24 for add in (8, 9)}  # nine before UTC


def test_an_event_without_an_error_has_none() -> None:
    assert Event("started", "a:0:n1-0", "w", 1).error == ""


def test_a_list_takes_its_type_before_or_as_an_option(shard: Shard, capsys: Capture) -> None:
    shard.put()
    shard.settle(shard.fetch())
    listed = [run(capsys, "task", *words) for words in (
        ("list", "completed", "--type", "email"), ("list", "completed", "email"),
        ("completed", "--type", "email"),
    )]  # fmt: skip
    assert [code for code, _, _ in listed] == [0, 0, 0]
    assert run(capsys, "dead")[0] == 0


def test_no_page_of_help_repeats_the_exit_codes(capsys: Capture) -> None:
    assert "exit codes:" in run(capsys, "--help")[1]
    for name in COMMANDS:
        assert "exit codes:" not in run(capsys, name, "--help")[1], name

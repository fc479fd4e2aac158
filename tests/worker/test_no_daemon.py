"""A worker without a daemon says so, as long as it lasts; so do doctor and stats."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import structlog

from streamq import StreamQ
from streamq.cli import main
from streamq.worker import daemon_watch
from tests.conftest import command
from tests.running import OPTIONS, tending, until, working

Lines = list[Any]


@pytest.fixture
def lines() -> Any:
    with structlog.testing.capture_logs() as found:
        yield found


def said(lines: Lines, event: str) -> Lines:
    return [line for line in lines if line["event"] == event]


async def test_a_worker_warns_at_its_first_look_where_tasks_wait(
    app: StreamQ, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_watch, "LOG_INTERVAL", 0.5)

    @app.task
    async def work() -> None: ...

    await work.options(delay="1h").aenqueue()
    async with working(app, replace(OPTIONS, heartbeat=0.1)):
        await until(lambda: bool(said(lines, "daemon.missing")), limit=5)
        [first, *_] = said(lines, "daemon.missing")
        assert (first["log_level"], first["waiting_types"]) == ("warning", 1)
        assert "streamq daemon" in first["fix"]
        await until(lambda: len(said(lines, "daemon.missing")) > 1)  # and goes on to
        async with tending(app):
            await until(lambda: bool(said(lines, "daemon.found")))


async def test_a_worker_with_a_daemon_says_nothing(app: StreamQ, lines: Lines) -> None:
    @app.task
    async def work() -> None: ...

    looks: list[int] = []
    true = daemon_watch.DaemonWatch.check

    def counted(self: daemon_watch.DaemonWatch, shards: int) -> None:
        true(self, shards)
        looks.append(shards)

    await work.options(delay="1h").aenqueue()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemon_watch.DaemonWatch, "check", counted)
        async with tending(app), working(app, replace(OPTIONS, heartbeat=0.05)):
            await until(lambda: len(looks) > 2)
    assert said(lines, "daemon.missing") == []


def test_a_daemon_of_another_app_is_none_of_ours(app: StreamQ, lines: Lines) -> None:
    watch = daemon_watch.DaemonWatch(app.inspector.transport, "shop", [], "w")
    beats = "streamq:{daemons}:"
    command(str(app.address), "ZADD", beats + "daemons", app.inspector.now_ms(), "d")
    command(str(app.address), "HSET", beats + "heartbeats", "d", b'{"only":"other"}')
    watch.check(1)
    watch.check(1)
    assert len(said(lines, "daemon.missing")) == 1
    command(str(app.address), "HSET", beats + "heartbeats", "d", b'{"only":"shop"}')
    watch.check(1)
    assert len(said(lines, "daemon.found")) == 1


def test_stats_and_doctor_tell_of_tasks_that_are_overdue(
    app: StreamQ, capsys: pytest.CaptureFixture[str]
) -> None:
    @app.task
    async def work() -> None: ...

    work.options(delay=1).enqueue()
    url, schedule = str(app.address), "streamq:{shop:0}:work:schedule"
    listed = command(url, "ZRANGE", schedule, 0, -1)
    assert isinstance(listed, list)
    command(url, "ZADD", schedule, app.inspector.now_ms() - 14_000, listed[0])
    main(["stats", "--url", url, "--app", "shop"])
    told = capsys.readouterr().err
    assert "no daemon is alive" in told
    [seconds] = re.findall(r"tasks of work are overdue by (\d+)", told)
    assert 14 <= int(seconds) < 60
    main(["stats", "--url", url, "--app", "shop", "--json"])
    assert json.loads(capsys.readouterr().out)["daemons"] == 0
    main(["doctor", "--url", url, "--app", "shop"])
    [seconds] = re.findall(r"tasks are overdue by up to (\d+) s", capsys.readouterr().out)
    assert 14 <= int(seconds) < 60


@pytest.mark.parametrize("beat", ["+inf", "1e308", "-1"])
def test_a_heartbeat_that_is_no_moment_counts_as_silence(app: StreamQ, beat: str) -> None:
    command(str(app.address), "ZADD", "streamq:{daemons}:daemons", beat, "d")
    command(str(app.address), "HSET", "streamq:{daemons}:heartbeats", "d", b"{}")
    assert [one.alive for one in app.inspector.daemons()] == [False]

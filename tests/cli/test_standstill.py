"""`streamq top` and `stats` name lanes, flows and schedules that stand still, and read nothing of them in an
app without any."""

from __future__ import annotations

import pytest

from streamq import Every, StreamQ
from streamq.cli import overview, target, top
from streamq.cli.layout import plain
from streamq.model.outcome import Died
from streamq.schedules.state import State
from tests.cli.conftest import Capture, as_json, run
from tests.lua.lane_twin import Rules
from tests.lua.laned import laned
from tests.lua.shard import Shard

DAY_MS = 86_400_000


def watched(shard: Shard) -> overview.Overview:
    return overview.Watch(target.Target(shard.transport, "shop", None, "")).read()


def told(shard: Shard, capsys: Capture) -> str:
    """What both commands say, in lines that fit eighty columns."""
    lines = plain(top.page(watched(shard), 24, 80))
    assert max(map(len, lines)) <= 80
    shown = " ".join(line.strip() for line in lines)
    said = run(capsys, "stats")[2]
    still = watched(shard).standstill.told()
    assert still
    for line in still:
        assert line in said
        assert line in shown
    return shown


def test_halted_lanes(shard: Shard, capsys: Capture) -> None:
    shard.fetch()
    laned(shard, Rules(order=True, halt=True))
    assert watched(shard).standstill.told() == []
    [first, *_] = [one for one in shard.fetch() if one.claims]
    shard.settle([first], Died("attempts", b"[]"))
    assert "! email: 1 lane halted by dead letters, 1 task behind: streamq lanes email" in told(shard, capsys)
    [row] = as_json(capsys, "top")["standstill"]["lanes"]
    assert row == {"type": "email", "halted": 1, "paused": 0, "waiting": 1}


def test_paused_lanes(shard: Shard, capsys: Capture) -> None:
    shard.fetch()
    laned(shard, Rules(lane_running=1))
    admin = target.Target(shard.transport, "shop", None, "").admin.acting_for("ada")
    admin.limit("email", lane="other", running=5)
    assert watched(shard).standstill.told() == []
    admin.pause_lane("email", "acme")
    assert "! email: 1 lane paused: streamq lanes email" in told(shard, capsys)


def test_flows_that_are_stuck_or_do_not_go_on(shard: Shard, capsys: Capture) -> None:
    flow, now = "1764547200000-000000000007", shard.now()
    fields = ("state", "stuck", "name", "f", "static", 1, "ended", now, "nodes", 1, "done", 1)
    shard.command("HSET", shard.s.flow(flow), *fields)
    shard.command("ZADD", shard.s.flows, now + 30 * DAY_MS, flow)
    assert f"! flows are stuck in their undo: f:0:{flow}: streamq flow" in told(shard, capsys)
    shard.command("HSET", shard.s.flow(flow), "state", "running")
    shard.command("ZADD", shard.s.flows, now - DAY_MS, flow)
    assert f"! flows do not go on: f:0:{flow}: streamq flow" in told(shard, capsys)


def test_runs_that_are_late(shard: Shard, url: str, capsys: Capture) -> None:
    app = StreamQ("shop", url)
    report = app.task(name="report")(lambda: None)
    app.schedules.put("nightly", Every("1h"), report.bind())
    assert watched(shard).standstill.told() == []
    due = shard.now() - 180_000
    shard.command(
        "HSET", shard.s.schedules, "nightly:state", State(revision=9, next=due, anchor=due).stored()
    )
    [row] = shard.command("ZRANGE", shard.s.schedules_due, 0, -1)
    shard.command("ZADD", shard.s.schedules_due, due, row)
    assert "! runs are late by up to 3m0" in told(shard, capsys)
    app.close()


def test_who_uses_none_pays_for_one_look(
    shard: Shard, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def read(*_: object) -> None:
        raise AssertionError

    for name in ("rows_of", "flow_pages.troubled", "_lanes_of"):
        monkeypatch.setattr(f"streamq.control.standstill.{name}", read)
    assert watched(shard).standstill.told() == []
    assert "streamq flow" not in run(capsys, "stats")[2]
    shard.command("SET", shard.s.schedules_due, "x")  # what cannot be read is for others to tell
    monkeypatch.undo()
    monkeypatch.setenv("STREAMQ_URL", str(shard.transport.address))
    assert run(capsys, "stats")[0] == 0

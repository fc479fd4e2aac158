"""streamq schedules: the list, one in full, and what may be done."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from streamq import Cron, Every, StreamQ
from streamq.cli import main
from streamq.keys import shard_keys
from tests.conftest import command


@pytest.fixture
def shop(app: StreamQ, monkeypatch: pytest.MonkeyPatch) -> StreamQ:
    monkeypatch.setenv("STREAMQ_URL", str(app.address))
    report = app.task(name="report")(lambda: None)
    app.schedules.put("nightly", Cron("30 2 * * *", tz="Europe/Madrid"), report.bind())
    app.schedules.put("often", Every("10m"), report.bind(), times=3)
    return app


def run(capsys: Any, *args: str) -> tuple[int, str, str]:
    code = main(["schedules", *args])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_list_and_one_in_full(shop: StreamQ, capsys: Any) -> None:
    task = shop.schedules.run_now("nightly")
    code, out, _ = run(capsys)
    head, nightly, often = out.splitlines()
    assert code == 0
    assert head.split() == [
        "SCHEDULE", "STATE", "TYPE", "WHEN", "ZONE", "NEXT", "LAST", "OUTCOME", "RUNS", "SKIPPED",
    ]  # fmt: skip
    assert "30 2 * * *    Europe/Madrid  in " in nightly
    assert "ready" in nightly
    assert "every 10 min  UTC" in often
    code, out, _ = run(capsys, "nightly")
    assert code == 0
    assert len([line for line in out.splitlines() if line.startswith("next ") and "02:30:00 CE" in line]) == 5
    assert task in out
    listed = orjson.loads(run(capsys, "--json")[1])
    assert [one["name"] for one in listed["schedules"]] == ["nightly", "often"]
    shown = orjson.loads(run(capsys, "show", "often", "--json")[1])
    assert (shown["left"], len(shown["upcoming"])) == (3, 3)


def test_what_may_be_done(shop: StreamQ, capsys: Any) -> None:
    assert run(capsys, "pause", "nightly", "--reason", "loud")[:2] == (0, "paused nightly\n")
    assert run(capsys, "pause", "nightly")[:2] == (0, "nightly was paused already\n")
    assert "loud" in run(capsys, "nightly")[1]
    assert run(capsys, "resume", "nightly")[:2] == (0, "resumed nightly\n")
    assert run(capsys, "resume", "nightly")[:2] == (0, "nightly was not paused\n")
    code, out, _ = run(capsys, "run-now", "nightly")
    assert (code, shop.handle(out.strip()).status()) == (0, "ready")
    span = ("--from", "2026-11-02T00:00Z", "--to", "2026-11-05T00:00+00:00")
    assert run(capsys, "backfill", "nightly", *span)[:2] == (0, "3 new runs\n")
    assert run(capsys, "backfill", "nightly", *span)[:2] == (0, "0 new runs\n")
    assert run(capsys, "remove", "nightly")[0] == 1  # nobody to ask
    assert run(capsys, "remove", "nightly", "--yes")[:2] == (0, "removed nightly\n")
    assert run(capsys, "remove", "nightly", "--yes")[0] == 3
    verbs = {one.verb for one in shop.inspector.actions()}
    assert verbs == {
        "pause schedule", "resume schedule", "run schedule now", "backfill schedule", "remove schedule",
    }  # fmt: skip


def test_what_is_refused(shop: StreamQ, url: str, capsys: Any) -> None:
    code, _, err = run(capsys, "pause", "nihgtly")
    assert (code, "has no schedule 'nihgtly'; it has: nightly, often" in err) == (3, True)
    code, _, err = run(capsys, "backfill", "nightly", "--from", "soon", "--to", "2026-11-05T00:00Z")
    assert (code, "--from 'soon' is not a time: write 2027-01-31T09:00Z" in err) == (2, True)
    code, _, err = run(capsys, "backfill", "nightly", "--from", "2026-11-05", "--to", "2026-11-06T00:00Z")
    assert (code, "has no time zone" in err) == (2, True)
    command(url, "HSET", shard_keys("shop", 0).schedules, "often", "x")
    code, out, err = run(capsys)
    assert (code, "damaged" in out, "schedule often: the stored schedule is damaged" in err) == (
        0,
        True,
        True,
    )


def test_a_key_that_cannot_be_read_is_named_and_costs_no_page(shop: StreamQ, url: str, capsys: Any) -> None:
    key = shard_keys("shop", 0).schedules
    command(url, "DEL", key)
    command(url, "RPUSH", key, "x")
    code, out, err = run(capsys)
    assert (code, "has no schedules that can be read" in err, f"{key} holds a list" in err) == (0, True, True)
    code, out, _ = run(capsys, "list", "--json")
    assert (code, [key in one for one in orjson.loads(out)["faults"]]) == (0, [True])
    code, _, err = run(capsys, "show", "nightly")
    assert (code, key in err, "Traceback" in err) == (1, True, False), err
    assert main(["doctor"]) != 0
    assert f"{key} holds a list" in capsys.readouterr().out


def test_a_type_with_a_schedule_is_not_forgotten(shop: StreamQ, capsys: Any) -> None:
    assert main(["forget", "report", "--yes"]) == 2
    assert "schedule 'nightly' makes tasks of it. Remove that first" in capsys.readouterr().err


def test_a_type_is_not_forgotten_while_schedules_cannot_be_read(shop: StreamQ, url: str, capsys: Any) -> None:
    key = shard_keys("shop", 0).schedules
    command(url, "DEL", key)
    command(url, "SET", key, "x")
    assert main(["forget", "report", "--yes"]) == 2
    assert f"{key} holds a string" in capsys.readouterr().err

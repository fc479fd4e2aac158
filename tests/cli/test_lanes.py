"""streamq lanes: what waits in which lane and why; pause, resume, limit and purge one."""

from __future__ import annotations

import pytest

from streamq import Lane, StreamQ
from tests.cli.conftest import Capture, as_json, run
from tests.lua.shard import Shard


@pytest.fixture
def parked(shard: Shard, app: StreamQ) -> StreamQ:
    @app.task(lane=Lane("to", running=1))
    async def email(to: str | None) -> None: ...

    app.enqueue_many([email.bind(to) for to in ("ada", "ada", "ada", "bob", "bob", None)])
    return app


def test_lanes_are_listed(capsys: Capture, parked: StreamQ) -> None:
    code, out, _ = run(capsys, "lanes", "email")
    assert code == 0
    assert [line.split()[:4] for line in out.splitlines()] == [
        ["LANE", "WAITING", "HELD", "MOST"], ["ada", "2", "1", "1"], ["bob", "1", "1", "1"],
    ]  # fmt: skip
    assert "limit" in out
    one = as_json(capsys, "lanes", "email", "--lane", "ada")["lanes"]
    assert [(lane["lane"], lane["parked"], lane["why"]) for lane in one] == [("ada", 2, "limit")]
    assert "and 1 more lanes: --most" in run(capsys, "lanes", "email", "--most", "1")[2]
    assert run(capsys, "lanes", "nobody")[0] == 3


def test_stats_say_what_is_parked(capsys: Capture, parked: StreamQ) -> None:
    _, out, err = run(capsys, "stats")
    assert "3 tasks of email are parked: `streamq lanes email` shows why" in out + err
    assert as_json(capsys, "stats")["types"][0]["parked"] == 3


def test_a_lane_is_changed(capsys: Capture, parked: StreamQ) -> None:
    assert run(capsys, "lanes", "email", "pause", "--lane", "ada")[1] == "paused lane ada of email\n"
    assert "limit (paused)" in run(capsys, "lanes", "email", "--lane", "ada")[1]
    assert run(capsys, "lanes", "email", "resume", "--lane", "ada")[:2] == (0, "resumed lane ada of email\n")
    said = run(capsys, "lanes", "email", "limit", "--lane", "ada", "--running", "2", "--rate", "9/s")
    assert said[:2] == (0, "limited lane ada of email\n")
    assert as_json(capsys, "lanes", "email", "--lane", "ada")["lanes"][0]["held"] == 2
    assert run(capsys, "lanes", "email", "purge", "--lane", "bob", "--yes")[1] == (
        "cancelled 1 tasks of lane bob of email\n"
    )
    assert run(capsys, "lanes", "email", "limit", "--running", "9")[1] == "limited email\n"
    code, _, err = run(capsys, "lanes", "email", "purge")
    assert (code, "name the lane: streamq lanes email purge --lane LANE" in err) == (2, True)
    code, _, err = run(capsys, "lanes", "email", "limit", "--lane", "ada", "--rate", "soon")
    assert (code, "write a rate as '5/s'" in err) == (2, True)
    assert [row.verb for row in parked.inspector.actions()][:2] == ["limit", "purge"]


def test_a_parked_task_is_shown_and_run_now(capsys: Capture, parked: StreamQ) -> None:
    [first, second] = [row["id"] for row in as_json(capsys, "task", "list", "parked", "email")["tasks"]][:2]
    shown = as_json(capsys, "task", "show", second)
    assert (shown["state"], shown["detail"]["why"]) == ("parked", "limit")
    assert run(capsys, "run-now", second, "--force")[:2] == (0, f"{second} is ready\n")
    assert as_json(capsys, "task", "show", second)["state"] == "ready"
    assert run(capsys, "cancel", first)[1] == f"{first}: cancelled\n"

"""The overview says what is wrong first, and its figures are right from the first sample on."""

from __future__ import annotations

import re
from typing import Any

import pytest

from streamq import StreamQ
from streamq.calls import rollup as rollup_calls
from streamq.control.action_log import Pause
from streamq.control.overview import stats_of
from streamq.control.rollups import Rollup, activity
from streamq.control.standstill import StandingLanes
from streamq.dashboard import dashboard
from streamq.dashboard.attention import Seen, concerns
from streamq.dashboard.history import point
from streamq.dashboard.overview import arranged, over
from streamq.doctor.check import fault, ok, warning
from streamq.errors import UsageError
from streamq.heartbeat import WorkerInfo
from streamq.keys import type_keys
from streamq.model.counts import Counts
from tests.dashboard.shop import DAEMON, TRUSTED
from tests.dashboard.test_pages import client
from tests.doctor.looks import look, one
from tests.running import tending, until


def stats(name: str, ready: int = 0, oldest_ms: int | None = None, due_ms: int | None = None) -> Any:
    return stats_of(name, [Counts(10_000_000, ready, 0, 0, 0, 0, oldest_ms, due_ms, {})])


def worker(name: str, *types: str, alive: bool = True, running: int = 0) -> WorkerInfo:
    return WorkerInfo(name, alive, 1.0, {"types": list(types), "running_count": running})


def seen(**more: Any) -> Seen:
    given: dict[str, Any] = {
        "app": "shop", "stats": [stats("email")], "paused": {}, "daemons": 1,
        "workers": [worker("w", "email")],
    }  # fmt: skip
    return Seen(**{**given, **more})


def titles(found: Seen) -> list[tuple[str, str]]:
    return [(one.level, one.title) for one in concerns(found)]


def test_nothing_is_wrong_with_a_queue_that_works() -> None:
    assert (
        concerns(seen(findings=[ok("persistence", "kept"), fault("daemon", "said already", "start it")]))
        == []
    )


def test_paused_lanes_are_told_and_halted_ones_left_to_the_doctor() -> None:
    lanes = [StandingLanes("email", halted=2, paused=0, waiting=9), StandingLanes("mail", 1, 3, 4)]
    (one,) = concerns(seen(lanes=lanes))
    assert (one.level, one.title, one.path) == ("warning", "3 lanes of mail are paused", "/types/mail/lanes")


def test_what_is_wrong_is_told_with_the_worst_first() -> None:
    found = seen(
        stats=[stats("email", 3, 9_000_000), stats("old", 7), stats("mail", 2, None, 9_000_000)],
        paused={"mail": Pause("mail", "ada", "the relay is down", 1)},
        workers=[worker("w", "email"), worker("gone", alive=False, running=2), worker("idle", alive=False)],
        daemons=0,
        findings=[fault("persistence", "nothing is kept", "CONFIG SET appendonly yes")],
    )
    assert titles(found) == [
        ("fault", "No daemon is alive"),
        ("fault", "2 workers are silent"),
        ("fault", "Nobody serves a type"),
        ("fault", "Scheduled tasks are late"),
        ("fault", "Persistence"),
        ("warning", "Workers do not keep up"),
        ("warning", "mail is paused by ada"),
    ]
    texts = {one.title: one for one in concerns(found)}
    assert (
        texts["2 workers are silent"].text == "gone, idle ran 2 tasks, which others get when the lease ends."
    )
    assert texts["Nobody serves a type"].text == "7 tasks wait: old."
    assert texts["mail is paused by ada"].text == "the relay is down. 2 wait."
    assert texts["Persistence"].fix == "CONFIG SET appendonly yes"


def test_what_the_doctor_finds_leads_to_where_it_is_mended() -> None:
    names = (
        "recurring tasks of shop",
        "flows of shop",
        "dead letters of shop",
        "halted lanes of a/b",
        "memory",
    )
    found = concerns(seen(findings=[warning(name, "something", "") for name in names]))
    assert [(one.title, one.path) for one in found] == [
        ("Recurring tasks", "/schedules"),
        ("Flows", "/flows"),
        ("Dead letters", "/dead"),
        ("Halted lanes of a/b", "/types/a%2Fb/lanes"),
        ("Memory", "/server"),
    ]


def test_the_doctor_names_what_stands_still(scene: StreamQ, scene_url: str) -> None:
    checks = look(scene_url)
    halted = one(checks, "halted lanes of ship")
    letter = scene.inspector.tasks("dead", "ship").rows[0].id
    assert halted.finding == f"a lane is shut by a dead letter, and 1 task waits behind it: {letter}"
    assert "an undo task failed" in one(checks, "flows of shop").finding
    assert one(checks, "workers of shop").status == "fault"


def test_of_many_unserved_types_a_few_are_named() -> None:
    many = [stats(f"type{n}", 1) for n in range(9)]
    (one,) = concerns(seen(stats=many))
    assert (one.title, one.path) == ("Nobody serves 9 types", "/?show=unserved")
    assert one.text == "9 tasks wait: type0, type1, type2 and 6 more."
    assert titles(seen(stats=many, workers=[])) == [("fault", "No worker is alive")]
    assert titles(seen(stats=many, workers=None)) == []


def test_rates_are_over_what_was_counted() -> None:
    before = [Rollup(n * 60_000, 60) for n in range(4)]
    first = Rollup(240_000, 10, {"accepted": 500, "completed": 100, "backlog": 400})
    found = activity([*before, first])
    assert (found.rate_in, found.rate_out) == (50.0, 10.0)
    assert activity(before).rate_in is None
    assert point(before[0]).accepted is None
    # It is all there is, so it is shown; once a minute is over, the one that is not would look like a fall.
    shown = [point(one) for one in (*before, first)]
    assert over(shown)[-1].accepted == 50.0
    later = [*shown, point(Rollup(300_000, 5, {"accepted": 1}))]
    assert over(later)[-1].start_ms == 240_000


def rows() -> list[dict[str, Any]]:
    one = {"scheduled": 0, "parked": 0, "oldest_ready_age": None, "rate_in": None, "rate_out": None}
    rest = {"wait": {"p95": None}, "run": {"p95": None}, "success": None, "paused": None, "running": 0}
    return [
        {**one, **rest, "type": name, "ready": ready, "dead": dead, "served": served}
        for name, ready, dead, served in (("b", 5, 0, True), ("A", 9, 1, False), ("c", 0, 3, False))
    ]


def test_types_are_sorted_and_chosen() -> None:
    def names(find: str = "", show: str = "", sort: str = "") -> list[str]:
        return [one["type"] for one in arranged(rows(), find, show, sort)]

    assert names(sort="-ready") == ["A", "b", "c"]
    assert names(sort="dead") == ["b", "A", "c"]
    assert names(find="a") == ["A"]
    assert names(show="unserved") == ["A"]
    assert names(show="dead", sort="-dead") == ["c", "A"]
    with pytest.raises(UsageError, match="Unknown order"):
        names(sort="size")
    with pytest.raises(UsageError, match="Unknown choice"):
        names(show="all of them")


async def test_a_type_that_is_new_since_the_last_round_counts_at_once(app: StreamQ) -> None:
    """Fifty thousand that were enqueued into a new type showed 0/s."""
    async with tending(app, DAEMON):
        await app.asend("first", {})
        await until(lambda: app.inspector.rollups("first")[-1].sampled)
        await app.aenqueue_many([app.bound("email", {"n": n}) for n in range(500)])
        await until(lambda: app.inspector.rollups("email")[-1].counts.get("accepted") == 500)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        told = (await browser.get("/api/overview")).json()
        email = next(one for one in told["types"] if one["type"] == "email")
        assert email["rate_in"] > 500 / 300
        chart = (await browser.get("/api/chart?type=email")).json()
        assert chart["backlog"][-1] == 500
        assert chart["accepted"][-1] > 0


def test_a_daemon_that_starts_late_does_not_book_the_past(app: StreamQ) -> None:
    app.send("email", {})
    run, now = app._client.transport.run, app.inspector.now_ms()
    run(rollup_calls.sample([type_keys("shop", 0, "email")], now))
    assert app.inspector.rollups("email")[-1].counts.get("accepted", 0) == 0
    assert app.inspector.rollups("email")[-1].counts["backlog"] == 1


async def test_the_overview_and_the_types_are_one_page(scene: StreamQ) -> None:
    async with client(dashboard(scene, auth=TRUSTED)) as browser:
        page = (await browser.get("/")).text
        wrong = page.index("Needs attention")
        assert wrong < page.index("Last hour")
        for part in (
            "No daemon is alive", "2 workers are silent", "No worker is alive", "export is paused by ada",
            "the archive is being moved",
        ):  # fmt: skip
            assert part in page, part
        assert re.search(r"legacy_import</a> <span class=\"state warning\">unserved", page)
        assert "Pause…" in page
        assert (await browser.get("/?sort=-dead&show=dead")).text.index(">charge<") > 0
        assert "legacy_import</a> <span" not in (await browser.get("/?show=dead")).text
        assert (await browser.get("/?sort=nothing")).status_code == 400

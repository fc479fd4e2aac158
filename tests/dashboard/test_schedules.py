"""The page of recurring tasks: what it shows, and what may be done from it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio

from streamq import Cron, Every, StreamQ
from streamq.dashboard import dashboard
from streamq.dashboard.auth import Principal
from streamq.keys import shard_keys
from tests.conftest import command
from tests.dashboard.shop import TRUSTED
from tests.dashboard.test_actions import do
from tests.dashboard.test_pages import client


@pytest_asyncio.fixture
async def browser(app: StreamQ) -> AsyncIterator[httpx.AsyncClient]:
    report = app.task(name="report")(lambda: None)
    app.schedules.put("nightly", Cron("30 2 * * *", tz="Europe/Madrid"), report.bind())
    app.schedules.put("often", Every("10m"), report.bind(), overlap="queue_one")
    async with client(dashboard(app, auth=TRUSTED)) as found:
        yield found


async def test_the_page_shows_the_next_five_runs_the_last_and_its_outcome(
    app: StreamQ, browser: httpx.AsyncClient
) -> None:
    task = app.schedules.run_now("nightly")
    page = (await browser.get("/schedules")).text
    for part in (
        "Recurring tasks", "nightly", "30 2 * * *", "Europe/Madrid", "02:30:00 CE", f">{task}</a>", "often",
        "every 10 min", "queue_one", "none yet", "state ready", "No daemon is alive",
    ):  # fmt: skip
        assert part in page, part
    assert page.count("02:30:00 CE") >= 5
    listed = (await browser.get("/api/schedules")).json()["schedules"]
    assert [one["name"] for one in listed] == ["nightly", "often"]
    assert (listed[0]["last_task"], listed[0]["last_state"], len(listed[0]["upcoming"])) == (task, "ready", 5)


async def test_an_empty_page_says_how_to_begin(app: StreamQ) -> None:
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        assert "No recurring tasks: declare one with" in (await browser.get("/schedules")).text


async def test_a_damaged_schedule_is_told_and_keeps_no_other_from_the_page(
    app: StreamQ, url: str, browser: httpx.AsyncClient
) -> None:
    command(url, "HSET", shard_keys("shop", 0).schedules, "nightly", "<script>alert(1)</script>")
    page = (await browser.get("/schedules")).text
    assert "makes no runs: the stored schedule is damaged" in page
    assert "every 10 min" in page
    assert "<script>alert" not in page


async def test_pause_resume_run_and_remove(app: StreamQ, browser: httpx.AsyncClient) -> None:
    assert "It makes no more runs" in (await browser.get("/confirm/pause-schedule?schedule=nightly")).text
    answer = await do(browser, "pause-schedule", schedule="nightly", reason="<b>loud</b>")
    assert answer.headers["location"] == "/schedules"
    page = (await browser.get("/schedules")).text
    assert "&lt;b&gt;loud&lt;/b&gt;" in page
    assert app.schedules.get("nightly").standing == "paused"
    await do(browser, "resume-schedule", schedule="nightly")
    assert app.schedules.get("nightly").standing == "active"
    await do(browser, "run-schedule", schedule="nightly")
    assert app.schedules.get("nightly").runs == 1
    said = await browser.post("/api/do/remove-schedule", json={"schedule": "nightly"})
    assert said.json() == {"message": "Removed."}
    assert [one.name for one in app.schedules.all()] == ["often"]
    told = [(one.verb, one.what) for one in app.inspector.actions()]
    assert told == [
        ("remove schedule", "nightly"), ("run schedule now", "nightly"), ("resume schedule", "nightly"),
        ("pause schedule", "nightly"),
    ]  # fmt: skip
    missing = await browser.post("/api/do/pause-schedule", json={"schedule": "ghost"})
    assert (missing.status_code, "has no schedule" in missing.text) == (400, True)


async def test_a_viewer_sees_no_buttons(app: StreamQ, browser: httpx.AsyncClient) -> None:
    async with client(dashboard(app, auth=lambda _: Principal("eve", "viewer"))) as eve:
        page = (await eve.get("/schedules")).text
    assert "nightly" in page
    assert "-schedule" not in page

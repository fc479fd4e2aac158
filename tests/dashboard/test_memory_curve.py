"""The server's memory has a curve, bounded in time and number."""

from __future__ import annotations

from streamq import StreamQ
from streamq.dashboard import dashboard
from streamq.dashboard.memory_curve import KEPT, STEP, MemoryCurve
from tests.dashboard.shop import TRUSTED
from tests.dashboard.test_pages import client


def test_points_are_some_seconds_apart_and_end_after_an_hour() -> None:
    clock = [0.0]
    memory = MemoryCurve(lambda: clock[0])
    assert memory.curve() == ([], 0.0)
    for used in range(1, 20_000):
        memory.note(used)
        clock[0] += 1.0
    found = memory.curve()
    assert len(found.values) <= KEPT / STEP + 1
    assert found.values == sorted(found.values)
    assert KEPT - 2 * STEP <= found.seconds <= KEPT
    memory.note(0)  # a user who may not run INFO
    assert memory.curve().values[-1] > 0


async def test_the_server_page_draws_it(app: StreamQ) -> None:
    site = dashboard(app, auth=TRUSTED)
    async with client(site) as browser:
        first = (await browser.get("/server")).text
        assert "Memory: " not in first
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamq.dashboard.memory_curve.STEP", 0.0)
        async with client(site) as browser:
            await browser.get("/server")
            page = (await browser.get("/server")).text
    assert "Memory: " in page
    assert "that this dashboard has seen" in page
    assert 'class="curve"' in page


async def test_a_browser_without_a_login_is_led_to_one(app: StreamQ) -> None:
    from streamq.dashboard import Anyone, LoginLink

    link = LoginLink()
    async with client(dashboard(app, auth=link)) as browser:
        page = await browser.get("/dead", headers={"accept": "text/html"})
        assert (page.status_code, "<h1>Log in</h1>" in page.text) == (401, True)
        assert page.headers["www-authenticate"].startswith("LoginLink")
        assert (await browser.get("/api/overview")).headers["content-type"].startswith("text/plain")
        assert (await browser.get(f"/dead?token={link.link_token}")).status_code == 303
    app.send("email", {})
    async with client(dashboard(app, auth=Anyone("viewer", "ada"))) as browser:
        refused = await browser.get("/confirm/purge?type=email")
        assert (refused.status_code, "purge needs admin" in refused.text) == (403, True)

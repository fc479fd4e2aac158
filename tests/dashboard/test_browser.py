"""The dashboard in a real browser: pages and actions, without JavaScript, keys, a phone, contrast."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from streamq import StreamQ
from streamq.dashboard import dashboard
from tests.dashboard.browser import CHROMIUM, CONTRAST, chromium, opened, served
from tests.dashboard.shop import TRUSTED, Shop, open_shop
from tests.running import clean, until

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH"),
    pytest.mark.xdist_group("browser"),
]

PAGES = (
    "/",
    "/?sort=-ready&find=e",
    "/types/charge",
    "/tasks?state=dead",
    "/dead",
    "/workers",
    "/schedule",
    "/server",
    "/actions",
)


@pytest_asyncio.fixture
async def shop(app: StreamQ) -> AsyncIterator[Shop]:
    async with open_shop(app) as (shop, _):
        yield shop


@pytest_asyncio.fixture
async def address(app: StreamQ, shop: Shop) -> AsyncIterator[str]:
    async with served(dashboard(app, auth=TRUSTED, hosts=["127.0.0.1"])) as address:
        yield address


@pytest_asyncio.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with chromium(tmp_path) as browser:
        yield browser


def state(app: StreamQ, task_id: str) -> str:
    return app.inspector.task(task_id).state


async def said(page: Page, text: str) -> None:
    await expect(page.get_by_role("status")).to_contain_text(text)


@pytest_asyncio.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page in which nothing may go wrong."""
    watched = await opened(await browser.new_context(viewport={"width": 1280, "height": 900}))
    yield watched.page
    assert watched.faults == []


async def test_every_page_is_live_and_has_its_charts(shop: Shop, address: str, page: Page) -> None:
    for path in PAGES:
        await page.goto(address + path)
        await expect(page.locator("header nav a[aria-current=page]")).to_have_count(1)

    await page.goto(address)
    await expect(page.locator("[data-plot] canvas")).to_have_count(3)
    await expect(page.locator("#pulse")).to_be_visible()
    ready = page.locator("tr", has_text="image").locator("td").first
    await expect(ready).to_have_text("1")
    await shop.image.aenqueue("dog.png")
    await expect(ready).to_have_text("2")  # nobody has loaded the page again
    await page.get_by_role("button", name="Day").click()
    await expect(page.get_by_role("button", name="Day")).to_have_attribute("aria-pressed", "true")


async def test_a_type_is_paused_and_resumed(shop: Shop, address: str, page: Page) -> None:
    await page.goto(address)
    await page.get_by_role("link", name="image").first.click()
    await page.get_by_role("link", name="Pause…").click()
    await page.get_by_label("Reason").fill("no cats today")
    await page.get_by_role("button", name="Pause").click()
    await said(page, "Paused.")
    await expect(page.get_by_text("no cats today")).to_be_visible()
    await page.get_by_role("button", name="Resume").click()
    await said(page, "Resumed.")


async def test_tasks_are_run_now_and_cancelled(app: StreamQ, shop: Shop, address: str, page: Page) -> None:
    ids = shop.ids
    await page.goto(f"{address}/tasks/{ids['scheduled']}")
    await expect(page.locator("#payload")).to_contain_text("<script>alert(1)</script>")
    await page.get_by_role("button", name="Run now").click()
    await said(page, "ready to run")
    await page.goto(f"{address}/tasks/{ids['ready']}")
    await page.get_by_role("link", name="Cancel…").click()
    await page.get_by_role("button", name="Cancel").click()
    await said(page, "Cancelled.")
    await until(lambda: state(app, ids["scheduled"]) == "completed")


async def test_the_dead_letter_desk(app: StreamQ, shop: Shop, address: str, page: Page) -> None:
    ids = shop.ids
    await page.goto(f"{address}/dead")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_role("link", name="ValueError").click()
    await expect(page.locator("tbody tr")).to_have_count(3)
    await page.get_by_role("link", name=ids["dead"]).click()
    await page.get_by_role("button", name="Requeue", exact=True).click()
    await said(page, "Requeued.")
    await until(lambda: state(app, ids["dead"]) == "dead")
    await page.goto(f"{address}/tasks/{ids['dead']}")
    await page.get_by_label("Arguments, a JSON object").fill('{"order": 5}')
    await page.get_by_role("button", name="Requeue as a new task").click()
    await said(page, "as a new task")
    await expect(page.locator("h1 .state")).to_have_text("completed")
    await page.goto(f"{address}/dead")
    await page.get_by_role("link", name="Purge…").click()
    await expect(page.get_by_text("2 dead letters will be deleted for good")).to_be_visible()
    await page.get_by_role("button", name="Purge").click()
    await said(page, "2 dead letters purged.")
    clean(app)


async def test_letters_are_selected_and_groups_requeued(
    app: StreamQ, shop: Shop, address: str, page: Page
) -> None:
    await page.goto(f"{address}/tasks?state=dead&type=charge")
    boxes = page.locator("input[form=chosen]")
    await page.get_by_label("Select all on this page").check()
    for n in range(3):
        await expect(boxes.nth(n)).to_be_checked()
    await page.keyboard.press("j")
    await page.keyboard.press("x")  # the first is not meant
    await expect(boxes.first).not_to_be_checked()
    await page.get_by_role("button", name="Purge selected…").click()
    await expect(page.get_by_text("2 dead letters will be deleted for good")).to_be_visible()
    await page.get_by_role("button", name="Purge").click()
    await said(page, "2 dead letters purged.")
    await expect(boxes).to_have_count(1)
    await page.get_by_role("link", name="Requeue all that match…").click()
    await expect(page.get_by_text("1 dead letters will run again")).to_be_visible()
    await page.get_by_role("button", name="Requeue").click()
    await said(page, "1 dead letters requeued.")
    await until(lambda: app.inspector.type_stats("charge").dead == 1)
    await page.goto(f"{address}/dead")
    await page.get_by_label("Error or reason contains").fill("value")
    await page.get_by_role("button", name="Show").click()
    await page.get_by_role("link", name="Requeue…").click()
    await page.get_by_role("button", name="Requeue").click()
    await said(page, "1 dead letters requeued.")
    await until(lambda: app.inspector.type_stats("charge").dead == 1)
    row = app.inspector.tasks("dead", "charge").rows[0]
    await page.goto(f"{address}/tasks/{row.id}")
    await page.get_by_role("link", name="Purge…").click()
    await page.get_by_role("button", name="Purge").click()
    await said(page, "Purged.")
    clean(app)


async def test_a_worker_is_drained_and_the_log_tells(shop: Shop, address: str, page: Page) -> None:
    await page.goto(f"{address}/workers")
    await page.get_by_role("link", name="Drain…").click()
    await page.get_by_role("button", name="Drain").click()
    await said(page, "asked to drain")
    await page.goto(f"{address}/actions")
    await expect(page.locator("tbody tr")).to_have_count(1)
    shop.hold.set()


async def test_the_head_of_a_task_follows_it(shop: Shop, address: str, page: Page) -> None:
    """It kept "running" and "Cancel…" beside the result."""
    await page.goto(f"{address}/tasks/{shop.ids['running']}")
    await expect(page.locator("h1 .state")).to_have_text("running")
    await expect(page.get_by_role("link", name="Cancel…")).to_be_visible()
    shop.hold.set()
    await expect(page.locator("h1 .state")).to_have_text("completed")
    await expect(page.get_by_role("link", name="Cancel…")).to_have_count(0)
    await expect(page.locator("#result")).to_have_text("12")


async def test_nothing_selected_is_told_in_place(shop: Shop, address: str, page: Page) -> None:
    await page.goto(f"{address}/tasks?state=dead")
    await page.get_by_role("button", name="Purge selected…").click()
    await expect(page.get_by_text("Nothing is selected")).to_be_visible()
    assert page.url == f"{address}/tasks?state=dead"
    await page.locator("input[form=chosen]").first.check()
    await expect(page.get_by_text("Nothing is selected")).to_be_hidden()


async def test_a_wrong_edit_and_copies(shop: Shop, address: str, page: Page) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dead = shop.ids["dead"]
    await page.goto(f"{address}/tasks/{dead}")
    await page.locator("button[data-copy='#id']").click()
    await said(page, "Copied the id.")
    assert await page.evaluate("navigator.clipboard.readText()") == dead
    await page.locator("dd time").first.click()
    await said(page, "Copied 20")
    await expect(page.locator("dd time").first).to_contain_text("ago)")


async def test_a_long_purge_goes_on_by_itself(
    shop: Shop, address: str, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamq.control.dead_letter_actions.BATCH", 1)
    monkeypatch.setattr("streamq.dashboard.actions.SLICE", 0.0)
    await page.goto(f"{address}/confirm/purge?type=charge")
    await page.get_by_role("button", name="Purge").click()
    await said(page, "3 dead letters purged.")


async def test_the_keyboard_is_enough(shop: Shop, address: str, page: Page) -> None:
    await page.goto(address)
    await page.keyboard.press("g")
    await page.keyboard.press("d")
    await page.wait_for_url("**/dead")
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/tasks?state=dead**")
    await page.keyboard.press("?")
    await expect(page.get_by_role("heading", name="Keyboard")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("/")
    await page.keyboard.type(shop.ids["completed"])
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_contain_text(shop.ids["completed"])
    await page.keyboard.press("m")
    assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
    await page.reload()
    assert await page.evaluate("document.documentElement.dataset.theme") == "dark"


async def test_reading_and_single_actions_need_no_javascript(
    app: StreamQ, shop: Shop, address: str, browser: Browser
) -> None:
    watched = await opened(await browser.new_context(java_script_enabled=False))
    page = watched.page
    for path in PAGES:
        await page.goto(address + path)
        assert await page.locator("h1").count() == 1
    await page.goto(f"{address}/tasks/{shop.ids['dead']}")
    await page.get_by_role("button", name="Requeue", exact=True).click()
    await said(page, "Requeued.")
    await until(lambda: state(app, shop.ids["dead"]) == "dead")
    await page.goto(f"{address}/dead?type=charge")
    await page.get_by_role("link", name="Purge all of charge…").click()
    await page.get_by_role("button", name="Purge").click()
    await said(page, "3 dead letters purged.")


async def _contexts(browser: Browser) -> list[BrowserContext]:
    phone = {"width": 390, "height": 844}
    return [
        await browser.new_context(color_scheme="light", viewport={"width": 1280, "height": 800}),
        await browser.new_context(color_scheme="dark", viewport=phone, has_touch=True),  # type: ignore[arg-type]
    ]


@pytest.mark.long  # test_pictures looks at all pages
async def test_text_is_readable_in_light_and_dark_and_fits_a_phone(
    shop: Shop, address: str, browser: Browser
) -> None:
    more = [f"/tasks/{shop.ids['dead']}", "/confirm/purge?type=charge", f"/tasks/{shop.ids['scheduled']}"]
    for context in await _contexts(browser):
        watched = await opened(context)
        for path in (*PAGES, *more):
            await watched.page.goto(address + path)
            assert await watched.page.evaluate(CONTRAST) == [], path
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert await watched.page.evaluate(wide) <= 0, path
        assert watched.faults == []

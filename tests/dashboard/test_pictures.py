"""Every page of a bad day in both schemes and widths: nothing overflows, axe-core has no objection, and no
stored unit is shown untranslated."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from streamq import StreamQ
from streamq.dashboard import dashboard
from tests.dashboard.browser import CHROMIUM, CONTRAST, Watched, chromium, opened, served
from tests.dashboard.scene import LONG
from tests.dashboard.shop import TRUSTED

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH"),
    pytest.mark.xdist_group("browser"),
]
_AXE = find_spec("axe_playwright_python")
AXE = next(iter(_AXE.submodule_search_locations or ()), None) if _AXE else None
STATES = ("ready", "running", "scheduled", "parked", "dead", "completed", "cancelled", "expired")
WIDE, PHONE = (1280, 800), (390, 844)
UNITS = re.compile(r"\b[a-z]+[ _](ms|seconds)\b(?! )|\bNaN\b|\bNone\b|\bundefined\b")
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def pages(app: StreamQ) -> list[str]:
    def first(state: Any, name: str) -> str:
        return f"/tasks/{app.inspector.tasks(state, name).rows[0].id}"

    def flow(state: Any) -> str:
        return f"/flows/{app.flows.page(state).flows[0].id}"

    return [
        "/", "/?show=dead&sort=-dead", "/types/charge", "/types/thumbnail", "/types/thumbnail/lanes",
        f"/types/{LONG}", "/types/export", "/types/charge/locks", *(f"/tasks?state={one}" for one in STATES),
        "/tasks?state=dead&nothing=1", first("dead", "charge"), first("completed", "charge"),
        first("scheduled", "invoice"), first("parked", "thumbnail"), first("running", "report"), "/dead",
        "/dead?type=charge", "/flows", "/flows?state=cancelled", flow("failed"), flow("running"),
        flow("failed") + "?map=mails", "/schedule", "/schedules", "/workers", "/server", "/actions",
        "/confirm/pause?type=charge", "/confirm/purge?type=charge", "/confirm/forget?type=charge",
        "/confirm/cancel-flow?flow=x:0:1764547200000-402938475610",
        "/tasks/" + quote("nothing:0:n1-0"),
    ]  # fmt: skip


@pytest_asyncio.fixture
async def address(scene: StreamQ) -> AsyncIterator[str]:
    async with served(dashboard(scene, auth=TRUSTED, hosts=["127.0.0.1"])) as address:
        yield address


@pytest_asyncio.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with chromium(tmp_path) as browser:
        yield browser


OVERFLOW = """() => {
  const root = document.documentElement, wide = [];
  if (root.scrollWidth > root.clientWidth) wide.push(`page ${root.scrollWidth}`);
  for (const one of document.querySelectorAll(".scroll, .cards li, .attention, .graph"))
    if (one.scrollWidth > one.clientWidth + 1) wide.push(`${one.className} ${one.innerText.slice(0, 40)}`);
  return wide;
}"""
SHOW = """async (path) => {
  const found = new DOMParser().parseFromString(await (await fetch(path)).text(), "text/html");
  document.title = found.title;
  document.body.replaceWith(document.adoptNode(found.body));
  document.dispatchEvent(new CustomEvent("htmx:after:swap"));
  for (const id of ["theme", "keys", "pulse"]) document.getElementById(id).hidden = false;
}"""
"""Put a page in the place of the one that is loaded, with what the page's script does to it: all have one
head, and a load costs ten times as much."""
CHECK = f"""() => {{
  const root = document.documentElement, pale = ({CONTRAST});
  const found = {{wide: ({OVERFLOW})(), dark: pale()}};
  root.dataset.theme = "light";
  found.light = pale();
  delete root.dataset.theme;
  return found;
}}"""
TRIM = """() => document.querySelectorAll("tbody tr:nth-child(n+6), article:nth-of-type(n+4)")
  .forEach((one) => one.remove())"""
"""The rows of a table are alike, and each element is looked at."""
RUN = """async (rules) => (await axe.run(document, rules)).violations
  .map((one) => [one.id, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160))])"""
BY_WIDTH = [
    "target-size", "scrollable-region-focusable", "label", "select-name", "link-name", "button-name",
    "aria-hidden-focus", "heading-order",
]  # fmt: skip
"""The rules whose answer depends on what a narrow screen shows."""


@asynccontextmanager
async def loaded(browser: Browser, address: str) -> AsyncGenerator[Watched]:
    """A page in the dark, with axe, into which others are put."""
    view: Any = {"width": WIDE[0], "height": WIDE[1]}
    context = await browser.new_context(color_scheme="dark", viewport=view, bypass_csp=True)
    watched = await opened(context)
    await watched.page.goto(address)
    await watched.page.evaluate("() => { window.EventSource = class { close() {} }; }")
    if AXE is not None:
        await watched.page.add_script_tag(path=Path(AXE) / "axe.min.js")
    else:
        print("axe-core is not checked: pip install axe-playwright-python")
    yield watched


@pytest.mark.timeout(300)
async def test_every_page_fits_and_is_readable_in_both_widths_and_schemes(
    scene: StreamQ, address: str, browser: Browser
) -> None:
    found = dict[str, object]()
    async with loaded(browser, address) as watched:
        page, sizes = watched.page, [WIDE, PHONE]
        for path in pages(scene):
            await page.evaluate(SHOW, address + path)
            units = UNITS.findall(await page.locator("main").inner_text())
            told: dict[str, Any] = {"units": units, "whole": await page.evaluate(OVERFLOW)}
            await page.evaluate(TRIM)
            told[str(sizes[0])] = await _checked(page, sizes[0])
            sizes.reverse()
            await page.set_viewport_size({"width": sizes[0][0], "height": sizes[0][1]})
            told[str(sizes[0])] = await _checked(page, sizes[0])  # the next page begins with this one
            if wrong := _wrong(told):
                found[path] = wrong
    assert found == {}
    assert [one for one in watched.faults if "404" not in one] == []


async def _checked(page: Page, size: tuple[int, int]) -> dict[str, object]:
    told: dict[str, object] = await page.evaluate(CHECK)
    if AXE is not None:  # its contrast is the slowest of its rules, and is in CHECK
        whole = {**RULES, "rules": {"color-contrast": {"enabled": False}}}
        told["axe"] = await page.evaluate(RUN, whole if size == WIDE else {"runOnly": BY_WIDTH})
    return told


def _wrong(told: dict[str, Any]) -> dict[str, object]:
    flat = {
        f"{name} {part}": value
        for name, parts in told.items()
        for part, value in (parts.items() if isinstance(parts, dict) else [("", parts)])
    }
    return {name.strip(): value for name, value in flat.items() if value}


@pytest.mark.long
@pytest.mark.timeout(900)  # axe looks at each element of each page as it is loaded
@pytest.mark.parametrize(
    ("width", "height", "theme"), [(*WIDE, "light"), (*WIDE, "dark"), (*PHONE, "light"), (*PHONE, "dark")]
)
async def test_every_page_as_it_is_loaded(
    scene: StreamQ, address: str, browser: Browser, width: int, height: int, theme: Any
) -> None:
    view: Any = {"width": width, "height": height}
    context = await browser.new_context(color_scheme=theme, viewport=view, bypass_csp=True)
    watched = await opened(context)
    page, found = watched.page, dict[str, object]()
    for path in pages(scene):
        await page.goto(address + path)
        wide, pale = await page.evaluate(OVERFLOW), await page.evaluate(CONTRAST)
        broken: object = []
        if AXE is not None:
            await page.add_script_tag(path=Path(AXE) / "axe.min.js")
            broken = await page.evaluate(RUN, RULES)
        if wide or pale or broken:
            found[path] = (wide, pale, broken)
    assert found == {}
    assert [one for one in watched.faults if "404" not in one] == []

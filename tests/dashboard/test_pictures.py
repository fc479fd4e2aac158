"""Every page of a bad day in both schemes and widths: nothing overflows, axe-core has no objection, and no
stored unit is shown untranslated."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from streamq import StreamQ
from streamq.dashboard import dashboard
from tests.dashboard.browser import CHROMIUM, CONTRAST, chromium, opened, served
from tests.dashboard.scene import LONG
from tests.dashboard.shop import TRUSTED

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH"),
    pytest.mark.xdist_group("browser"),
]
_AXE = find_spec("axe_playwright_python")
AXE = next(iter(_AXE.submodule_search_locations or ()), None) if _AXE else None
STATES = ("ready", "running", "scheduled", "parked", "dead", "completed", "cancelled", "expired")
VIEWS = [  # in the long ones axe looks at each element
    (1280, 800, "dark"), (390, 844, "light"),
    pytest.param(1280, 800, "light", marks=pytest.mark.long),
    pytest.param(390, 844, "dark", marks=pytest.mark.long),
]  # fmt: skip
UNITS = re.compile(r"\b[a-z]+[ _](ms|seconds)\b(?! )|\bNaN\b|\bNone\b|\bundefined\b")
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def pages(app: StreamQ) -> list[str]:
    def first(state: Any, name: str) -> str:
        return f"/tasks/{app.inspector.tasks(state, name).rows[0].id}"

    return [
        "/", "/?show=dead&sort=-dead", "/types/charge", "/types/thumbnail", "/types/thumbnail/lanes",
        f"/types/{LONG}", "/types/export", "/types/charge/locks", *(f"/tasks?state={one}" for one in STATES),
        "/tasks?state=dead&nothing=1", first("dead", "charge"), first("completed", "charge"),
        first("scheduled", "invoice"), first("parked", "thumbnail"), first("running", "report"), "/dead",
        "/dead?type=charge", "/schedule", "/schedules", "/workers", "/server", "/actions",
        "/confirm/pause?type=charge", "/confirm/purge?type=charge", "/confirm/forget?type=charge",
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
  for (const one of document.querySelectorAll(".scroll, .cards li, .attention"))
    if (one.scrollWidth > one.clientWidth + 1) wide.push(`${one.className} ${one.innerText.slice(0, 40)}`);
  return wide;
}"""


@pytest.mark.timeout(900)  # every page in a browser, of which axe looks at each element
@pytest.mark.parametrize(("width", "height", "theme"), VIEWS)
async def test_every_page_fits_and_is_readable(
    scene: StreamQ, address: str, browser: Browser, width: int, height: int, theme: Any
) -> None:
    if AXE is None:
        print("axe-core is not checked: pip install axe-playwright-python")
    view: Any = {"width": width, "height": height}
    context = await browser.new_context(color_scheme=theme, viewport=view, bypass_csp=True)
    watched = await opened(context)
    page, found = watched.page, dict[str, object]()
    for path in pages(scene):
        await page.goto(address + path)
        wide, pale = await page.evaluate(OVERFLOW), await page.evaluate(CONTRAST)
        units = UNITS.findall(await page.locator("main").inner_text())
        if wide or pale or units:
            found[path] = (wide, pale, units)
        if AXE is not None and (width, theme) in ((1280, "light"), (390, "dark")):
            await page.add_script_tag(path=Path(AXE) / "axe.min.js")
            broken = await page.evaluate(
                "async (rules) => (await axe.run(document, rules)).violations"
                ".map((one) => [one.id, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160))])",
                RULES,
            )
            if broken:
                found[f"{path} (axe)"] = broken
    assert found == {}
    unknown = [one for one in watched.faults if "404" not in one]
    assert unknown == []

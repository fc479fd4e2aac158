"""A real browser over a real server: Chromium from the system's packages, where it is installed."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

expect.set_options(timeout=20_000)  # milliseconds; pages answer within a few where the cores are free
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@asynccontextmanager
async def served(site: Any) -> AsyncGenerator[str]:
    """The site on a free port of loopback; answers its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(site, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listening]))  # without its signal handlers
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listening.close()


@asynccontextmanager
async def chromium(profile: Path) -> AsyncGenerator[Browser]:
    """A headless browser with a profile of its own below `profile`."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(FLAGS), env={"HOME": str(profile), "PATH": "/usr/bin:/bin"}
        )
        try:
            yield browser
        finally:
            await browser.close()


class Watched:
    """A page that remembers what went wrong: errors of scripts, blocked by the policy, dialogs."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("console", self._heard)
        page.on("dialog", self._asked)

    def _heard(self, message: Any) -> None:
        if message.type == "error" and "ERR_INCOMPLETE_CHUNKED" not in message.text:
            self.faults.append(f"{message.text} {message.location}")

    async def _asked(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        await dialog.dismiss()


async def opened(context: BrowserContext) -> Watched:
    context.set_default_timeout(10_000)
    return Watched(await context.new_page())


CONTRAST = """() => {
  const parse = (text) => [...text.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  const bad = [];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const unseen = ".hidden, .skip, dialog:not([open])";
    if (!own || !one.checkVisibility() || one.closest(unseen)) continue;
    const ink = light(parse(getComputedStyle(one).color));
    const [a, b] = [ink, light(behind(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) bad.push(`${one.tagName}.${one.className} ${ratio} ${one.textContent.slice(0, 40)}`);
  }
  for (const one of document.querySelectorAll("[placeholder]")) {
    const style = getComputedStyle(one, "::placeholder");
    const [a, b] = [light(parse(style.color)), light(behind(one))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5 || style.opacity < 1) bad.push(`placeholder of ${one.id || one.name}`);
  }
  return bad;
}"""
"""Text whose contrast with what is behind it is below what WCAG 2 asks for at level AA."""

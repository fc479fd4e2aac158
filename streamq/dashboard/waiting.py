"""What the dashboard shows until there is a queue: a page that says what it waits for, and fills by itself.

Owns the wait. Lets nobody in whom the site would not let in: the page is behind the same guard.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from streamq.dashboard.context import Auth, Queue
from streamq.dashboard.probes import inner_path
from streamq.dashboard.render import STATIC, Renderer
from streamq.dashboard.security import Security
from streamq.dashboard.site import unguarded
from streamq.errors import RedisUnavailable, StreamQError

LOOK_AGAIN: Final = 1.0
"""Seconds between two looks for a queue, as long as somebody asks."""
REFRESH: Final = {"refresh": "2", "cache-control": "no-store"}


def build(
    find: Callable[[], Queue],
    why: StreamQError,
    *,
    name: str,
    auth: Sequence[Auth],
    read_only: bool,
    redact: tuple[str, ...],
    hide_payloads: bool,
    hosts: Sequence[str] | None,
    secure_cookies: bool,
    proxies: Sequence[str],
) -> Security:
    """The site of the queue that `find` returns once it does, and a page about the wait before that. Both are
    behind one guard: who has logged in to the one is logged in to the other."""

    def make() -> object:
        return unguarded(find(), read_only=read_only, redact=redact, hide_payloads=hide_payloads)

    waiting = Waiting(make, why, Renderer(name, read_only=read_only))
    return Security(
        waiting,
        entries=auth,
        read_only=read_only,
        hosts=hosts,
        secure_cookies=secure_cookies,
        proxies=proxies,
    )


class Waiting:
    """An ASGI application: what `make` returns once it does, a page about the wait before that.

    make: raises StreamQErrors for what it waits for. It is called in a thread, one call at a time.
    """

    def __init__(self, make: Callable[[], object], why: StreamQError, render: Renderer) -> None:
        self._make, self._why, self._render = make, why, render
        self._site: object = None
        self._static = StaticFiles(directory=STATIC)
        self._looking = asyncio.Lock()
        self._looked = float("-inf")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = inner_path(scope)
        if self._site is None and path.startswith("/static/"):
            await self._static(
                {**scope, "root_path": "", "path": path.removeprefix("/static")}, receive, send
            )
            return
        site = await self._found()
        answer = self._answer(Request(scope, receive)) if site is None else site
        await answer(scope, receive, send)

    async def _found(self) -> Any:
        if self._site is None:
            async with self._looking:
                await self._look()
        return self._site

    async def _look(self) -> None:
        if self._site is not None or time.monotonic() - self._looked < LOOK_AGAIN:
            return
        try:
            self._site = await asyncio.to_thread(self._make)
        except StreamQError as error:
            self._why = error
        self._looked = time.monotonic()

    def _answer(self, request: Request) -> Response:
        away = isinstance(self._why, RedisUnavailable)
        title = "The server cannot be reached" if away else "There is no queue yet"
        if "/api/" in request.scope["path"]:
            told = {"error": title, "detail": str(self._why)}
            return JSONResponse(told, 503, {"retry-after": "2"})
        text = f"{self._why}. This page fills by itself as soon as there is something to show."
        status = 503 if away else 200
        answer = self._render.page(request, "problem.html", status=status, title=title, text=text)
        answer.headers.update(REFRESH)
        return answer

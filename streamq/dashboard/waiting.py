"""Show a page until there is a queue: it says what is missing, and reloads itself.

Owns the wait. The page is behind the same `Security` as the site.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from streamq.dashboard.auth import Auth
from streamq.dashboard.context import Queue
from streamq.dashboard.probes import inner_path
from streamq.dashboard.render import STATIC, Renderer
from streamq.dashboard.security import Security
from streamq.dashboard.site import without_security
from streamq.errors import RedisUnavailable, StreamQError

RETRY: Final = 1.0
"""Seconds between two attempts to find the queue, while requests arrive."""
REFRESH: Final = {"refresh": "2", "cache-control": "no-store"}


def build(
    find: Callable[[], Queue],
    why: StreamQError,
    *,
    name: str,
    auth: Sequence[Auth],
    read_only: bool,
    hosts: Sequence[str] | None,
    secure_cookies: bool,
    proxies: Sequence[str],
    **shown: Any,
) -> Security:
    """Return the site of the queue that `find` returns, with a waiting page until it does. shown: what of
    tasks, as `without_security` takes it. Both are behind
    one `Security`: a login on one is valid on the other."""

    def make() -> ASGIApp:
        return without_security(find(), read_only=read_only, **shown)

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
    """An ASGI application: the one that `make` returns, and a waiting page until it does.

    make: raises StreamQErrors while something is missing. It is called in a thread, one call at a time.
    """

    def __init__(self, make: Callable[[], ASGIApp], why: StreamQError, render: Renderer) -> None:
        self._make, self._why, self._render = make, why, render
        self._site: ASGIApp | None = None
        self._static = StaticFiles(directory=STATIC)
        self._making = asyncio.Lock()
        self._tried = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = inner_path(scope)
        if self._site is None and path.startswith("/static/"):
            await self._static(
                {**scope, "root_path": "", "path": path.removeprefix("/static")}, receive, send
            )
            return
        site = await self._ready_site()
        application: ASGIApp = self._page(Request(scope, receive)) if site is None else site
        await application(scope, receive, send)

    async def _ready_site(self) -> ASGIApp | None:
        if self._site is None:
            async with self._making:
                await self._try()
        return self._site

    async def _try(self) -> None:
        if self._site is not None or time.monotonic() - self._tried < RETRY:
            return
        try:
            self._site = await asyncio.to_thread(self._make)
        except StreamQError as error:
            self._why = error
        self._tried = time.monotonic()

    def _page(self, request: Request) -> Response:
        unreachable = isinstance(self._why, RedisUnavailable)
        title = "Redis is unreachable" if unreachable else "There is no queue yet"
        if "/api/" in request.scope["path"]:
            body = {"error": title, "detail": str(self._why)}
            return JSONResponse(body, 503, {"retry-after": "2"})
        text = f"{self._why}. This page reloads itself until the queue is available."
        status = 503 if unreachable else 200
        page = self._render.page(request, "problem.html", status=status, title=title, text=text)
        page.headers.update(REFRESH)
        return page

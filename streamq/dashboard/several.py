"""The dashboards of several apps of one server, below `/app/NAME`, with a switcher between them.

Owns the choice of the app by the path. All sites are behind one `Security`: a login is valid on each.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from streamq.dashboard.auth import Auth
from streamq.dashboard.context import Queue
from streamq.dashboard.probes import inner_path
from streamq.dashboard.render import Switcher
from streamq.dashboard.security import Security
from streamq.dashboard.site import without_security
from streamq.errors import StreamQError

_PATH: Final = re.compile(r"/app/([A-Za-z0-9_.-]{1,100})(/.*)?")
FRESH: Final = 5.0
MOST: Final = 200
"""Apps whose sites are kept at once."""


def build(
    names: Callable[[], Sequence[str]],
    find: Callable[[str], Queue],
    *,
    auth: Sequence[Auth],
    read_only: bool,
    hosts: Sequence[str] | None,
    secure_cookies: bool,
    proxies: Sequence[str],
    **shown: Any,
) -> Security:
    """Return the sites of these apps behind one `Security`. names: the server's apps now; find: one of them;
    shown: what of tasks, as `without_security` takes it.
    Both may raise StreamQErrors."""

    names = Remembered(names)

    def make(name: str) -> ASGIApp:
        return without_security(
            find(name), read_only=read_only, switcher=Switcher(name, names), **shown
        )  # fmt: skip

    return Security(
        Several(names, make),
        entries=auth,
        read_only=read_only,
        hosts=hosts,
        secure_cookies=secure_cookies,
        proxies=proxies,
    )


class Remembered:
    """The names of the apps, read again when they are a few seconds old: each page shows them."""

    def __init__(self, read: Callable[[], Sequence[str]]) -> None:
        self._read = read
        self._known: tuple[Sequence[str], float] = (), float("-inf")

    def __call__(self) -> Sequence[str]:
        """Return the names. Raise StreamQErrors."""
        if time.monotonic() - self._known[1] > FRESH:
            self._known = self._read(), time.monotonic()
        return self._known[0]


class Several:
    """An ASGI application: the site of the app that the path names; the first one for any other path."""

    def __init__(self, names: Callable[[], Sequence[str]], make: Callable[[str], ASGIApp]) -> None:
        self._names, self._make = names, make
        self._lock = threading.Lock()
        self._sites: dict[str, ASGIApp] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._serve(scope, receive, send)
        except StreamQError as error:  # of the list of apps: a site answers its own errors
            await PlainTextResponse(f"503: {error}\n", 503)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        root, named = scope.get("root_path", ""), _PATH.fullmatch(inner_path(scope))
        if named is None:
            answer = await run_in_threadpool(self._first, Request(scope))
            await answer(scope, receive, send)
            return
        site = await run_in_threadpool(self._site, named[1])
        if site is None:
            await PlainTextResponse(f"404: there is no app {named[1]}\n", 404)(scope, receive, send)
            return
        below = f"{root}/app/{named[1]}"
        path = scope["path"] if named[2] else f"{below}/"
        await site({**scope, "root_path": below, "path": path}, receive, send)

    def _first(self, request: Request) -> Response:
        """Lead to the same page of the first app."""
        names, path = self._names(), inner_path(request.scope)
        if not names:
            return PlainTextResponse("404: the server has no apps yet\n", 404)
        root = request.scope.get("root_path", "")
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{root}/app/{quote(names[0])}{quote(path)}{query}", 303)

    def _site(self, name: str) -> ASGIApp | None:
        with self._lock:
            if name not in self._sites:
                if name not in self._names():
                    return None
                if len(self._sites) >= MOST:
                    self._sites.clear()
                self._sites[name] = self._make(name)
            return self._sites[name]

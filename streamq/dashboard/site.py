"""The site as a whole: which paths there are, what is common to them, and what becomes of errors.

Owns the wiring. Pages are in `pages`, what writes in `actions`, JSON in `api`.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from streamq.control.partial_outage import PartialView
from streamq.control.unreadable import Damaged
from streamq.dashboard.actions import Actions
from streamq.dashboard.api import Api
from streamq.dashboard.change_stream import ChangeStream
from streamq.dashboard.context import Auth, Queue, Site
from streamq.dashboard.findings import Checkup
from streamq.dashboard.history import History
from streamq.dashboard.metrics import Metrics
from streamq.dashboard.pages import Pages
from streamq.dashboard.redaction import Redaction
from streamq.dashboard.render import STATIC, Renderer
from streamq.dashboard.security import Security
from streamq.doctor.examination import Diagnosis, examine
from streamq.doctor.needs import DASHBOARD_ROLES
from streamq.errors import AuthenticationFailed, InvalidTaskId, RedisError, RedisUnavailable, StreamQError


def build(
    queue: Queue,
    *,
    auth: Sequence[Auth],
    read_only: bool,
    redact: tuple[str, ...],
    hide_payloads: bool,
    hosts: Sequence[str] | None,
    secure_cookies: bool = False,
    proxies: tuple[str, ...] = (),
) -> Starlette:
    """The site as an ASGI application."""
    guard = Middleware(
        Security,
        entries=auth,
        read_only=read_only,
        hosts=hosts,
        secure_cookies=secure_cookies,
        proxies=proxies,
    )
    return unguarded(queue, [guard], read_only=read_only, redact=redact, hide_payloads=hide_payloads)


def unguarded(
    queue: Queue,
    guards: Sequence[Middleware] = (),
    *,
    read_only: bool,
    redact: tuple[str, ...],
    hide_payloads: bool,
) -> Starlette:
    """Return the site behind these guards; without one only for who stands behind a guard already."""
    site = Site(
        queue,
        Renderer(queue.name, read_only=read_only),
        Redaction(redact, hide_payloads),
        History(),
        Checkup(lambda: _examined(queue, read_only=read_only)),
        Metrics(queue.name, lambda: queue.inspector),
        PartialView(lambda: queue.inspector),
    )
    pages, actions, api = Pages(site), Actions(site), Api(site)
    changes = ChangeStream(
        lambda: repr(site.partial.look(lambda inspector: inspector.stats(inspector.glance()[0])))
    )
    routes = [
        *pages.routes(),
        *actions.routes(),
        *api.routes(),
        Route("/changes", changes.stream),
        Route("/metrics", site.metrics.answer),
        Mount("/static", _Static(directory=STATIC)),
    ]
    return Starlette(routes=routes, middleware=list(guards), exception_handlers=_handlers(site))


def _examined(queue: Queue, *, read_only: bool) -> Diagnosis:
    """What the doctor says, with the rights of the user that the dashboard logs in as."""
    roles = ("observer",) if read_only else DASHBOARD_ROLES
    return examine(queue.inspector.transport, app=queue.name, roles=roles)


class _Static(StaticFiles):
    """Our files: their addresses change with what is in them. They go out compressed; pages do not, since
    the size of a compressed page would tell of the token in its forms to who can put text beside it."""

    def file_response(self, full_path: Any, stat_result: Any, scope: Any, status_code: int = 200) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        if response.status_code == 200 and "gzip" in Headers(scope=scope).get("accept-encoding", ""):
            response = Response(_compressed(str(full_path)), media_type=response.media_type)
            response.headers["content-encoding"] = "gzip"
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        response.headers["vary"] = "accept-encoding"
        return response


@cache
def _compressed(path: str) -> bytes:
    return gzip.compress(Path(path).read_bytes())


def _handlers(site: Site) -> Any:
    async def refused(request: Request, error: HTTPException) -> Response:
        titles = {403: "Not allowed", 404: "Not found", 405: "Not here", 413: "Too large"}
        return site.problem(request, error.status_code, titles.get(error.status_code, "No"), error.detail)

    async def failed(request: Request, error: RedisError) -> Response:
        site.metrics.failed()
        if isinstance(error, Damaged):
            return site.problem(request, 409, "It cannot be read", str(error))
        if isinstance(error, RedisUnavailable):
            return site.problem(request, 503, "The server cannot be reached", str(error))
        if isinstance(error, AuthenticationFailed) or "ACL failure" in str(error):
            fix = "The page of the server tells what the dashboard's user of it lacks."
            return site.problem(request, 403, "The server does not allow it", f"{error} {fix}")
        return site.problem(request, 502, "The server refused", str(error))

    async def unknown(request: Request, error: InvalidTaskId) -> Response:
        return site.problem(request, 404, "No such task", str(error))

    async def wrong(request: Request, error: StreamQError) -> Response:
        return site.problem(request, 400, "That cannot be done", str(error))

    return {HTTPException: refused, RedisError: failed, InvalidTaskId: unknown, StreamQError: wrong}

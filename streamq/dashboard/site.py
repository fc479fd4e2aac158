"""The site as a whole: its routes, what they share, and how errors are shown.

Owns the wiring. Pages are in `pages`, forms that write in `actions`, JSON in `api`.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache
from os import PathLike, stat_result
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
from starlette.types import Scope

from streamq.control.inspector import Inspector
from streamq.control.partial_outage import PartialView, unless_unreachable
from streamq.control.unreadable import Damaged
from streamq.dashboard.actions import Actions
from streamq.dashboard.api import Api
from streamq.dashboard.auth import Auth
from streamq.dashboard.change_stream import ChangeStream
from streamq.dashboard.context import Queue, Site
from streamq.dashboard.findings import DoctorCache
from streamq.dashboard.flow_pages import FlowPages
from streamq.dashboard.history import History
from streamq.dashboard.memory_curve import MemoryCurve
from streamq.dashboard.metrics import Metrics
from streamq.dashboard.pages import Pages
from streamq.dashboard.redaction import Redaction
from streamq.dashboard.render import STATIC, Renderer, Switcher
from streamq.dashboard.security import Security
from streamq.dashboard.views import server
from streamq.doctor.examination import Diagnosis, examine
from streamq.doctor.needs import DASHBOARD_ROLES
from streamq.errors import (
    AuthenticationFailed,
    InvalidTaskId,
    RedisError,
    RedisUnavailable,
    StreamQError,
    UnknownFlow,
)
from streamq.stored import count


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
    trace_url: str = "",
) -> Starlette:
    """Return the site as an ASGI application, behind `Security`."""
    security = Middleware(
        Security,
        entries=auth,
        read_only=read_only,
        hosts=hosts,
        secure_cookies=secure_cookies,
        proxies=proxies,
    )
    return without_security(
        queue,
        [security],
        read_only=read_only,
        redact=redact,
        hide_payloads=hide_payloads,
        trace_url=trace_url,
    )


def without_security(
    queue: Queue,
    middleware: Sequence[Middleware] = (),
    *,
    read_only: bool,
    redact: tuple[str, ...],
    hide_payloads: bool,
    trace_url: str = "",
    switcher: Switcher | None = None,
) -> Starlette:
    """Return the site behind this middleware: without `Security` only for a caller that applies it."""
    memory = MemoryCurve()
    site = Site(
        queue,
        Renderer(queue.name, read_only=read_only, switcher=switcher),
        Redaction(redact, hide_payloads),
        History(),
        DoctorCache(lambda: _examined(queue, memory, read_only=read_only)),
        memory,
        Metrics(queue.name, lambda: queue.inspector),
        PartialView(lambda: queue.inspector),
        trace_url,
    )
    pages, api = Pages(site), Api(site)
    actions = Actions(site, pages)
    changes = ChangeStream(lambda: repr((site.partial.look(_state), unless_unreachable(queue.flows.pulse))))
    routes = [
        *pages.routes(),
        *FlowPages(site).routes(),
        *actions.routes(),
        *api.routes(),
        Route("/changes", changes.stream),
        Route("/metrics", site.metrics.serve),
        Mount("/static", _Static(directory=STATIC)),
    ]
    return Starlette(routes=routes, middleware=list(middleware), exception_handlers=_handlers(site))


def _state(inspector: Inspector) -> object:
    """Return what pages show, apart from what only time changes."""
    workers, daemons = unless_unreachable(inspector.workers), unless_unreachable(inspector.daemons)
    processes = [(one.name, one.alive, one.details) for one in (*(workers or ()), *(daemons or ()))]
    return inspector.stats(inspector.glance()[0]), processes, inspector.paused()


def _examined(queue: Queue, memory: MemoryCurve, *, read_only: bool) -> Diagnosis:
    """Run the doctor with the rights of the dashboard's own user, and note the server's memory."""
    memory.note(count(server(queue.inspector).get("used_memory")))
    roles = ("observer",) if read_only else DASHBOARD_ROLES
    return examine(queue.inspector.transport, app=queue.name, roles=roles)


class _Static(StaticFiles):
    """Static files: their URLs change with their content. They are compressed; pages are not, because the
    size of a compressed page would reveal the token of its forms to a client that can add text to the
    page."""

    def file_response(
        self,
        full_path: str | PathLike[str],
        stat_result: stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
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
        titles = {403: "Not allowed", 404: "Not found", 405: "Method not allowed", 413: "Too large"}
        return site.problem(
            request, error.status_code, titles.get(error.status_code, "Request refused"), error.detail
        )

    async def failed(request: Request, error: RedisError) -> Response:
        site.metrics.count_failure()
        if isinstance(error, Damaged):
            return site.problem(request, 409, "The data cannot be read", str(error))
        if isinstance(error, RedisUnavailable):
            return site.problem(request, 503, "Redis is unreachable", str(error))
        if isinstance(error, AuthenticationFailed) or "ACL failure" in str(error):
            fix = "The Server page shows which rights the dashboard's user lacks."
            return site.problem(request, 403, "Redis denied the command", f"{error} {fix}")
        return site.problem(request, 502, "Redis returned an error", str(error))

    async def unknown(request: Request, error: InvalidTaskId) -> Response:
        return site.problem(request, 404, "Unknown task", str(error))

    async def unknown_flow(request: Request, error: UnknownFlow) -> Response:
        return site.problem(request, 404, "Unknown flow", str(error))

    async def wrong(request: Request, error: StreamQError) -> Response:
        return site.problem(request, 400, "Invalid request", str(error))

    return {
        HTTPException: refused,
        RedisError: failed,
        InvalidTaskId: unknown,
        UnknownFlow: unknown_flow,
        StreamQError: wrong,
    }

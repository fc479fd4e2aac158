"""What all parts of the site share: the queue, the renderer, the caches, and how an error is shown.

Owns `Site` and what the dashboard needs of an app. Knows neither pages nor actions, which import it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamq.control.admin import Admin
from streamq.control.inspector import Inspector
from streamq.control.partial_outage import PartialView
from streamq.control.schedules import Schedules
from streamq.dashboard.auth import Principal
from streamq.dashboard.findings import Checkup
from streamq.dashboard.history import History
from streamq.dashboard.metrics import Metrics
from streamq.dashboard.redaction import Redaction
from streamq.dashboard.render import Renderer

Auth = Callable[[Any], Principal | Awaitable[Principal | None] | None]


class Queue(Protocol):
    """What the dashboard needs of an app: a StreamQ has it, and so has a command's target."""

    @property
    def name(self) -> str: ...
    @property
    def inspector(self) -> Inspector: ...
    @property
    def admin(self) -> Admin: ...
    @property
    def schedules(self) -> Schedules: ...


@dataclass(frozen=True, slots=True)
class Site:
    """What all parts of the site share."""

    queue: Queue
    render: Renderer
    redaction: Redaction
    history: History
    checkup: Checkup
    metrics: Metrics
    partial: PartialView

    def problem(self, request: Request, status: int, title: str, text: str) -> Response:
        """An error as a page, or as JSON below /api."""
        if "/api/" in request.scope["path"]:
            return JSONResponse({"error": title, "detail": text}, status)
        return self.render.page(request, "problem.html", status=status, title=title, text=text)

"""The context that all parts of the site share: the queue, the renderer, the caches, and the page for errors.

Owns `Site` and what the dashboard needs from an app. Must not know pages or actions, which import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamq.control.admin import Admin
from streamq.control.flows import Flows
from streamq.control.inspector import Inspector
from streamq.control.partial_outage import PartialView
from streamq.control.schedules import Schedules
from streamq.dashboard.auth import REQUIRED_ROLE, Principal
from streamq.dashboard.findings import DoctorCache
from streamq.dashboard.history import History
from streamq.dashboard.memory_curve import MemoryCurve
from streamq.dashboard.metrics import Metrics
from streamq.dashboard.redaction import Redaction
from streamq.dashboard.render import Renderer


class Queue(Protocol):
    """What the dashboard needs from an app: StreamQ and a command's target provide it."""

    @property
    def name(self) -> str: ...
    @property
    def inspector(self) -> Inspector: ...
    @property
    def admin(self) -> Admin: ...
    @property
    def schedules(self) -> Schedules: ...
    @property
    def flows(self) -> Flows: ...


@dataclass(frozen=True, slots=True)
class Site:
    """The context of one site."""

    queue: Queue
    render: Renderer
    redaction: Redaction
    history: History
    doctor: DoctorCache
    memory: MemoryCurve
    metrics: Metrics
    partial: PartialView
    trace_url: str = ""
    """Where traces are shown: see `trace_links`."""

    def inspector(self, request: Request) -> Inspector:
        """Return the queries for one request: they open what is sealed only for a role that may see it."""
        found, principal = self.queue.inspector, request.scope.get("principal")
        may = isinstance(principal, Principal) and principal.reads_sealed
        return found if may else found.without_keys()

    def flows(self, request: Request) -> Flows:
        """Return the flows for one request, as `inspector` does."""
        found, principal = self.queue.flows, request.scope.get("principal")
        may = isinstance(principal, Principal) and principal.reads_sealed
        return found if may else found.without_keys()

    def page(self, request: Request, template: str, /, *, status: int = 200, **values: object) -> Response:
        """Return a page, which knows what its reader may do."""
        principal = request.scope["principal"]
        may = {action: principal.may(action) for action in REQUIRED_ROLE}
        return self.render.page(request, template, status=status, may=may, **values)

    def problem(self, request: Request, status: int, title: str, text: str) -> Response:
        """Return an error as a page, or as JSON below /api."""
        if "/api/" in request.scope["path"]:
            return JSONResponse({"error": title, "detail": text}, status)
        return self.render.page(request, "problem.html", status=status, title=title, text=text)

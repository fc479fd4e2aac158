"""Answer /live and /ready, for containers and load balancers, without a login.

Owns these two responses, which reveal nothing about the queue. They do not depend on Redis: if it is
unreachable, each page says so, and neither a restart nor another instance would help.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from streamq.probes import health

PROBES: Final = ("/live", "/ready")
ROLE: Final = "dashboard"


def inner_path(scope: Scope) -> str:
    """Return the path within the site, without the path at which it is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    inner = path[len(root) :] if root and path.startswith(root) else path
    return inner or "/"


def probe(scope: Scope) -> Response | None:
    """Return the response to a probe, in the form of a worker's or daemon's; None for other requests. It
    shows that the event loop is running."""
    if inner_path(scope) not in PROBES or scope["method"] not in ("GET", "HEAD"):
        return None
    status, told = health.probe_response([], role=ROLE)
    return JSONResponse(told, status)

"""What containers and load balancers may ask without a login: /live and /ready.

Owns these two answers, which tell nothing of the queue. Redis is not asked: without it the dashboard says so
on each page, and neither a restart nor another address would help whoever reads it.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import JSONResponse, Response

from streamq.probes import health

PROBES: Final = ("/live", "/ready")
ROLE: Final = "dashboard"


def inner_path(scope: Any) -> str:
    """The path within the site, wherever it is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    inner = path[len(root) :] if root and path.startswith(root) else path
    return inner or "/"


def probe(scope: Any) -> Response | None:
    """The answer to a probe, in the shape of a worker's or daemon's; None for other requests. It says that
    the event loop came to answer it."""
    if inner_path(scope) not in PROBES or scope["method"] not in ("GET", "HEAD"):
        return None
    status, told = health.probe_response([], role=ROLE)
    return JSONResponse(told, status)

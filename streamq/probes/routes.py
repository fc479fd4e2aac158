"""The endpoints of a process: /live /ready /drain /metrics, and /backlog if it can see the queue.

Owns their responses. Gets all data from a Service, so it must not know workers, daemons or Redis.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping
from typing import Final, Protocol

from streamq import environment
from streamq.probes import health
from streamq.probes.http_server import Request, Response, Routes
from streamq.probes.report import BacklogRow, BacklogView
from streamq.telemetry import exposition
from streamq.telemetry.counters import Snapshot

_NO_DRAIN: Final = (
    "drain refused: the request is not authorized. Send it over --health-socket, or with the token of "
    "STREAMQ_DRAIN_TOKEN (Authorization: Bearer …). SIGTERM and `streamq drain` do the same."
)


class Service(Protocol):
    """A process or a group of processes, as probes see it."""

    role: str

    def not_alive(self) -> list[str]:
        """Return the reasons to restart it."""
        ...

    def not_ready(self) -> list[str]:
        """Return the reasons why new tasks would not be worked on."""
        ...

    def faults(self) -> list[str]:
        """Return the faults of single apps, shards and types, which do not affect the others."""
        ...

    def drain(self) -> None:
        """Take no more tasks, finish those in flight, then end."""
        ...

    async def metrics(self) -> Snapshot:
        """Return the metrics."""
        ...

    async def backlog(self) -> BacklogView | None:
        """Return the queue; None if it cannot be read."""
        ...


def routes(service: Service, *, knows_queue: bool) -> Routes:
    """Return the endpoints of a service. `knows_queue`: with /backlog."""

    async def live(_request: Request) -> Response:
        return Response.json(*health.probe_response(service.not_alive(), role=service.role))

    async def ready(_request: Request) -> Response:
        problems, faults = service.not_ready(), service.faults()
        return Response.json(*health.probe_response(problems, role=service.role, faults=faults))

    async def drain(request: Request) -> Response:
        if not _may_drain(request):
            return Response.text(403, _NO_DRAIN)
        service.drain()
        return Response.json(202, {"draining": True, "role": service.role})

    async def metrics(request: Request) -> Response:
        content_type, text = exposition.render(await service.metrics(), request.headers.get("accept", ""))
        return Response(200, text, content_type)

    async def backlog(request: Request) -> Response:
        view = await service.backlog()
        if view is None:  # on a 503 an autoscaler keeps its workers; on a 0 it would scale to zero
            return Response.text(503, "backlog unknown: Redis is unreachable. Try again later.")
        body = _backlog(view, request.query)
        if view.more_types and "type" in request.query and not body["types"]:
            return Response.text(
                503, f"backlog unknown: the type may be one of {view.more_types} that are not counted"
            )
        return Response.json(200, body)

    table = {
        ("GET", "/live"): live,
        ("GET", "/ready"): ready,
        ("POST", "/drain"): drain,
        ("GET", "/metrics"): metrics,
    }
    return {**table, ("GET", "/backlog"): backlog} if knows_queue else table


def _may_drain(request: Request) -> bool:
    """Return whether a request may drain this process: over the unix socket, which only its user can open, or
    with the token. The peer's address proves nothing: a local proxy forwards everyone's requests."""
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        return False  # sent by a browser
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    token = environment.DRAIN_TOKEN.get()
    valid = bool(token) and hmac.compare_digest(credentials.strip().encode(), token.encode())
    return request.private or (scheme.lower() == "bearer" and valid)


def _backlog(view: BacklogView, query: Mapping[str, str]) -> BacklogRow:
    """Return the rows that the query selects, and their totals."""
    chosen = [
        row for row in view.rows if all(query.get(name, row[name]) == row[name] for name in ("app", "type"))
    ]
    total = {
        name: sum(row[name] for row in chosen) for name in ("ready", "running", "scheduled", "parked", "dead")
    }
    busy = any(row["ready"] + row["running"] for row in chosen)
    return {
        "backlog": total["ready"] + total["running"],
        # Types share workers: the fractions are added, not the whole numbers.
        "desired": max(math.ceil(sum(row.get("load", 0.0) for row in chosen) - 1e-6), int(busy)),
        **total,
        "oldest_ready_seconds": max((row["oldest_ready_seconds"] for row in chosen), default=0),
        "overdue_seconds": max((row["overdue_seconds"] for row in chosen), default=0),
        "types": chosen,
        "more_types": view.more_types,
    }

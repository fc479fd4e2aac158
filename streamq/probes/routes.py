"""The endpoints of a process: /live /ready /drain /metrics, and /backlog where it knows the queue.

Owns what they answer. What they ask is given to them as a Service.
"""

from __future__ import annotations

import hmac
from typing import Any, Final, Protocol

from streamq import environment
from streamq.probes import health
from streamq.probes.http_server import Request, Response, Routes
from streamq.probes.report import BacklogView
from streamq.telemetry import exposition
from streamq.telemetry.counters import Snapshot

_NO_DRAIN: Final = (
    "a drain is asked for over --health-socket, or with the token of STREAMQ_DRAIN_TOKEN "
    "(Authorization: Bearer …); SIGTERM and `streamq drain` do the same"
)


class Service(Protocol):
    """A process or a group of them, as probes see it."""

    role: str

    def not_alive(self) -> list[str]:
        """Why it should be restarted."""
        ...

    def not_ready(self) -> list[str]:
        """Why tasks would not be worked on."""
        ...

    def faults(self) -> list[str]:
        """What is wrong with single apps, shards and types, and keeps no other from being worked on."""
        ...

    def drain(self) -> None:
        """Take no more tasks, finish those in hand, end."""
        ...

    async def metrics(self) -> Snapshot: ...

    async def backlog(self) -> BacklogView | None:
        """None where the queue cannot be seen."""
        ...


def routes(service: Service, *, knows_queue: bool) -> Routes:
    """The endpoints of a service."""

    async def live(_request: Request) -> Response:
        return Response.json(*health.answer(service.not_alive(), role=service.role))

    async def ready(_request: Request) -> Response:
        return Response.json(*health.answer(service.not_ready(), role=service.role, faults=service.faults()))

    async def drain(request: Request) -> Response:
        if not _may_drain(request):
            return Response.text(403, _NO_DRAIN)
        service.drain()
        return Response.json(202, {"draining": True, "role": service.role})

    async def metrics(request: Request) -> Response:
        content_type, text = exposition.render(await service.metrics(), request.headers.get("accept", ""))
        return Response(200, text, content_type)

    async def backlog(request: Request) -> Response:
        seen = await service.backlog()
        if seen is None:  # an autoscaler keeps what it has, where it would scale to zero on a 0
            return Response.text(503, "Redis is away: the backlog is not known")
        found = _backlog(seen, request.query)
        if seen.more_types and "type" in request.query and not found["types"]:
            return Response.text(503, f"it may be one of {seen.more_types} task types that are not looked at")
        return Response.json(200, found)

    found = {
        ("GET", "/live"): live,
        ("GET", "/ready"): ready,
        ("POST", "/drain"): drain,
        ("GET", "/metrics"): metrics,
    }
    return {**found, ("GET", "/backlog"): backlog} if knows_queue else found


def _may_drain(request: Request) -> bool:
    """Return whether a request may stop this process: over the unix socket, which only its user can open, or
    with the token. The peer's address proves nothing: a proxy on this host asks from it for everybody."""
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        return False  # a page in a browser
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    token = environment.DRAIN_TOKEN.get()
    good = bool(token) and hmac.compare_digest(given.strip().encode(), token.encode())
    return request.private or (scheme.lower() == "bearer" and good)


def _backlog(seen: BacklogView, query: Any) -> dict[str, Any]:
    chosen = [
        row for row in seen.rows if all(query.get(name, row[name]) == row[name] for name in ("app", "type"))
    ]
    total = {
        name: sum(row[name] for row in chosen) for name in ("ready", "running", "scheduled", "parked", "dead")
    }
    return {
        "backlog": total["ready"] + total["running"],
        **total,
        "oldest_ready_seconds": max((row["oldest_ready_seconds"] for row in chosen), default=0),
        "overdue_seconds": max((row["overdue_seconds"] for row in chosen), default=0),
        "types": chosen,
        "more_types": seen.more_types,
    }

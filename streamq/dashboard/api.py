"""The JSON API: what the pages show and do, for programs.

Owns the paths below /api and their parameters. The shapes are in `views`; an error is an object with `error`
and `detail`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamq.dashboard import flow_views, overview, views
from streamq.dashboard.commands import Desks, authorized, perform
from streamq.dashboard.context import Site
from streamq.dashboard.forms import MOST_BYTES, check_target, media_type, selection
from streamq.dashboard.queries import PAGE, dead_groups, parse_state, task_filter
from streamq.errors import UnknownTaskType


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value, default=_other), status, media_type="application/json")


def _other(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    raise TypeError


class Api:
    """Routes of the API of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        return [
            Route("/api/overview", self.overview),
            Route("/api/chart", self.chart),
            Route("/api/tasks", self.tasks),
            Route("/api/tasks/{id}", self.task),
            Route("/api/dead", self.dead),
            Route("/api/lanes", self.lanes),
            Route("/api/locks", self.locks),
            Route("/api/workers", self.workers),
            Route("/api/schedules", self.schedules),
            Route("/api/flows", self.flows),
            Route("/api/flows/{id}", self.flow),
            Route("/api/actions", self.actions),
            Route("/api/server", self.server),
            Route("/api/doctor", self.doctor),
            Route("/api/do/{action}", self.do, methods=["POST"]),
        ]

    def overview(self, request: Request) -> Response:
        del request
        latest = self._site.doctor.latest()
        found = overview.overview(self._site.partial, self._site.history, latest.checks if latest else ())
        return _json(found)

    def chart(self, request: Request) -> Response:
        name, span = request.query_params.get("type") or None, request.query_params.get("span", "hour")
        try:
            return _json(overview.chart(self._site.partial, self._site.history, name, span))
        except UnknownTaskType as error:
            raise HTTPException(404, str(error)) from None

    def tasks(self, request: Request) -> Response:
        query = request.query_params
        _check_parameters(
            query, {"state", "type", "error", "id", "older", "newer", "fingerprint", "limit", "cursor"}
        )
        limit = query.get("limit", str(PAGE))
        if not limit.isascii() or not limit.isdigit() or len(limit) > 4:
            raise HTTPException(400, "limit must be a number from 1 to 200.")
        page = self._site.inspector(request).tasks(
            parse_state(query.get("state", "ready")),
            query.get("type") or None,
            cursor=query.get("cursor", ""),
            limit=int(limit),
            filter=views.visible_filter(task_filter(query), self._site.redaction),
        )
        return _json(views.page(page, self._site.redaction))

    def task(self, request: Request) -> Response:
        info = self._site.inspector(request).task(request.path_params["id"])
        return _json(views.task(info, self._site.redaction), 404 if info.state == "unknown" else 200)

    def dead(self, request: Request) -> Response:
        _check_parameters(request.query_params, {"type", "error", "older", "newer"})
        found, _ = dead_groups(self._site.inspector(request), request.query_params)
        return _json(views.groups(found, self._site.redaction))

    def lanes(self, request: Request) -> Response:
        _check_parameters(request.query_params, {"type"})
        inspector, name = self._site.inspector(request), request.query_params.get("type", "")
        if name not in inspector.types():
            raise HTTPException(404, f"Unknown task type {name[:100]!r}.")
        return _json(views.lanes(inspector, name, self._site.redaction))

    def locks(self, request: Request) -> Response:
        _check_parameters(request.query_params, {"type"})
        inspector, name = self._site.inspector(request), request.query_params.get("type", "")
        if name not in inspector.types():
            raise HTTPException(404, f"Unknown task type {name[:100]!r}.")
        return _json(views.locks(inspector, name, self._site.redaction))

    def workers(self, request: Request) -> Response:
        inspector = self._site.inspector(request)
        found = {"workers": inspector.workers(), "daemons": inspector.daemons()}
        return _json({name: [asdict(one) for one in processes] for name, processes in found.items()})

    def schedules(self, request: Request) -> Response:
        del request
        found = self._site.queue.schedules
        listed = [asdict(one) for one in found.all()]
        return _json({"schedules": listed, "faults": found.faults})

    def flows(self, request: Request) -> Response:
        query = request.query_params
        _check_parameters(query, {"state", "cursor", "limit"})
        limit = flow_views.limit_of(query)
        found = self._site.flows(request).page(
            flow_views.parse_state(query.get("state", "")), cursor=query.get("cursor", ""), limit=limit
        )
        return _json(flow_views.page(found, self._site.redaction))

    def flow(self, request: Request) -> Response:
        _check_parameters(request.query_params, {"first"})
        first = flow_views.number_of(request.query_params, "first")
        part = self._site.flows(request).part(request.path_params["id"], first)
        found = flow_views.part(part, self._site.redaction)
        for name, failed in (("failure", part.failure), ("stuck", part.stuck)):
            found[name] = flow_views.failure(failed, self._site.inspector(request), self._site.redaction)
        return _json(found)

    def actions(self, request: Request) -> Response:
        return _json({"actions": [asdict(one) for one in self._site.inspector(request).actions()]})

    def server(self, request: Request) -> Response:
        return _json({"server": views.server(self._site.inspector(request))})

    def doctor(self, request: Request) -> Response:
        address = self._site.inspector(request).transport.address
        return _json(views.diagnosis(self._site.doctor.findings(), address))

    async def do(self, request: Request) -> Response:
        """Perform an action: a JSON object with `id`, `ids`, `type` or `worker`, and the action's other
        fields."""
        action = authorized(request, request.path_params["action"])
        given = await _body(request)
        check_target(action, given)
        by = request.scope["principal"].name
        desks = Desks.acting_for(self._site.queue, by)
        if action in ("requeue", "purge") and "type" in given:
            chosen = selection(given)
            admin = desks.admin
            work = admin.requeue_selected if action == "requeue" else admin.purge_selected
            return _json({"done": await run_in_threadpool(work, chosen)})
        notice, _ = await run_in_threadpool(perform, action, given, desks)
        return _json({"message": notice})


def _check_parameters(query: Iterable[str], names: set[str]) -> None:
    """Raise HTTPException for an unknown parameter: with a mistyped filter the result would be everything."""
    if unknown := sorted(set(query) - names):
        raise HTTPException(400, f"Unknown parameter {unknown[0][:40]!r}: use {', '.join(sorted(names))}.")


async def _body(request: Request) -> dict[str, str]:
    if media_type(request) != "application/json":
        raise HTTPException(415, "The content type must be application/json.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"The body is larger than {MOST_BYTES:,} bytes.")
    try:
        given = orjson.loads(body)
    except ValueError as error:
        raise HTTPException(400, f"The body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise HTTPException(400, "The body must be a JSON object.")
    ids = given.get("ids")
    if isinstance(ids, list) and all(isinstance(one, str) for one in ids):
        given["ids"] = " ".join(ids)
    if not all(isinstance(value, str | int) for value in given.values()):
        raise HTTPException(400, "The values must be texts or numbers, and `ids` a list of texts.")
    return {name: str(value) for name, value in given.items()}

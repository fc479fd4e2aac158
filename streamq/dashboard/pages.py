"""The pages that only look.

Owns what is on each page; its values come from the inspector, its form from a template. Plain functions:
the framework runs them in threads, since the inspector waits for the server.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from streamq.control.partial_outage import unless_away
from streamq.control.task_info import TaskInfo
from streamq.dashboard import views
from streamq.dashboard.auth import MAY
from streamq.dashboard.context import Site
from streamq.dashboard.queries import (
    FILTERS,
    LISTED,
    PAGE,
    all_listed,
    dead_groups,
    listed,
    matching,
    task_filter,
    times,
)
from streamq.dashboard.redaction import Redaction
from streamq.errors import InvalidTaskId
from streamq.model.task import TaskId
from streamq.payloads.reading import fault
from streamq.stored import moment, real


class Pages:
    """The pages of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        return [
            Route("/", self.overview),
            Route("/types", self.types),
            Route("/types/{name}", self.type),
            Route("/types/{name}/lanes", self.lanes),
            Route("/tasks", self.tasks),
            Route("/tasks/{id}", self.task),
            Route("/dead", self.dead),
            Route("/workers", self.workers),
            Route("/schedule", self.schedule),
            Route("/server", self.server),
            Route("/actions", self.actions),
        ]

    def overview(self, request: Request) -> Response:
        found = views.overview(self._site.partial, self._site.history)
        return self._page(request, "overview.html", **found)

    def types(self, request: Request) -> Response:
        found = views.overview(self._site.partial, self._site.history)
        return self._page(request, "types.html", **found)

    def type(self, request: Request) -> Response:
        inspector, name = self._site.queue.inspector, request.path_params["name"]
        if name not in inspector.types():
            raise HTTPException(404, f"There is no task type {name!r}.")
        recent, points = self._site.history.look(inspector).hour(name)
        row = views.type_row(inspector.type_stats(name), recent, points, inspector.paused().get(name))
        groups = inspector.dead_groups(name).groups[:5]
        return self._page(request, "type.html", one=row, groups=groups, policy=inspector.policy(name))

    def lanes(self, request: Request) -> Response:
        inspector, name = self._site.queue.inspector, request.path_params["name"]
        if name not in inspector.types():
            raise HTTPException(404, f"There is no task type {name!r}.")
        found = views.lanes(inspector, name, self._site.redaction)
        return self._page(request, "lanes.html", name=name, **found)

    def tasks(self, request: Request) -> Response:
        query = request.query_params
        if wanted := query.get("q", "").strip():
            return self._jump(request, wanted)
        state = listed(query.get("state", "ready"))
        filter_ = views.private(task_filter(query), self._site.redaction)
        inspector = self._site.queue.inspector
        types = inspector.types()
        page = inspector.tasks(
            state, query.get("type") or None, cursor=query.get("cursor", ""), limit=PAGE, wanted=filter_
        )
        asked = {name: query.get(name, "") for name in FILTERS} | {"state": state}
        values: dict[str, Any] = {"types": types, "states": LISTED, "state": state}
        values["back"] = "/tasks?" + urlencode({name: value for name, value in asked.items() if value})
        values["matching"] = all_listed(asked, filter_, page.now_ms) if state == "dead" else {}
        return self._page(request, "tasks.html", page=page, asked=asked, rows=self._rows(page.rows), **values)

    def _jump(self, request: Request, wanted: str) -> Response:
        """To the task whose id was typed; else to those whose id contains it."""
        root = request.scope.get("root_path", "")
        try:
            return RedirectResponse(f"{root}/tasks/{quote(str(TaskId.parse(wanted)))}", 303)
        except InvalidTaskId:
            state = listed(request.query_params.get("state", "ready"))
            return RedirectResponse(f"{root}/tasks?state={state}&id={quote(wanted[:100], safe='')}", 303)

    def _rows(self, rows: Any) -> list[dict[str, Any]]:
        redaction = self._site.redaction
        return [
            {
                **asdict(row), "short": redaction.short(row.payload),
                "outcome": redaction.short_result(row.result, row.whole_payload),
                "last_error": views.last_error(row, redaction),
            }
            for row in rows
        ]  # fmt: skip

    def task(self, request: Request) -> Response:
        info = self._site.queue.inspector.task(request.path_params["id"])
        redaction = self._site.redaction
        result = (info.result or b"null") if info.result is not None else None
        failures = [_attempt(redaction.failure(one, info.payload)) for one in info.failures]
        return self._page(
            request, "task.html", status=404 if info.state == "unknown" else 200, info=info,
            detail=views.detail(info.detail, redaction),
            payload=redaction.text(info.payload), result=redaction.result_text(result, info.payload),
            failures=failures, success=info.success, redaction=redaction,
            origin=views.origin(info), editable=_editable(info, redaction),
            enqueued_ms=_enqueued(info.id, info.fields), now=self._now(info),
        )  # fmt: skip

    def _now(self, info: TaskInfo) -> dict[str, object] | None:
        """The attempt that is under way, as far as its worker has told: attempt, since_ms, waited."""
        if info.state != "running":
            return None
        beats = self._site.queue.inspector.workers()
        told = next((one.details for one in beats if one.name == info.detail.get("worker")), {})
        listed = filter(None, map(views.running, told.get("running", [])))
        found = next((one for one in listed if one["id"] == info.id), None)
        entry = moment(info.detail.get("entry", "").partition("-")[0])
        if found is None or not found["since_ms"] or not entry:
            return found
        return {**found, "waited": max(0, found["since_ms"] - entry) / 1000}

    def dead(self, request: Request) -> Response:
        inspector, query = self._site.queue.inspector, request.query_params
        found, wanted = dead_groups(inspector, query)
        total = sum(group.count for group in found.groups)
        asked = {name: query.get(name, "") for name in ("type", "error", "older", "newer")}
        groups = views.groups(found, self._site.redaction)
        return self._page(
            request, "dead.html", **groups, types=inspector.types(), asked=asked, total=total,
            times=times(wanted), matching=matching(wanted),
        )  # fmt: skip

    def workers(self, request: Request) -> Response:
        inspector = self._site.queue.inspector
        found = {"workers": inspector.workers(), "daemons": inspector.daemons()}
        shown: dict[str, Any] = {
            name: [views.process(one) for one in listed] for name, listed in found.items()
        }
        return self._page(request, "workers.html", **shown)

    def schedule(self, request: Request) -> Response:
        inspector, query = self._site.queue.inspector, request.query_params
        types = [query["type"]] if query.get("type") else inspector.glance()[0]
        stats = [one for one in map(inspector.type_stats, types) if one.scheduled]
        soon = [row for one in stats for row in inspector.tasks("scheduled", one.type, limit=20).rows]
        rows = self._rows(sorted(soon, key=lambda row: row.at_ms)[:PAGE])
        now_ms = inspector.now_ms()
        return self._page(
            request,
            "schedule.html",
            rows=rows,
            stats=stats,
            now_ms=now_ms,
            daemons=unless_away(inspector.daemons_alive),
        )

    def server(self, request: Request) -> Response:
        server, findings = views.server(self._site.queue.inspector), self._site.checkup.look()
        return self._page(request, "server.html", server=server, findings=findings)

    def actions(self, request: Request) -> Response:
        return self._page(request, "actions.html", actions=self._site.queue.inspector.actions())

    def _page(self, request: Request, template: str, /, *, status: int = 200, **values: object) -> Response:
        principal = request.scope["principal"]
        may = {action: principal.may(action) for action in MAY}
        return self._site.render.page(request, template, status=status, may=may, **values)


def _editable(info: TaskInfo, redaction: Redaction) -> bool:
    return redaction.complete and info.state == "dead" and not fault(info.payload)


def _attempt(told: dict[str, Any]) -> dict[str, Any]:
    """A failed attempt for the time line: `waited` and `ran` in seconds, None where they are not known."""
    spent = {name: told.get(f"{key}_ms") for name, key in (("waited", "wait"), ("ran", "run"))}
    seconds_ = {k: real(v) / 1000 if isinstance(v, int | float) else None for k, v in spent.items()}
    return {**told, **seconds_}


def _enqueued(task_id: str, fields: dict[str, bytes]) -> int | None:
    """When a task was accepted: the id tells it, but for one that began in the schedule."""
    local = TaskId.parse(task_id).local
    if raw := fields.get("e", b""):
        return moment(raw) or None
    return None if local[0] == "d" else moment(local[1:].partition("-")[0])

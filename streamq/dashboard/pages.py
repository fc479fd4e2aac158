"""The pages, which only read.

Owns what is on each page; its values come from the inspector, its layout from a template. Plain functions:
the framework runs them in threads, because the inspector blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final
from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from streamq.control.inspector import Inspector
from streamq.control.overview import STATES
from streamq.control.partial_outage import unless_unreachable
from streamq.control.schedule_info import ScheduleInfo
from streamq.control.task_info import TaskInfo
from streamq.control.task_list import MOST_ROWS
from streamq.control.task_rows import TaskRow
from streamq.dashboard import overview, task_views, views
from streamq.dashboard.context import Site
from streamq.dashboard.queries import (
    FILTERS,
    LISTED,
    PAGE,
    as_form,
    dead_groups,
    list_as_form,
    page_number,
    paged,
    paging,
    parse_state,
    task_filter,
    times_as_form,
)
from streamq.dashboard.redaction import Redaction
from streamq.errors import InvalidTaskId
from streamq.model.task import State, TaskId
from streamq.options.words import sentences
from streamq.payloads.reading import decode_error
from streamq.stored import count, moment


class Pages:
    """Routes of the pages of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        return [
            Route("/", self.overview),
            Route("/types", self.types),
            Route("/types/{name}", self.type),
            Route("/types/{name}/lanes", self.lanes),
            Route("/types/{name}/locks", self.locks),
            Route("/tasks", self.tasks),
            Route("/tasks/{id}", self.task),
            Route("/dead", self.dead),
            Route("/workers", self.workers),
            Route("/schedule", self.schedule),
            Route("/schedules", self.schedules),
            Route("/server", self.server),
            Route("/actions", self.actions),
        ]

    def overview(self, request: Request) -> Response:
        latest, query = self._site.doctor.latest(), request.query_params
        found = overview.overview(self._site.partial, self._site.history, latest.checks if latest else ())
        given = {name: query.get(name, "").strip()[:200] for name in ("find", "show", "sort")}
        rows = overview.arranged(found["types"], **given)
        return self._site.page(
            request, "overview.html", **found, rows=rows, given=given, shows=overview.SHOWS
        )

    def types(self, request: Request) -> Response:
        """Types have no page of their own beside the overview: an old bookmark leads there."""
        return RedirectResponse(request.scope.get("root_path", "") + "/", 301)

    def type(self, request: Request) -> Response:
        inspector, name, redaction = (
            self._site.inspector(request),
            request.path_params["name"],
            self._site.redaction,
        )
        if name not in inspector.types():
            raise HTTPException(404, f"Unknown task type {name!r}.")
        policy, now_ms = inspector.policy(name), inspector.now_ms()
        groups = inspector.dead_groups(name).groups[:5]
        schedules = [one for one in self._site.queue.schedules.all(outcomes=False) if one.type == name]
        return self._site.page(
            request, "type.html", one=overview.one_type(inspector, self._site.history, name), policy=policy,
            policy_words=sentences(policy.get("words", "")), schedules=schedules, now_ms=now_ms,
            groups=[views.dead_group(group, redaction) for group in groups],
            locked=bool(inspector.locks(name, limit=1)), recent=self._rows(_recent(inspector, name)),
            lanes=views.lanes(inspector, name, redaction) if "gate" in policy else None,
        )  # fmt: skip

    def lanes(self, request: Request) -> Response:
        inspector, name = self._site.inspector(request), request.path_params["name"]
        if name not in inspector.types():
            raise HTTPException(404, f"Unknown task type {name!r}.")
        found = views.lanes(inspector, name, self._site.redaction)
        return self._site.page(request, "lanes.html", name=name, **found)

    def locks(self, request: Request) -> Response:
        inspector, name = self._site.inspector(request), request.path_params["name"]
        if name not in inspector.types():
            raise HTTPException(404, f"Unknown task type {name!r}.")
        found = views.locks(inspector, name, self._site.redaction)
        return self._site.page(request, "locks.html", name=name, **found)

    def tasks(self, request: Request) -> Response:
        query = request.query_params
        if text := query.get("q", "").strip():
            return self._find(request, text)
        state = parse_state(query.get("state", "ready"))
        filter_ = views.visible_filter(task_filter(query), self._site.redaction)
        inspector = self._site.inspector(request)
        types = inspector.types()
        page = inspector.tasks(
            state, query.get("type") or None, cursor=query.get("cursor", ""), limit=PAGE, filter=filter_
        )
        given = {name: query.get(name, "") for name in FILTERS} | {"state": state}
        return self._site.page(
            request, "tasks.html", page=page, given=given, rows=self._rows(page.rows), types=types,
            states=LISTED, state=state, counts=_counts(inspector, given["type"]), nothing="nothing" in query,
            back="/tasks?" + urlencode({name: value for name, value in given.items() if value}),
            matching=list_as_form(given, filter_, page.now_ms) if state == "dead" else {},
        )  # fmt: skip

    def _find(self, request: Request, text: str) -> Response:
        """Redirect to the task with this id, or to the tasks whose id contains the text."""
        root = request.scope.get("root_path", "")
        try:
            return RedirectResponse(f"{root}/tasks/{quote(str(TaskId.parse(text)))}", 303)
        except InvalidTaskId:
            state = parse_state(request.query_params.get("state", "ready"))
            return RedirectResponse(f"{root}/tasks?state={state}&id={quote(text[:100], safe='')}", 303)

    def _rows(self, rows: Sequence[TaskRow]) -> list[dict[str, object]]:
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
        return self.task_page(request, request.path_params["id"])

    def task_page(self, request: Request, task_id: str, typed: str = "", wrong: str = "") -> Response:
        """Return the page of a task; `typed` are arguments that were refused, and `wrong` says why."""
        info = self._site.inspector(request).task(task_id)
        redaction = self._site.redaction
        result = (info.result or b"null") if info.result is not None else None
        failures = [task_views.attempt(redaction.failure(one, info.payload)) for one in info.failures]
        detail = views.detail(info.detail, redaction)
        return self._site.page(
            request, "task.html", status=404 if info.state == "unknown" else 422 if wrong else 200, info=info,
            detail=detail, links=self._links(request, info, detail), typed=typed, wrong=wrong,
            payload=redaction.text(info.payload), result=redaction.result_text(result, info.payload),
            failures=failures, success=info.success, redaction=redaction,
            origin=views.origin(info), progress=views.progress(info, redaction),
            told=task_views.told(info, redaction), editable=_editable(info, redaction),
            enqueued_ms=task_views.enqueued(info.fields, TaskId.parse(info.id).local),
            now=self._current_attempt(request, info),
        )  # fmt: skip

    def _links(self, request: Request, info: TaskInfo, detail: dict[str, str]) -> list[task_views.Link]:
        """Return where a task leads; first the flow that it is a node of."""
        more = task_views.links(info, detail, self._site.trace_url)
        found = self._site.flows(request).node_of(info) if "y" in info.fields else None
        if found is None:
            return more
        return [task_views.Link("Flow", f"{found[1]} of {found[0]}", f"/flows/{found[0]}"), *more]

    def _current_attempt(self, request: Request, info: TaskInfo) -> dict[str, object] | None:
        """Return the attempt that is running, if its worker reported it: attempt, since_ms, waited."""
        if info.state != "running":
            return None
        beats = self._site.inspector(request).workers()
        details = next((one.details for one in beats if one.name == info.detail.get("worker")), {})
        reported = filter(None, map(views.running, details.get("running", [])))
        found = next((one for one in reported if one.id == info.id), None)
        entry = moment(info.detail.get("entry", "").partition("-")[0])
        if found is None:
            return None
        waited = {"waited": max(0, found.since_ms - entry) / 1000} if found.since_ms and entry else {}
        return {**asdict(found), **waited}

    def dead(self, request: Request) -> Response:
        inspector, query = self._site.inspector(request), request.query_params
        found, wanted = dead_groups(inspector, query)
        total = sum(group.count for group in found.groups)
        given = {name: query.get(name, "") for name in ("type", "error", "older", "newer")}
        groups = views.groups(found, self._site.redaction)
        return self._site.page(
            request, "dead.html", **groups, types=inspector.types(), given=given, total=total,
            times=times_as_form(wanted), matching=as_form(wanted),
        )  # fmt: skip

    def workers(self, request: Request) -> Response:
        inspector = self._site.inspector(request)
        found = [views.process(one) for one in inspector.workers()]
        daemons = [views.process(one) for one in inspector.daemons()]
        living, dead = (
            [one for one in found if (one["state"] == "silent") is gone] for gone in (False, True)
        )
        shown = paged(request.query_params, living)
        return self._site.page(
            request, "workers.html", workers=shown, number=len(living), dead=dead[:PAGE],
            more_dead=max(0, len(dead) - PAGE), daemons=daemons, paging=paging(request.query_params, living),
        )  # fmt: skip

    def schedule(self, request: Request) -> Response:
        inspector, query = self._site.inspector(request), request.query_params
        types = [query["type"]] if query.get("type") else inspector.glance()[0]
        stats = [one for one in map(inspector.type_stats, types) if one.scheduled]
        most = min(MOST_ROWS, PAGE * page_number(query) + 1)
        soon = [row for one in stats for row in inspector.tasks("scheduled", one.type, limit=most).rows]
        soon.sort(key=lambda row: row.at_ms)
        rows = self._rows(paged(query, soon))
        now_ms = inspector.now_ms()
        return self._site.page(
            request,
            "schedule.html",
            rows=rows,
            stats=stats,
            now_ms=now_ms,
            daemons=unless_unreachable(inspector.daemons_alive),
            paging=paging(query, soon[: MOST_ROWS - 1]),
        )

    def schedules(self, request: Request) -> Response:
        """Recurring tasks, those that are late first: of so many what became of the last run."""
        found = self._site.queue.schedules
        query = request.query_params
        listed = [one for one in found.all(outcomes=False) if _wanted(one, query)]
        inspector = self._site.inspector(request)
        now = inspector.now_ms()
        whole = sorted((one for one in listed if not one.fault), key=lambda one: not views.late(one, now))
        shown = [found.get(one.name) for one in paged(query, whole)]
        broken = [one for one in listed if one.fault][:PAGE]
        return self._site.page(
            request,
            "schedules.html",
            shown=[views.schedule(one, now) for one in shown],
            broken=broken,
            number=len(listed),
            paging=paging(query, whole),
            given={name: query.get(name, "") for name in ("type", "name")},
            faults=found.faults,
            now_ms=now,
            daemons=unless_unreachable(inspector.daemons_alive),
        )

    def server(self, request: Request) -> Response:
        server, findings = views.server(self._site.inspector(request)), self._site.doctor.findings()
        self._site.memory.note(count(server.get("used_memory")))
        curve = self._site.memory.curve()
        return self._site.page(request, "server.html", server=server, findings=findings, curve=curve)

    def actions(self, request: Request) -> Response:
        found = self._site.inspector(request).actions(KEPT)
        shown = paged(request.query_params, found)
        return self._site.page(
            request, "actions.html", actions=shown, paging=paging(request.query_params, found)
        )


KEPT: Final = 1000
"""Actions that the log keeps."""
RECENT: Final[tuple[tuple[State, int], ...]] = (("running", 5), ("dead", 5), ("completed", 10))
"""The states of a type's recent tasks, and how many of each are shown."""


def _wanted(one: ScheduleInfo, query: Mapping[str, str]) -> bool:
    """Return whether a schedule is of the type and name that a URL names."""
    return query.get("type", "") in ("", one.type) and query.get("name", "") in one.name


def _counts(inspector: Inspector, task_type: str) -> dict[str, int]:
    """Return how many tasks of a type, or of all in an overview, are in the states that are counted."""
    stats = inspector.stats([task_type] if task_type else inspector.glance()[0])
    return {name: sum(getattr(one, name) for one in stats) for name in STATES}


def _recent(inspector: Inspector, name: str) -> list[TaskRow]:
    """Return tasks that run or ended lately, the newest first."""
    rows = [row for state, most in RECENT for row in inspector.tasks(state, name, limit=most).rows]
    return sorted(rows, key=lambda row: -row.at_ms)


def _editable(info: TaskInfo, redaction: Redaction) -> bool:
    return redaction.complete and info.state == "dead" and not decode_error(info.payload)

"""Forms that write: each checks the role, asks for confirmation if it deletes, and goes through the admin.

Owns the way from a form to an action and back to a page. Actions on many dead letters are done in slices of a
second or two: the page in between shows the progress and continues, and leaving it loses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from streamq.control.action_log import new_action
from streamq.control.admin import Admin
from streamq.dashboard.auth import Principal
from streamq.dashboard.commands import Desks, authorized, perform
from streamq.dashboard.context import Site
from streamq.dashboard.forms import (
    check_target,
    number,
    read_confirmation,
    read_form,
    required,
    selection,
    where_wrong,
)
from streamq.dashboard.pages import Pages
from streamq.dashboard.render import NOTICE, moment
from streamq.dashboard.security import is_form_token
from streamq.errors import PayloadError

SLICE: Final = 1.5
"""Seconds of work on many dead letters between two pages."""


class Actions:
    """Routes of the actions of a site."""

    def __init__(self, site: Site, pages: Pages) -> None:
        self._site, self._pages = site, pages

    def routes(self) -> list[Route]:
        return [
            Route("/confirm/{action}", self.confirm, methods=["GET"]),
            Route("/do/{action}", self.do, methods=["POST"]),
        ]

    def confirm(self, request: Request) -> Response:
        """Show what will be done to how many, and ask for confirmation."""
        action = authorized(request, request.path_params["action"])
        given = read_confirmation(request)
        if given.keys() == {"back"}:  # the list's form, with nothing ticked
            back = given["back"] + ("&" if "?" in given["back"] else "?") + "nothing=1"
            return RedirectResponse(request.scope.get("root_path", "") + _local_path(back), 303)
        check_target(action, given)
        back = request.scope.get("root_path", "") + _local_path(given["back"]) if "back" in given else ""
        return self._site.render.page(
            request, "confirm.html", action=action, given=given, number=self._number(action, given),
            question=_question(action, given), back=back,
        )  # fmt: skip

    def _number(self, action: str, given: dict[str, str]) -> int | None:
        if action in ("requeue", "purge") and "type" in given:
            return self._site.queue.inspector.count_dead(selection(given))
        return len(given["ids"].split()) if "ids" in given else 1 if "id" in given else None

    async def do(self, request: Request) -> Response:
        """Perform the action of a form."""
        action = authorized(request, request.path_params["action"])
        form = await read_form(request)
        if not is_form_token(request, form.pop("token", "")):
            raise HTTPException(403, "The form has expired. Go back, reload the page and try again.")
        check_target(action, form)
        principal: Principal = request.scope["principal"]
        return await run_in_threadpool(self._do, request, action, form, principal.name)

    def _do(self, request: Request, action: str, form: dict[str, str], by: str) -> Response:
        admin = self._site.queue.admin.acting_for(by)
        if action == "resubmit":
            return self._edited(request, form, admin)
        if action in ("requeue", "purge") and "type" in form:
            return self._many(request, action, form, admin)
        notice, back = perform(action, form, Desks.acting_for(self._site.queue, by))
        return self._back(request, form.get("back") or back, notice)

    def _edited(self, request: Request, form: dict[str, str], admin: Admin) -> Response:
        """Requeue a dead letter with other arguments; if these are refused, return what was typed and why."""
        task_id, typed = required(form, "id"), required(form, "payload")
        try:
            new = admin.resubmit(task_id, typed.encode())
        except PayloadError as error:
            return self._pages.task_page(request, task_id, typed, where_wrong(typed) or str(error))
        if new is None:
            return self._back(request, f"/tasks/{task_id}", "It was no longer a dead letter.")
        return self._back(request, f"/tasks/{new}", "Requeued with the new arguments, as a new task.")

    def _many(self, request: Request, action: str, form: dict[str, str], admin: Admin) -> Response:
        inspector = self._site.queue.inspector
        form["until"] = form.get("until") or str(inspector.now_ms())
        form.setdefault("action", new_action())
        chosen = selection(form)
        in_steps = admin.requeue_in_steps if action == "requeue" else admin.purge_in_steps
        moved = _work(in_steps(chosen, action=form["action"]))
        done = number(form.get("done", "0")) + moved
        left = inspector.count_dead(chosen)
        past = "requeued" if action == "requeue" else "purged"
        if not left or not moved:
            skipped = f" {left:,} were skipped: they have no payload, so they cannot run." if left else ""
            return self._back(request, "/dead", f"{done:,} dead letters {past}.{skipped}")
        given = {**form, "done": str(done)}
        return self._site.render.page(
            request, "progress.html", action=action, given=given, done=done, left=left, past=past
        )

    def _back(self, request: Request, path: str, notice: str) -> Response:
        """Redirect to a page of the site that shows a notice. The notice travels in a cookie: in the URL,
        other sites could forge it."""
        root = request.scope.get("root_path", "")
        response = RedirectResponse(root + _local_path(path), 303)
        response.set_cookie(
            NOTICE, quote(notice), max_age=30, path=root or "/", httponly=True, samesite="strict"
        )
        return response


def _local_path(path: str) -> str:
    """Return the path that a form names if it is on this site, otherwise the front page."""
    return quote(path if path.startswith("/") and path[1:2] not in ("/", "\\") else "/", safe="/?=&%:+")


def _work(steps: Iterator[int]) -> int:
    """Take steps until the time is up; return how many dead letters were moved."""
    until, done = time.monotonic() + SLICE, 0
    for step in steps:
        done += step
        if time.monotonic() > until:
            break
    return done


def _question(action: str, given: dict[str, str]) -> str:
    what = given.get("id") or given.get("worker") or given.get("schedule")
    what = what or given.get("flow") or given.get("type", "")
    texts = {
        "cancel": f"Cancel task {what}?",
        "drain": f"Drain worker {what}? It fetches no more tasks, finishes those that run and ends.",
        "pause": f"Pause task type {what}? Workers do not run it until it is resumed; "
        "enqueue still accepts tasks.",
        "pause-schedule": f"Pause schedule {what}? It makes no more runs until it is resumed.",
        "run-schedule": f"Make a run of schedule {what} now, besides those that are due?",
        "remove-schedule": f"Remove schedule {what}? One that code declares comes back when a worker starts.",
        "cancel-flow": f"Cancel flow {what}? What waits is skipped, what is ready is cancelled, "
        "and what runs is asked to stop.",
        "retry-flow": f"Retry flow {what} from node {given.get('start', '')}? It runs again, with all "
        "that waits for it.",
        "forget": f"Forget task type {what}? Its name, policy, counters and history are deleted.",
    }
    verb = action.replace("-", " ").capitalize()
    if "ids" in given:
        return f"{verb} these dead letters?"
    if "id" in given:
        return texts.get(action, f"{verb} dead letter {what}?")
    return texts.get(action, f"{verb} all dead letters of {what}{_filters(given)}?")


def _filters(given: dict[str, str]) -> str:
    """Return the filters of a selection, in words."""
    parts = [
        f" of group {given['fingerprint']}" if given.get("fingerprint") else "",
        f" whose error contains {given['error']!r}" if given.get("error") else "",
        f" that died since {moment(number(given['since']))}" if given.get("since") else "",
        f" that died before {moment(number(given['until']))}" if given.get("until") else "",
    ]
    return "".join(parts)

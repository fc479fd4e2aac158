"""The forms that write: each checks who asks, asks back before it destroys, and goes through the admin.

Owns the way from a form to an action and back to a page. What concerns many dead letters is done in
slices of a second or two: the page in between tells how far it is and goes on, and whoever leaves it has
lost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from streamq.control.action_log import new_action
from streamq.control.admin import Admin
from streamq.dashboard.auth import Principal
from streamq.dashboard.commands import act, allowed
from streamq.dashboard.context import Site
from streamq.dashboard.forms import asked, number, one_target, posted, selection
from streamq.dashboard.render import SAID, moment
from streamq.dashboard.security import good_token

SLICE: Final = 1.5
"""Seconds of work on many letters between two pages."""


class Actions:
    """The actions of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        return [
            Route("/confirm/{action}", self.confirm, methods=["GET"]),
            Route("/do/{action}", self.do, methods=["POST"]),
        ]

    def confirm(self, request: Request) -> Response:
        """Ask back: what will be done, to how many."""
        action = allowed(request, request.path_params["action"])
        given = asked(request)
        one_target(action, given)
        values: dict[str, Any] = {"given": given, "number": self._number(action, given)}
        values["question"] = _question(action, given)
        values["back"] = request.scope.get("root_path", "") + _ours(given["back"]) if "back" in given else ""
        return self._site.render.page(request, "confirm.html", action=action, **values)

    def _number(self, action: str, given: dict[str, str]) -> int | None:
        if action in ("requeue", "purge") and "type" in given:
            return self._site.queue.inspector.count_dead(selection(given))
        return len(given["ids"].split()) if "ids" in given else 1 if "id" in given else None

    async def do(self, request: Request) -> Response:
        """Carry out what a form asks for."""
        action = allowed(request, request.path_params["action"])
        form = await posted(request)
        if not good_token(request, form.pop("token", "")):
            raise HTTPException(
                403, "The form was too old, or not ours: go back, load the page anew and try again."
            )
        one_target(action, form)
        principal: Principal = request.scope["principal"]
        return await run_in_threadpool(self._do, request, action, form, principal.name)

    def _do(self, request: Request, action: str, form: dict[str, str], by: str) -> Response:
        admin = self._site.queue.admin.acting_for(by)
        if action in ("requeue", "purge") and "type" in form:
            return self._many(request, action, form, admin)
        said, back = act(action, form, admin, self._site.queue.schedules.acting_for(by))
        return self._back(request, form.get("back") or back, said)

    def _many(self, request: Request, action: str, form: dict[str, str], admin: Admin) -> Response:
        inspector = self._site.queue.inspector
        form["until"] = form.get("until") or str(inspector.now_ms())
        form.setdefault("action", new_action())
        chosen = selection(form)
        selected = admin.requeue_in_steps if action == "requeue" else admin.purge_in_steps
        steps = selected(chosen, action=form["action"])
        worked = _work(steps)
        done = number(form.get("done", "0")) + worked
        left = inspector.count_dead(chosen)
        past = "requeued" if action == "requeue" else "purged"
        if not left or not worked:
            stay = f" {left:,} stay: they have no payload, so they cannot run." if left else ""
            return self._back(request, "/dead", f"{done:,} dead letters {past}.{stay}")
        given = {**form, "done": str(done)}
        return self._site.render.page(
            request, "progress.html", action=action, given=given, done=done, left=left, past=past
        )

    def _back(self, request: Request, path: str, said: str) -> Response:
        """To a page of ours, which says what was done. The words travel in a cookie: in the address
        anybody could put words into our mouth."""
        root = request.scope.get("root_path", "")
        response = RedirectResponse(root + _ours(path), 303)
        response.set_cookie(SAID, quote(said), max_age=30, path=root or "/", httponly=True, samesite="strict")
        return response


def _ours(path: str) -> str:
    """A path that a form names, where it is one of this site."""
    return quote(path if path.startswith("/") and path[1:2] not in ("/", "\\") else "/", safe="/?=&%:+")


def _work(steps: Iterator[int]) -> int:
    """Take steps until the time is up."""
    until, done = time.monotonic() + SLICE, 0
    for step in steps:
        done += step
        if time.monotonic() > until:
            break
    return done


def _question(action: str, given: dict[str, str]) -> str:
    what = given.get("id") or given.get("worker") or given.get("schedule") or given.get("type", "")
    texts = {
        "cancel": f"Cancel task {what}?",
        "drain": f"Drain worker {what}? It takes no more tasks, finishes those in hand and ends.",
        "pause": f"Pause task type {what}? Workers leave it alone until it is resumed; "
        "enqueue goes on accepting.",
        "pause-schedule": f"Pause schedule {what}? It makes no more runs until it is resumed.",
        "run-schedule": f"Make a run of schedule {what} now, beside those that are due?",
        "remove-schedule": f"Remove schedule {what}? One that code declares comes back when a worker starts.",
        "forget": f"Forget task type {what}? Its name, policy, counters and history go for good.",
    }
    verb = action.replace("-", " ").capitalize()
    if "ids" in given:
        return f"{verb} these dead letters?"
    if "id" in given:
        return texts.get(action, f"{verb} dead letter {what}?")
    return texts.get(action, f"{verb} all dead letters of {what}{_narrowed(given)}?")


def _narrowed(given: dict[str, str]) -> str:
    """What of a type is meant, in words."""
    parts = [
        f" of group {given['fingerprint']}" if given.get("fingerprint") else "",
        f" whose error contains {given['error']!r}" if given.get("error") else "",
        f" that died since {moment(number(given['since']))}" if given.get("since") else "",
        f" that died before {moment(number(given['until']))}" if given.get("until") else "",
    ]
    return "".join(parts)

"""The forms that write: each checks who asks, asks back before it destroys, and goes through the admin.

Owns the way from a form to an action and back to a page. What concerns many dead letters is done in
slices of a second or two: the page in between tells how far it is and goes on, and whoever leaves it has
lost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from streamq.admin import Admin
from streamq.dashboard.access import MAY, Principal
from streamq.dashboard.guard import good_token
from streamq.dashboard.render import SAID, moment
from streamq.deadgroups import END_MS, DeadSelection
from streamq.operations import new_action

if TYPE_CHECKING:
    from streamq.dashboard.site import Site

MOST_BYTES: Final = 2 * 1024 * 1024
SLICE: Final = 1.5
"""Seconds of work on many letters between two pages."""
MOST_IDS: Final = 200
_MANY: Final = {"id", "ids", "type", "fingerprint", "error", "since", "until", "action", "done"}
_FIELDS: Final[dict[str, set[str]]] = {
    "pause": {"type", "reason"}, "resume": {"type"}, "drain": {"worker"}, "cancel": {"id"}, "run-now": {"id"},
    "resubmit": {"id", "payload"}, "forget": {"type", "results"}, "requeue": _MANY, "purge": _MANY,
}  # fmt: skip
"""What each action may be told, beside the page to go `back` to."""
_YES: Final = {"yes": True, "true": True, "": False, "no": False, "false": False}


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
        given = _asked(request)
        one_target(action, given)
        number, question = self._number(action, given), _question(action, given)
        values: dict[str, Any] = {"given": given, "number": number, "question": question}
        values["back"] = request.scope.get("root_path", "") + _ours(given["back"]) if "back" in given else ""
        return self._site.render.page(request, "confirm.html", action=action, **values)

    def _number(self, action: str, given: dict[str, str]) -> int | None:
        if action in ("requeue", "purge") and "type" in given:
            return self._site.queue.inspector.count_dead(selection(given))
        return len(given["ids"].split()) if "ids" in given else 1 if "id" in given else None

    async def do(self, request: Request) -> Response:
        """Carry out what a form asks for."""
        action = allowed(request, request.path_params["action"])
        form = await _form(request)
        if not good_token(request, form.pop("token", "")):
            raise HTTPException(
                403, "The form was too old, or not ours: go back, load the page anew and try again."
            )
        one_target(action, form)
        principal: Principal = request.scope["principal"]
        return await run_in_threadpool(
            self._do, request, action, form, self._site.queue.admin.acting_for(principal.name)
        )

    def _do(self, request: Request, action: str, form: dict[str, str], admin: Admin) -> Response:
        if action in ("requeue", "purge") and "type" in form:
            return self._many(request, action, form, admin)
        said, back = act(action, form, admin)
        return self._back(request, form.get("back") or back, said)

    def _many(self, request: Request, action: str, form: dict[str, str], admin: Admin) -> Response:
        inspector = self._site.queue.inspector
        form["until"] = form.get("until") or str(inspector.now_ms())
        form.setdefault("action", new_action())
        chosen = selection(form)
        selected = admin.requeue_in_steps if action == "requeue" else admin.purge_in_steps
        steps = selected(chosen, action=form["action"])
        worked = _work(steps)
        done = _number(form.get("done", "0")) + worked
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


def allowed(request: Request, action: str) -> str:
    """The action, where there is one of that name and whoever asks may do it."""
    if action not in MAY:
        raise HTTPException(404, "There is no such action.")
    principal: Principal = request.scope["principal"]
    if not principal.may(action):
        raise HTTPException(403, f"{principal.name} is {principal.role}; this takes the role {MAY[action]}.")
    return action


def act(action: str, given: dict[str, str], admin: Admin) -> tuple[str, str]:
    """Do one thing; answers what to say and where to go. Raises HTTPException and StreamQErrors."""
    match action:
        case "pause":
            changed = admin.pause(_need(given, "type"), given.get("reason", ""))
            return ("Paused." if changed else "It was paused already."), "/types"
        case "resume":
            changed = admin.resume(_need(given, "type"))
            return ("Resumed." if changed else "It was not paused."), "/types"
        case "forget":
            return _forget(_need(given, "type"), given.get("results", ""), admin), "/types"
        case "drain":
            found = admin.drain(_need(given, "worker"))
            return (
                "The worker was asked to drain." if found else "There is no such worker any more."
            ), "/workers"
        case "requeue" | "purge" if "ids" in given:
            return _chosen(action, given["ids"].split(), admin), "/dead"
        case _:
            return _task_action(action, _need(given, "id"), given, admin)


def _forget(task_type: str, results: str, admin: Admin) -> str:
    """Forget a task type; answers what to say."""
    if (drop := _YES.get(results.lower())) is None:
        raise HTTPException(400, "results: yes where those that are kept are to go too, else no.")
    admin.forget(task_type, results=drop)
    return f"Task type {task_type} is forgotten."


def _chosen(action: str, ids: list[str], admin: Admin) -> str:
    """Requeue or purge some letters; answers what to say."""
    if not 1 <= len(ids) <= MOST_IDS:
        raise HTTPException(400, f"1 to {MOST_IDS} dead letters are chosen at a time, not {len(ids)}.")
    done = admin.requeue(ids) if action == "requeue" else admin.purge(ids)
    gone = f" {len(ids) - done:,} were no dead letters any more." if done < len(ids) else ""
    return f"{done:,} dead letters {'requeued' if action == 'requeue' else 'purged'}.{gone}"


def _task_action(action: str, task_id: str, given: dict[str, str], admin: Admin) -> tuple[str, str]:
    page = f"/tasks/{task_id}"
    match action:
        case "cancel":
            answers = {
                "cancelled": "Cancelled.",
                "requested": "Its worker was asked to stop it.",
                "unknown": "There is no such task.",
            }
            return answers.get(admin.cancel(task_id), "It had ended already."), page
        case "run-now":
            return (
                "It is ready to run." if admin.run_now(task_id) else "It was not scheduled any more."
            ), page
        case "requeue":
            return ("Requeued." if admin.requeue([task_id]) else "It was no dead letter any more."), page
        case "purge":
            return ("Purged." if admin.purge([task_id]) else "It was no dead letter any more."), "/dead"
        case _:
            new = admin.resubmit(task_id, _need(given, "payload").encode())
            if new is None:
                return "It was no dead letter any more.", page
            return "Requeued with the new payload, as a new task.", f"/tasks/{new}"


def selection(given: dict[str, str]) -> DeadSelection:
    """Which dead letters a form is about."""
    return DeadSelection(
        _need(given, "type"),
        fingerprint=given.get("fingerprint", ""),
        error=given.get("error", ""),
        since_ms=_number(given.get("since") or "0"),
        until_ms=_number(given.get("until") or str(END_MS)),
    )


def _work(steps: Iterator[int]) -> int:
    """Take steps until the time is up."""
    until, done = time.monotonic() + SLICE, 0
    for number in steps:
        done += number
        if time.monotonic() > until:
            break
    return done


def _asked(request: Request) -> dict[str, str]:
    """What a page asks to confirm. Several ids become one value, with spaces between."""
    query = request.query_params
    given = dict(query.items())
    if len(ids := query.getlist("id")) > 1:
        del given["id"]
        given["ids"] = " ".join(ids)
    if len(given.get("ids", "").split()) > MOST_IDS:
        raise HTTPException(400, f"At most {MOST_IDS} dead letters are chosen at a time.")
    # Leaving out what is too long would mean more than what was asked for.
    if too_long := [
        name for name, value in given.items() if name not in ("ids", "back") and len(value) > 300
    ]:
        raise HTTPException(400, f"{too_long[0][:40]!r} has over 300 characters.")
    return given


def one_target(action: str, given: dict[str, str]) -> None:
    """Refuse what is about nothing, or about a letter and a whole type at once: the wider would win. So it
    would where the name of a limit is mistyped."""
    if unknown := sorted(given.keys() - _FIELDS[action] - {"back"}):
        raise HTTPException(
            400, f"{action} takes no {unknown[0][:40]!r}: it takes {', '.join(sorted(_FIELDS[action]))}."
        )
    if action not in ("requeue", "purge"):
        return
    named = given.keys() & {"id", "ids", "type"}
    if not named:
        raise HTTPException(400, "Nothing is selected: go back and tick what it is about.")
    if len(named) > 1:
        raise HTTPException(400, f"Say one of {', '.join(sorted(named))}, not all.")


def _need(given: dict[str, str], name: str) -> str:
    if value := given.get(name, ""):
        return value
    raise HTTPException(400, f"The form lacks {name!r}.")


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 13:
        return int(text)
    raise HTTPException(400, f"{text[:20]!r} is no number.")


def _question(action: str, given: dict[str, str]) -> str:
    what = given.get("id") or given.get("worker") or given.get("type", "")
    texts = {
        "cancel": f"Cancel task {what}?",
        "drain": f"Drain worker {what}? It takes no more tasks, finishes those in hand and ends.",
        "pause": f"Pause task type {what}? Workers leave it alone until it is resumed; "
        "enqueue goes on accepting.",
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
        f" that died since {moment(_number(given['since']))}" if given.get("since") else "",
        f" that died before {moment(_number(given['until']))}" if given.get("until") else "",
    ]
    return "".join(parts)


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _form(request: Request) -> dict[str, str]:
    """A posted form; no uploads, so no parser of others is needed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"A form has at most {MOST_BYTES:,} bytes.")
    if media_type(request) != "application/x-www-form-urlencoded":
        raise HTTPException(415, "A form is application/x-www-form-urlencoded.")
    try:
        fields: dict[str, Any] = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=50)
    except ValueError as error:
        raise HTTPException(400, f"The form cannot be read: {error}") from None
    return {name: values[-1] for name, values in fields.items()}

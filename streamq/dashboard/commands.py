"""One action through the admin, and what to say about it.

Owns the way from an action's name and fields to a method of the admin and back to words, for forms and for
the API. Checks who asks; reads no request body and builds no page.
"""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from streamq.control.admin import Admin
from streamq.control.schedules import Schedules
from streamq.dashboard.auth import MAY, Principal
from streamq.dashboard.forms import MOST_IDS, need

_YES: Final = {"yes": True, "true": True, "": False, "no": False, "false": False}


def allowed(request: Request, action: str) -> str:
    """The action, where there is one of that name and whoever asks may do it."""
    if action not in MAY:
        raise HTTPException(404, "There is no such action.")
    principal: Principal = request.scope["principal"]
    if not principal.may(action):
        raise HTTPException(403, f"{principal.name} is {principal.role}; this takes the role {MAY[action]}.")
    return action


def act(action: str, given: dict[str, str], admin: Admin, schedules: Schedules) -> tuple[str, str]:
    """Do one thing; answers what to say and where to go. Raises HTTPException and StreamQErrors."""
    match action:
        case "pause-schedule" | "resume-schedule" | "run-schedule" | "remove-schedule":
            return _schedule(action, need(given, "schedule"), given, schedules), "/schedules"
        case "pause":
            changed = admin.pause(need(given, "type"), given.get("reason", ""))
            return ("Paused." if changed else "It was paused already."), "/types"
        case "resume":
            changed = admin.resume(need(given, "type"))
            return ("Resumed." if changed else "It was not paused."), "/types"
        case "forget":
            return _forget(need(given, "type"), given.get("results", ""), admin), "/types"
        case "drain":
            found = admin.drain(need(given, "worker"))
            return (
                "The worker was asked to drain." if found else "There is no such worker any more."
            ), "/workers"
        case "requeue" | "purge" if "ids" in given:
            return _chosen(action, given["ids"].split(), admin), "/dead"
        case _:
            return _task_action(action, need(given, "id"), given, admin)


def _schedule(action: str, name: str, given: dict[str, str], schedules: Schedules) -> str:
    """Do one thing to a schedule; answers what to say."""
    match action:
        case "pause-schedule":
            done = schedules.pause(name, given.get("reason", ""))
            return "Paused." if done else "It was paused already."
        case "resume-schedule":
            return "Resumed." if schedules.resume(name) else "It was not paused."
        case "run-schedule":
            return f"A run is ready: {schedules.run_now(name)}."
        case _:
            return "Removed." if schedules.remove(name) else "There is no such schedule any more."


def _forget(task_type: str, results: str, admin: Admin) -> str:
    """Forget a task type; return what to say."""
    if (drop := _YES.get(results.lower())) is None:
        raise HTTPException(400, "results: yes if those that are kept are to go too, else no.")
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
            new = admin.resubmit(task_id, need(given, "payload").encode())
            if new is None:
                return "It was no dead letter any more.", page
            return "Requeued with the new payload, as a new task.", f"/tasks/{new}"

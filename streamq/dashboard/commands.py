"""Perform one action through the admin.

Owns the way from an action's name and fields to a method of the admin and back to a notice, for forms and for
the API, and the check of the role. Must not read request bodies or build pages.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request

from streamq.control.admin import Admin
from streamq.control.flows import Flows
from streamq.control.schedules import Schedules
from streamq.dashboard.auth import REQUIRED_ROLE, Principal
from streamq.dashboard.context import Queue
from streamq.dashboard.forms import MOST_IDS, required

_YES: Final = {"yes": True, "true": True, "": False, "no": False, "false": False}


def authorized(request: Request, action: str) -> str:
    """Return the action if it exists and the principal may perform it. Raise HTTPException."""
    if action not in REQUIRED_ROLE:
        raise HTTPException(404, f"Unknown action {action[:40]!r}: use {', '.join(REQUIRED_ROLE)}.")
    principal: Principal = request.scope["principal"]
    if not principal.may(action):
        raise HTTPException(
            403, f"{principal.name} has the role {principal.role}: {action} needs {REQUIRED_ROLE[action]}."
        )
    return action


class Desks(NamedTuple):
    """What actions go through, each in the name of who asked."""

    admin: Admin
    schedules: Schedules
    flows: Flows

    @classmethod
    def acting_for(cls, queue: Queue, by: str) -> Desks:
        """Return those of a queue."""
        return cls(queue.admin.acting_for(by), queue.schedules.acting_for(by), queue.flows.acting_for(by))


def perform(action: str, given: dict[str, str], desks: Desks) -> tuple[str, str]:
    """Perform an action; return a notice and the page to go to. Raise HTTPException and StreamQErrors."""
    admin = desks.admin
    match action:
        case "cancel-flow" | "retry-flow":
            flow = required(given, "flow")
            return _flow(action, flow, given, desks.flows), f"/flows/{flow}"
        case "pause-schedule" | "resume-schedule" | "run-schedule" | "remove-schedule":
            return _schedule(action, required(given, "schedule"), given, desks.schedules), "/schedules"
        case "drain" | "dismiss":
            return _worker(action, required(given, "worker"), admin), "/workers"
        case "pause":
            changed = admin.pause(required(given, "type"), given.get("reason", ""))
            return ("Paused." if changed else "The task type was already paused."), "/"
        case "resume":
            changed = admin.resume(required(given, "type"))
            return ("Resumed." if changed else "The task type was not paused."), "/"
        case "forget":
            return _forget(required(given, "type"), given.get("results", ""), admin), "/"
        case "requeue" | "purge" if "ids" in given:
            return _chosen(action, given["ids"].split(), admin), "/dead"
        case _:
            return _task_action(action, required(given, "id"), given, admin)


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


def _flow(action: str, flow: str, given: dict[str, str], flows: Flows) -> str:
    """Do one thing to a flow; answers what to say."""
    if action == "cancel-flow":
        if (keep := _YES.get(given.get("keep", "").lower())) is None:
            raise HTTPException(400, "keep: use yes to leave what has completed as it is, otherwise no.")
        return "Cancelled." if flows.cancel(flow, undo=not keep) else "The flow had already ended."
    start = [given["start"]] if given.get("start") else []
    return "The flow goes on." if flows.retry(flow, start=start) else "The flow has not failed."


def _worker(action: str, name: str, admin: Admin) -> str:
    """Do one thing to a worker; answers what to say."""
    if action == "drain":
        return "The worker was asked to drain." if admin.drain(name) else "The worker no longer exists."
    return "Dismissed." if admin.dismiss(name) else "The worker is no longer listed."


def _forget(task_type: str, results: str, admin: Admin) -> str:
    """Forget a task type; return a notice."""
    if (drop := _YES.get(results.lower())) is None:
        raise HTTPException(400, "results: use yes to delete kept results too, otherwise no.")
    admin.forget(task_type, results=drop)
    return f"Task type {task_type} was forgotten."


def _chosen(action: str, ids: list[str], admin: Admin) -> str:
    """Requeue or purge dead letters by id; return a notice."""
    if not 1 <= len(ids) <= MOST_IDS:
        raise HTTPException(400, f"{len(ids)} dead letters were selected: select 1 to {MOST_IDS}.")
    done = admin.requeue(ids) if action == "requeue" else admin.purge(ids)
    gone = f" {len(ids) - done:,} were no longer dead letters." if done < len(ids) else ""
    return f"{done:,} dead letters {'requeued' if action == 'requeue' else 'purged'}.{gone}"


def _task_action(action: str, task_id: str, given: dict[str, str], admin: Admin) -> tuple[str, str]:
    page = f"/tasks/{task_id}"
    match action:
        case "cancel":
            answers = {
                "cancelled": "Cancelled.",
                "requested": "Its worker was asked to stop it.",
                "unknown": "The task does not exist.",
            }
            return answers.get(admin.cancel(task_id), "The task had already ended."), page
        case "run-now":
            return (
                "The task is ready to run." if admin.run_now(task_id) else "The task was no longer scheduled."
            ), page
        case "requeue":
            return ("Requeued." if admin.requeue([task_id]) else "It was no longer a dead letter."), page
        case "purge":
            return ("Purged." if admin.purge([task_id]) else "It was no longer a dead letter."), "/dead"
        case _:
            new = admin.resubmit(task_id, required(given, "payload").encode())
            if new is None:
                return "It was no longer a dead letter.", page
            return "Requeued with the new payload, as a new task.", f"/tasks/{new}"

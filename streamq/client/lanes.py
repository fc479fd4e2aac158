"""Tasks that were sent by the name of their type, of a type that has lanes: which lane each is in.

Owns the reading of their arguments, which a sender without the handler's code does once the server has named
the argument. Asks no server.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from streamq import joining
from streamq.errors import DecodeError, UsageError
from streamq.model.task import NewTask
from streamq.options.lane import NO_LANE, of_argument
from streamq.payloads.pipeline import opened
from streamq.payloads.stage import About


def named(tasks: Sequence[NewTask], argument: str, task_type: str, app: str) -> list[NewTask]:
    """Return the same tasks, each with the lane that its arguments name. Raises UsageError if they cannot
    tell."""
    return [task if joining.has_lane(task) else _named(task, argument, task_type, app) for task in tasks]


def _named(task: NewTask, argument: str, task_type: str, app: str) -> NewTask:
    lane = _lane(task.payload, argument, task_type, app) if argument else NO_LANE
    return joining.in_lane(task, lane)


def _lane(payload: bytes, argument: str, task_type: str, app: str) -> str:
    try:
        arguments = orjson.loads(opened(payload, About(app, task_type, "payload")))
    except (DecodeError, ValueError) as error:
        raise UsageError(
            f"task type {task_type!r} has lanes, and its arguments cannot be read here ({error}): name the "
            f"lane, as send({task_type!r}, ..., lane=...)"
        ) from None
    return of_argument(arguments, argument, task_type)

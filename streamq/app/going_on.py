"""A task that goes on as a new run of its type: what `continue_as_new` in a handler asks for.

Owns which calls can be a new run. Sends nothing: it travels with the settlement of the attempt.
"""

from __future__ import annotations

import threading
from typing import Final

from streamq import joining
from streamq.app.batch import checked
from streamq.app.bound_task import Bound, BoundNode
from streamq.errors import InvalidArguments, InvalidOption, UsageError
from streamq.model.delivery import Delivery
from streamq.model.effect import NEW_RUN, Continued, Spawned
from streamq.model.task import NewTask
from streamq.payloads.pipeline import opened
from streamq.payloads.stage import About
from streamq.registry.registry import Registry

_ONCE: Final = "the attempt goes on as a new run already: call continue_as_new() once, and return its value"
_CHILDREN: Final = (
    "the attempt has spawned children, and only the last run of a node has any: spawn them there"
)


class GoingOn:
    """Takes the new runs that an app's handlers ask for. Safe to call in any thread."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()

    def go_on(self, task: Delivery, before: list[object], call: Bound[object]) -> object:
        """Check a call and add it to what was enqueued before; return what stands for its result."""
        if isinstance(call, BoundNode):
            raise InvalidArguments("a new run is given values: the output of a flow's node has none yet")
        [call] = checked([call], self._registry.name, self._registry.handlers)
        self._check(task, call)
        new = Continued(self._own(task, call))
        with self._lock:
            for one in before:
                if isinstance(one, Continued | Spawned):
                    raise UsageError(_ONCE if isinstance(one, Continued) else _CHILDREN)
            before.append(new)
        return NEW_RUN

    def _check(self, task: Delivery, call: Bound[object]) -> None:
        """Raise for a call that cannot be a new run of this task as it is meant."""
        own, name = self._registry.handlers.get(task.type), call.handler.name
        if (
            own is None
            or own.function is not call.handler.function
            or name not in _names(task.type, own.name)
        ):
            raise UsageError(
                f"task {task.id} cannot go on as a task of type {name!r}: a new run is of the same type. "
                "Enqueue another task with get_context().enqueue(...)"
            )
        if call.task.key is not None:
            raise InvalidOption("idempotency_key: a new run exists once, as its attempt does. Leave it out")
        lane = str(joining.parts(call.task.joins).get("lane", "")) if call.task.joins else ""
        if lane and task.lane is not None and lane != task.lane:
            raise InvalidOption(
                f"task {task.id} keeps its lane {task.lane!r}, and this call is of lane {lane!r}: enqueue "
                "another task"
            )
        if call.route is not None and call.route.shard_key is not None and not call.task.joins:
            raise InvalidOption("shard_key: a new run stays in the shard of its task. Leave it out")

    def _own(self, task: Delivery, call: Bound[object]) -> NewTask:
        """Return the task of a call as one of this task's own name: of a pool, or an alias."""
        pipeline, new, name = self._registry.pipeline, call.task, call.handler.name
        if pipeline is None or name == task.type:
            return new
        plain = opened(new.payload, About(self._registry.name, name, "payload"))
        return new._replace(payload=pipeline.seal(plain, About(self._registry.name, task.type, "payload")))


def _names(task_type: str, own: str) -> tuple[str, ...]:
    """Return the names that calls of this task type may have. own: that of its handler, if it is an alias."""
    return task_type, own, task_type.partition("@")[0]

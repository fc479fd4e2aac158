"""Follow-ups: tasks that a handler enqueues, which exist from the moment that its own task is completed.

Owns their checks, their ids and their bounds. Must not send anything: they travel with the settlement of the
attempt, to the shard of its task.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

from streamq.app.batch import checked
from streamq.app.bound_task import Bound
from streamq.app.enqueuer import Enqueuer
from streamq.app.handle import TaskHandle
from streamq.envelope import PARENT
from streamq.errors import InvalidOption, PayloadError
from streamq.hooks import Enqueue, call_within
from streamq.model.delivery import Delivery
from streamq.model.effect import FollowUp
from streamq.model.task import LETTER, Accepted, NewTask, TaskId
from streamq.registry.registry import Registry

MOST: Final = 100
"""The most follow-ups of one attempt. All of a settlement are written by one script, which must be short."""
MOST_BYTES: Final = 524_288
"""The most bytes of their arguments together."""
_OWN: Final = 1 << 62
"""The numbers of their ids are beyond this: the server gives none as high to an entry of a stream."""


class FollowUps:
    """Takes the follow-ups of an app's handlers. Safe to call in any thread."""

    def __init__(self, registry: Registry, enqueuer: Enqueuer) -> None:
        self._registry, self._enqueuer = registry, enqueuer
        self._lock = threading.Lock()

    def follow(
        self, task: Delivery, before: list[object], calls: Iterable[Bound[object]]
    ) -> list[TaskHandle[Any]]:
        """Check calls and add them to those before; return their handles. Adds all or none."""
        listed = checked(list(calls), self._registry.name, self._registry.handlers)
        for call in listed:
            self._check(call, task.shard)
        with self._lock:
            _check_bounds([one for one in before if isinstance(one, FollowUp)], listed)
            ids = [_local(task, len(before) + n, call.task) for n, call in enumerate(listed)]
            tasks = [_by(task, one) for one in self._within_hooks(listed, ids, task.shard)]
            before += [
                FollowUp(call.handler.name, local, new)
                for call, local, new in zip(listed, ids, tasks, strict=True)
            ]
        return [
            self._enqueuer.handle(call.handler, task.shard, Accepted(local))
            for call, local in zip(listed, ids, strict=True)
        ]

    def _check(self, call: Bound[object], shard: int) -> None:
        """Raise InvalidOption for a call that cannot be kept as it is meant."""
        name, route = call.handler.name, call.route
        if call.task.joins or call.handler.lock is not None or call.handler.options.gated:
            raise InvalidOption(
                f"task type {name!r} has lanes or unique keys, and a follow-up passes neither: enqueue it "
                "with its own `enqueue` or `aenqueue`, under an idempotency_key made of get_context().id"
            )
        if route is not None and route.shard_key is not None:
            raise InvalidOption(
                f"shard_key: a follow-up goes to the shard of its parent. Leave it out for {name!r}, or "
                "enqueue the task with its own `enqueue` or `aenqueue`"
            )
        if call.task.key is not None and (self._registry.shards > 1 or shard > 0):
            raise InvalidOption(
                f"idempotency_key: it chooses the shard, and a follow-up goes to that of its parent. An app "
                f"with several shards cannot have both: leave it out for {name!r} (a follow-up exists once "
                "without it), or enqueue the task with its own `enqueue` or `aenqueue`"
            )

    def _within_hooks(self, calls: Sequence[Bound[object]], ids: Sequence[str], shard: int) -> list[NewTask]:
        """Return the tasks as the hooks around enqueue calls leave them."""
        hooks = self._registry.hooks.enqueue
        tasks = [call.task for call in calls]
        by_type: dict[str, list[int]] = {}
        for n, call in enumerate(calls):
            by_type.setdefault(call.handler.name, []).append(n)
        for name, numbers in by_type.items() if hooks else ():
            group = Enqueue(self._registry.name, name, [tasks[n] for n in numbers])
            group.ids = tuple(str(TaskId(name, shard, ids[n])) for n in numbers)
            changed = call_within([around(group) for around in hooks], group.checked)
            for n, task in zip(numbers, changed, strict=True):
                tasks[n] = task
        return tasks


def _local(parent: Delivery, position: int, task: NewTask) -> str:
    """Return the local id of a follow-up: no other delivery, and no other position in this one, has it."""
    text = f"{parent.id}/{parent.place}/{position}".encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 2
    return f"{LETTER[task.priority]}{parent.place[1:].partition('-')[0]}-{_OWN | number}"


def _by(parent: Delivery, task: NewTask) -> NewTask:
    """Return a follow-up that names its parent."""
    return task._replace(fields=(*task.fields, (PARENT, str(parent.id).encode())))


def _check_bounds(before: Sequence[FollowUp], calls: Sequence[Bound[object]]) -> None:
    """Raise PayloadError if these are too many for one attempt."""
    if len(before) + len(calls) > MOST:
        raise PayloadError(
            f"{len(before) + len(calls)} follow-ups: one attempt can have {MOST}. Enqueue tasks that each "
            "enqueue a part of the rest"
        )
    size = sum(_size(one.task) for one in before) + sum(_size(call.task) for call in calls)
    if size > MOST_BYTES:
        raise PayloadError(
            f"the follow-ups of an attempt have {size:,} bytes, over the limit of {MOST_BYTES:,}. "
            "Store the data elsewhere and pass references"
        )


def _size(task: NewTask) -> int:
    return len(task.payload) + sum(len(value) for _, value in task.fields)

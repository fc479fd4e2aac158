"""The base of an operator's actions: who acts, and in which shards.

Owns the name in the log of actions. Must not act.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self

from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.control.action_log import user
from streamq.control.facade import Facade
from streamq.errors import UnknownTaskType
from streamq.flow import Flow, ask
from streamq.keys import ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.model.task import TaskId
from streamq.wording import listed


class ActionBase(Facade):
    """Actions on one app, in the name of `by`, in all shards that may hold tasks."""

    _by = ""

    def acting_for(self, by: str) -> Self:
        """Return a copy that acts in another name, which the log of actions shows."""
        found = copy.copy(self)
        found._by = by or user()  # noqa: SLF001 - its own class
        return found

    def _known(self) -> Flow[int]:
        """Return how many shards may hold tasks."""
        record = yield from ask(producer_calls.app_record(self._app))
        return max(self._shards, record.known if record is not None else 1)

    def _in_each_shard(self, make: Callable[[ShardKeys], Call[bool]]) -> Flow[bool]:
        changed = False
        for n in range((yield from self._known())):
            changed |= yield from ask(make(shard_keys(self._app, n)))
        return changed

    def _check_type(self, task_type: str) -> Flow[None]:
        known: set[str] = set()
        for n in range((yield from self._known())):
            known.update((yield from ask(question_calls.types(shard_keys(self._app, n)))))
        if task_type not in known:
            has = f"it has: {listed(known)}"
            raise UnknownTaskType(f"app {self._app!r} has no task type {task_type!r}; {has}")

    def _keys(self, task: TaskId) -> TypeKeys:
        return type_keys(self._app, task.shard, task.type)

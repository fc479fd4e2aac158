"""Which keys of a ring are in use: by everything that is stored of an app.

Owns the count. Needs no key: the id precedes what is sealed. Must not write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from streamq import envelope, memos
from streamq.calls import schedule as schedule_calls
from streamq.calls import signals as signal_calls
from streamq.calls import steps as step_calls
from streamq.control.schedule_rows import Rows
from streamq.control.task_list import TaskList
from streamq.control.task_rows import TaskFilter, TaskRow
from streamq.control.unreadable import Unreadable
from streamq.errors import InvalidTaskId
from streamq.flow import Flow, ask
from streamq.keys import type_keys
from streamq.model.task import State, TaskId
from streamq.payloads.pipeline import key_of

_LIVING: Final[tuple[State, ...]] = ("scheduled", "parked", "ready", "running")
_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How much is sealed with a key. key: its id; '' for what is not sealed. waiting: tasks that have not
    ended, by their arguments, errors, memos and signals. dead: dead letters. results: that are kept.
    schedules: by their arguments."""

    key: str
    waiting: int = 0
    dead: int = 0
    results: int = 0
    schedules: int = 0

    @property
    def total(self) -> int:
        """All together: a key of which it is 0 can be removed."""
        return self.waiting + self.dead + self.results + self.schedules


class KeyUses:
    """Counts in these shards of an app. Its notes of what could not be read go to `look`."""

    def __init__(self, app: str, shards: Sequence[int], look: Unreadable) -> None:
        self._app, self._shards, self._look = app, shards, look

    def count(self, types: Sequence[str]) -> Flow[list[KeyUse]]:
        """Return the use of each key, most used first."""
        waiting, dead, results = Counter[str](), Counter[str](), Counter[str]()
        for name in types:
            waiting += yield from self._living(name)
            dead += yield from self._in(name, ("dead",))
            results += yield from self._in(name, ("completed",))
        schedules = yield from self._of_schedules()
        found = [
            KeyUse(key, waiting[key], dead[key], results[key], schedules[key])
            for key in {*waiting, *dead, *results, *schedules}
        ]
        return sorted(found, key=lambda use: (-use.total, use.key))

    def _living(self, name: str) -> Flow[Counter[str]]:
        """Return the keys of tasks that have not ended. Looks twice: one that goes back from running to
        scheduled meanwhile is behind the first look."""
        first = yield from self._in(name, _LIVING)
        return first | (yield from self._in(name, _LIVING))

    def _in(self, name: str, states: Sequence[State]) -> Flow[Counter[str]]:
        found = Counter[str]()
        have = yield from self._have_memos(name, states)
        for state in states:
            cursor = "start"
            while cursor:
                listed = TaskList(self._app, self._shards)
                page = yield from listed.page(
                    state, [name], "" if cursor == "start" else cursor, _PAGE, TaskFilter()
                )
                self._look.note(*page.faults)
                for row in page.rows:
                    more = (yield from self._memos(row)) if have else set[str]()
                    if state in _LIVING:
                        more |= yield from self._mailbox(row)
                    found.update(_keys(row) | more or {""})
                cursor = page.cursor
        return found

    def _have_memos(self, name: str, states: Sequence[State]) -> Flow[bool]:
        if states[0] == "completed":
            return False
        for shard in self._shards:
            if (yield from self._look.ask(step_calls.number(type_keys(self._app, shard, name)), int)):
                return True
        return False

    def _memos(self, row: TaskRow) -> Flow[set[str]]:
        try:
            task, first, found = TaskId.parse(row.id), 1, set[str]()
        except InvalidTaskId as error:  # a damaged row
            self._look.note(str(error))
            return set()
        while first:
            call = step_calls.memos(type_keys(self._app, task.shard, task.type), task.local, first)
            first, some = yield from self._look.ask(call, lambda: step_calls.Memos(0, {}))
            found.update(key_of(memos.shown(name, raw)) for name, raw in some.items())
        found.discard("")
        return found

    def _mailbox(self, row: TaskRow) -> Flow[set[str]]:
        """Return the keys of the signals that a task has not taken yet."""
        try:
            task = TaskId.parse(row.id)
        except InvalidTaskId:
            return set()
        call = signal_calls.mail_heads(type_keys(self._app, task.shard, task.type), task.local)
        found = {key_of(value) for value in (yield from self._look.ask(call, list))}
        return found - {""}

    def _of_schedules(self) -> Flow[Counter[str]]:
        found = Counter[str]()
        for one in (yield from Rows(self._app, len(self._shards)).all(self._look)):
            payload = yield from ask(schedule_calls.payload(one.keys, one.name))
            found[key_of(payload or b"")] += 1
        return found


def _keys(row: TaskRow) -> set[str]:
    """Return the keys that a row is sealed with."""
    stored = row.fields.get("result") if row.state == "completed" else row.fields.get("p")
    return {key_of(stored or b""), *envelope.failure_keys(row.fields.get("f", b""))} - {""}

"""The twin's locks of unique keys: who holds each, what follows, and what a call whose key is held changes.

Pure, as the books. A lock whose holder is nowhere (its entry was deleted by hand) is a leftover: the next
task of the key takes it over.
"""

from __future__ import annotations

from typing import NamedTuple

from streamq import locks
from streamq.keys import SUCCESSOR_DUE_MS
from streamq.model.task import Answer, BacklogFull, Duplicate, Locked, NewTask, RateLimited
from streamq.options.unique_plan import DEBOUNCE, Plan
from tests.model.books import Books, Task, order


class Ask(NamedTuple):
    """What a call asks for: a key, until when it is held, and what a conflict does."""

    key: str
    conflict: str = "return"
    started: bool = False
    max_wait_ms: int = 0
    trailing_ms: int = 0
    """The interval of a throttle whose last call runs at its end; no lock then."""
    supersede: bool = False

    def joined(self, task: NewTask) -> NewTask:
        free = "started" if self.started else "done"
        if self.trailing_ms:
            plan = Plan((), self.key, throttle_ms=self.trailing_ms, trailing=True)
            return locks.joined("email", task, plan, b"{}")[0]
        plan = Plan((), self.key, free, self.conflict, max_wait_ms=self.max_wait_ms, supersede=self.supersede)  # type: ignore[arg-type]
        return locks.joined("email", task, plan, b"{}")[0]


def digest(key: str) -> str:
    return locks.digest("email", Plan(key=key), b"{}").hex()


class Locks(Books):
    """Locks and followers by key."""

    # -- who holds it ------------------------------------------------------------------------------------

    def holder(self, key: str) -> Task | None:
        task = self.tasks.get(self.unique.get(key, ""))
        return task if task is not None and task.state in ("scheduled", "ready", "running") else None

    def leftovers(self) -> list[str]:
        """The keys whose holder is nowhere."""
        return [key for key in self.unique if self.holder(key) is None]

    def lock(self, task: Task, ask: Ask) -> None:
        task.lock, task.until_started = ask.key, ask.started
        self.unique[ask.key] = task.local

    def _release(self, task: Task) -> None:
        if task.lock and self.unique.get(task.lock) == task.local:
            self.free(task.lock)
        elif task.lock and self.after.get(task.lock) == task.local:
            del self.after[task.lock]

    def free(self, key: str) -> None:
        """The lock goes to what follows, which is ready then."""
        follows = self.after.pop(key, None)
        self.unique.pop(key, None)
        if follows is not None:
            task = self.tasks[follows]
            self._append(task, task.priority)
            self.unique[key] = follows

    # -- a call whose key is held ------------------------------------------------------------------------

    def conflict(self, new: NewTask, ask: Ask, refused: Answer | None) -> Answer | str | None:
        """The answer, `new` where a task is to follow the holder, or None where the key is free. `refused`:
        what the limits say to one more task."""
        if ask.trailing_ms:
            return self._trailing(new, ask, refused)
        held = self.holder(ask.key)
        if held is None:
            return None
        started, follows = held.state == "running", self.after.get(ask.key)
        deleted = started and self.pending[held.place].deleted
        if started and held.until_started and not deleted and not follows:
            self._supersede(held, ask, refused)
            return None
        if ask.conflict in ("return", "raise"):
            self.counters["joined"] += 1
            return Duplicate(held.local) if ask.conflict == "return" else Locked(held.local)
        if not started and ask.conflict != "after":
            self.counters["replaced"] += 1
            self._change(held, new, ask)
            return Duplicate(held.local)
        if started and not deleted:
            self._supersede(held, ask, None if follows else refused)
        if follows is None:
            return refused or "new"
        task = self.tasks[follows]
        self.counters["replaced"] += 1
        self._rewrite(task, new, ask)
        task.priority = new.priority[0]
        return Duplicate(follows)

    def _trailing(self, new: NewTask, ask: Ask, refused: Answer | None) -> Answer | str | None:
        """The intervals do not end: the model's time is none of the records'."""
        last = self.throttled.get(ask.key)
        if last is None:
            return None
        task = self.tasks[last]
        if task.state != "scheduled" or task.place != last:
            return refused or "new"
        self.counters["replaced"] += 1
        self._rewrite(task, new, ask, order(last)[0])
        task.priority = new.priority[0]
        return Duplicate(last)

    def _supersede(self, held: Task, ask: Ask, refused: Answer | None) -> None:
        if ask.supersede and not refused and held.local not in self.cancels:
            self.counters["superseded"] += 1
            self.cancels.add(held.local)

    def follow(self, task: Task, ask: Ask) -> None:
        """A task that was accepted waits for the holder."""
        task.lock, task.until_started = ask.key, ask.started
        self.after[ask.key] = task.local

    def _rewrite(self, task: Task, new: NewTask, ask: Ask, due: int | None = None) -> None:
        task.payload, task.until_started, task.expires = new.payload, ask.started, None
        self.expiring.pop(task.local, None)
        if lifetime := dict(new.fields).get("x"):
            if new.due is not None:
                due = new.due + (0 if new.absolute else self.now)
            task.expires = max(due or self.now, self.now) + int(lifetime)
            self.expiring[task.local] = task.expires

    def _change(self, task: Task, new: NewTask, ask: Ask) -> None:
        letter = self._letter(task)
        due = self._due_anew(task, new, ask, letter)
        if ask.conflict != "reschedule":
            self._rewrite(task, new, ask)
            if letter != "s":
                task.priority = letter = new.priority[0]
        before = order(task.place)[0] if task.state == "scheduled" else None
        if task.state == "ready" and task.place:
            del self.streams[task.place[0]][task.place]
        self.fresh = [(one, where) for one, where in self.fresh if one is not task]
        if due is None or due <= self.now:
            self._append(task, letter)
        elif due != before:
            self._park(task, due)
            task.indexed = True

    def _letter(self, task: Task) -> str:
        if task.state == "scheduled":
            return task.priority
        return task.place[0] if task.place else next(where for one, where in self.fresh if one is task)

    def _due_anew(self, task: Task, new: NewTask, ask: Ask, letter: str) -> int | None:
        before = order(task.place)[0] if task.state == "scheduled" else None
        if ask.conflict == "replace" or (ask.conflict == DEBOUNCE and task.failed) or letter == "s":
            return before
        due = self.now if new.due is None else new.due + (0 if new.absolute else self.now)
        if ask.conflict == DEBOUNCE and ask.max_wait_ms:
            first = self.now if task.enqueued is None else task.enqueued
            due = min(due, first + ask.max_wait_ms)
        return due


def refusal_of(refused: str | int | None) -> Answer | None:
    if refused is None:
        return None
    return BacklogFull() if refused == "full" else RateLimited(int(refused))


FOLLOWS = SUCCESSOR_DUE_MS

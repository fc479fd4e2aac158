"""The operator's actions on task types, workers and tasks, and the facades of all actions.

Owns the loops over shards. Each step is one script, which also writes the log of actions. Must not write in
any other way. Actions on lanes and on dead letters are in `lane_actions` and `dead_letter_actions`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import orjson

from streamq.audit import Audit, Auditor, Mode
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls.locate import locate
from streamq.client import signals
from streamq.control import heartbeats, unique_locks
from streamq.control.action_log import note, user
from streamq.control.dead_letter_actions import DeadLetterActions
from streamq.control.facade import AsyncFacade, AsyncSource, SyncFacade, operation
from streamq.control.forgetting import Forgetting
from streamq.control.lane_actions import LaneActions
from streamq.control.unique_locks import digest_of
from streamq.errors import UsageError
from streamq.flow import Flow, ask
from streamq.keys import shard_keys, type_keys
from streamq.model.task import CancelAnswer, SignalAnswer, TaskId, cancel_answer
from streamq.payloads.pipeline import pipeline_for
from streamq.payloads.ring import ring_of
from streamq.transport.sync_transport import SyncTransport

CLOCK_MS = 1
"""Ages are rounded: a heartbeat that was seen must not look like a later one."""
UnlockResult = Literal["freed", "held", "free"]


class Unlocked(NamedTuple):
    """The result of `unlock`: freed; held, if its task lives and nothing was done; or free, if no task held
    it. holder: the task that held it."""

    result: UnlockResult
    holder: str


class Actions(LaneActions, DeadLetterActions):
    """All actions on one app."""

    # -- task types and workers ------------------------------------------------------------------------

    @operation
    def pause(self, task_type: str, reason: str = "") -> Flow[bool]:
        """Pause a type: within a second no worker starts a task of it. Running tasks go on, and enqueue still
        accepts tasks. Return whether it was not paused before. Raises UnknownTaskType."""
        yield from self._check_type(task_type)
        about = {"by": self._by, "reason": reason[:500], "at_ms": (yield from ask(question_calls.now()))}
        entry = note(self._by, "pause", task_type, reason=reason)
        return (
            yield from self._in_each_shard(
                lambda s: operator_calls.pause(s, task_type, orjson.dumps(about), entry)
            )
        )

    @operation
    def resume(self, task_type: str) -> Flow[bool]:
        """Resume a type; return whether it was paused. Raises UnknownTaskType."""
        entry = note(self._by, "resume", task_type)
        changed = yield from self._in_each_shard(lambda s: operator_calls.resume(s, task_type, entry))
        if not changed:
            yield from self._check_type(task_type)
        return changed

    @operation
    def forget(self, task_type: str, *, results: bool = False) -> Flow[None]:
        """Remove a type that is no longer used: its name, policy, counters and history, in all shards.

        Raises UnknownTaskType; and UsageError while a worker serves it, while it has tasks or dead letters,
        and while results are kept, unless `results` drops these. Scans the server's keys.
        """
        yield from self._check_type(task_type)
        forgetting = Forgetting(self._app, (yield from self._known()))
        yield from forgetting.forget(task_type, note(self._by, "forget", task_type), drop_results=results)

    @operation
    def drain(self, worker: str) -> Flow[bool]:
        """Drain a worker: it takes no more tasks, finishes those in flight and ends, as after SIGTERM. Return
        whether there is a worker of that name."""
        return ask(operator_calls.drain(shard_keys(self._app, 0), worker, note(self._by, "drain", worker)))

    @operation
    def dismiss(self, worker: str) -> Flow[bool]:
        """Take a dead worker off the lists; return whether there is one of that name. The tasks it held are
        given to others as before. Raises UsageError if it lives."""
        shard = shard_keys(self._app, 0)
        found = next((one for one in (yield from heartbeats.workers(self._app)) if one.name == worker), None)
        now_ms = yield from ask(
            question_calls.now()
        )  # read after the age, which is older then, never younger
        if found is None:
            return False
        seen_ms = -1 if found.alive else now_ms - round(found.last_beat_age * 1000) + CLOCK_MS
        step = operator_calls.dismiss(shard, worker, seen_ms, note(self._by, "dismiss", worker))
        answer = yield from ask(step)
        if answer < 0:
            raise UsageError(f"worker {worker} is alive: `streamq drain {worker}` ends it")
        return answer > 0

    # -- tasks -----------------------------------------------------------------------------------------

    @operation
    def cancel(self, task_id: str) -> Flow[CancelAnswer]:
        """Cancel the task; return the same as `TaskHandle.cancel`. Raises InvalidTaskId."""
        task, entry = TaskId.parse(task_id), note(self._by, "cancel", task_id)
        keys = self._keys(task)
        answer = yield from ask(producer_calls.cancel(keys, shard_keys(self._app, task.shard), task, entry))
        located = (yield from ask(locate(keys, task.local))) if answer == "unknown" else None
        return cancel_answer(answer, located.state if located else "dead")

    @operation
    def run_now(self, task_id: str, *, force: bool = False) -> Flow[bool]:
        """Make a scheduled task ready at once, or a parked one the first of its lane; return whether it was
        either. force: past its lane's limits, which count it. Raises InvalidTaskId, and UsageError where its
        lane is ordered or it waits for a signal."""
        task = TaskId.parse(task_id)
        told = note(self._by, "run now", task_id)
        return ask(operator_calls.run_now(self._keys(task), task.local, told, force=force))

    @operation
    def signal(self, task_id: str, name: str, value: object = None) -> Flow[SignalAnswer]:
        """Give a task a signal; return the same as `TaskHandle.signal`. Raises InvalidTaskId, InvalidOption
        and PayloadError."""
        task, sealed = TaskId.parse(task_id), ring_of(self._app) is not None
        told = note(self._by, "signal", f"{task_id} {signals.checked_name(name)}")
        raw = signals.encoded(value, pipeline_for(None, sealed=sealed), self._app, task, name)
        return signals.give(self._keys(task), task, name, raw, told)

    @operation
    def repair(
        self,
        *,
        dry_run: bool = False,
        write_off: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Flow[Audit]:
        """Audit, and repair what can be repaired, each in one script that checks again before it writes.

        dry_run: only report what would be done. write_off: after all else was checked, book the counters'
        difference as vanished or adopted.
        """
        mode: Mode = "dry" if dry_run else "repair"
        shards = yield from self._known()
        return (
            yield from Auditor(self._app, shards, mode=mode, write_off=write_off, progress=progress).run()
        )

    @operation
    def unlock(self, task_type: str, key: str, *, force: bool = False, reason: str = "") -> Flow[Unlocked]:
        """Free the lock of a unique key, if its task is gone. key: its digest, as in `app.inspector.locks`,
        or the text of a call's `unique`.

        force: also if the task lives; the key's next task may then run beside it. reason: for the log of
        actions. Raises UnknownTaskType.
        """
        digest = digest_of(self._app, task_type, key)
        yield from self._check_type(task_type)
        shards = range((yield from self._known()))
        held = yield from unique_locks.lock(self._app, list(shards), task_type, key)
        # A digest says nothing to who reads the log: the text of the key does, or the task that held it.
        named = f"key {key!r}" if digest != key.lower() else "a key"
        what = f"{task_type}: {named}" + (f", held by {held.holder}" if held else "")
        entry = note(self._by, "unlock", what, reason=reason)
        for n in shards:
            step = operator_calls.unlock(type_keys(self._app, n, task_type), digest, force=force, note=entry)
            answer, holder = yield from ask(step)
            if answer != "free":
                result: UnlockResult = "held" if answer == "held" else "freed"
                return Unlocked(result, str(TaskId(task_type, n, holder)))
        return Unlocked("free", "")


class Admin(SyncFacade, Actions, called="app.admin", awaited="app.aadmin"):
    """Acts on one app on one server, in the name of `by` (default: the user of this process), in all shards
    that may hold tasks, and at least `shards`."""

    def __init__(self, transport: SyncTransport, app: str, shards: int = 1, *, by: str = "") -> None:
        super().__init__(transport, app, shards)
        self._by = by or user()


class AsyncAdmin(AsyncFacade, Actions):
    """Acts as Admin does, for event loops: `await app.aadmin.pause("email")`."""

    def __init__(self, transport: AsyncSource, app: str, shards: int = 1, *, by: str = "") -> None:
        super().__init__(transport, app, shards)
        self._by = by or user()

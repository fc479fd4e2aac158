"""An operator's writes: pause, resume, forget, drain, cancel, run now, requeue, resubmit, purge.

Owns the loops over batches. Each batch is one script, so whatever was done when a loop is interrupted
is done, and the rest is as it was. What was done goes to the log of actions in the same script.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson

from streamq import calls
from streamq.app import sized
from streamq.audit import Audit, Auditor, Mode
from streamq.blocking import plain
from streamq.deadgroups import END_MS, DeadSelection, Groups
from streamq.depth import TOO_DEEP, too_deep
from streamq.errors import PayloadError, UnknownTaskType, UsageError
from streamq.forgetting import Forgetting
from streamq.keys import TypeKeys, shard_keys, type_keys
from streamq.model import CancelAnswer, Moved, TaskId, cancel_answer
from streamq.operations import note
from streamq.options import TaskOptions
from streamq.transport import SyncTransport
from streamq.wording import listed

BATCH: Final = 100

_Step = Callable[..., calls.Call[Moved]]


@plain("app.admin")
class Admin:
    """Acts on one app on one server, in the name of `by` (default: the user of this process), in all shards
    that may hold something, and at least `shards`."""

    def __init__(self, transport: SyncTransport, app: str, shards: int = 1, *, by: str = "") -> None:
        self._transport = transport
        self._app = transport.address.namespace.app(app)
        self._shards = shards
        self._by = by or _user()

    if not TYPE_CHECKING:  # which would take every name for an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.elsewhere import missing  # noqa: PLC0415 - for a slip only

            missing("Admin", name)

    def acting_for(self, by: str) -> Admin:
        """The same in somebody else's name: what the log of actions shows."""
        return Admin(self._transport, self._app, self._shards, by=by)

    def _known(self) -> int:
        """How many shards may hold something."""
        record = self._transport.run(calls.app_record(self._app))
        return max(self._shards, record.known if record is not None else 1)

    # -- task types and workers ------------------------------------------------------------------------

    def pause(self, task_type: str, reason: str = "") -> bool:
        """Have all workers leave a type alone, within a second; tasks that run go on, and enqueue goes on
        accepting. Answers whether it was not paused before. Raises UnknownTaskType."""
        self._check_type(task_type)
        about = {"by": self._by, "reason": reason[:500], "at_ms": self._transport.run(calls.now())}
        told = note(self._by, "pause", task_type)
        return self._everywhere(lambda s: calls.pause(s, task_type, orjson.dumps(about), told))

    def resume(self, task_type: str) -> bool:
        """Take a type up again; answers whether it was paused. Raises UnknownTaskType."""
        told = note(self._by, "resume", task_type)
        changed = self._everywhere(lambda s: calls.resume(s, task_type, told))
        if not changed:
            self._check_type(task_type)
        return changed

    def forget(self, task_type: str, *, results: bool = False) -> None:
        """Remove a type that nobody uses any more: its name, policy, counters and history, in all shards.

        Raises UnknownTaskType; and UsageError while a worker serves it, while tasks or dead letters of it are
        there, and while results are kept, unless `results` says that these are to go. Searches the server's
        keys.
        """
        self._check_type(task_type)
        told = note(self._by, "forget", task_type)
        Forgetting(self._transport, self._app, self._known()).forget(task_type, told, drop_results=results)

    def _everywhere(self, make: Callable[[Any], calls.Call[bool]]) -> bool:
        changed = [self._transport.run(make(shard_keys(self._app, n))) for n in range(self._known())]
        return any(changed)

    def _check_type(self, task_type: str) -> None:
        known = {
            name
            for n in range(self._known())
            for name in self._transport.run(calls.types(shard_keys(self._app, n)))
        }
        if task_type not in known:
            raise UnknownTaskType(
                f"app {self._app!r} has no task type {task_type!r}; it has: {listed(known)}"
            )

    def drain(self, worker: str) -> bool:
        """Have a worker take no more tasks, finish those in hand and end, as after SIGTERM. Answers
        whether there is one of that name."""
        told = note(self._by, "drain", worker)
        return self._transport.run(calls.drain(shard_keys(self._app, 0), worker, told))

    # -- tasks -----------------------------------------------------------------------------------------

    def cancel(self, task_id: str) -> CancelAnswer:
        """End the task; answers as `TaskHandle.cancel`. Raises InvalidTaskId."""
        task, told = TaskId.parse(task_id), note(self._by, "cancel", task_id)
        keys = self._keys(task)
        answer = self._transport.run(calls.cancel(keys, shard_keys(self._app, task.shard), task, told))
        located = self._transport.run(calls.locate(keys, task.local)) if answer == "unknown" else None
        return cancel_answer(answer, located.state if located else "dead")

    def run_now(self, task_id: str) -> bool:
        """Make a scheduled task ready at once; answers whether it was scheduled. Raises InvalidTaskId."""
        task = TaskId.parse(task_id)
        return self._transport.run(
            calls.run_now(self._keys(task), task.local, note(self._by, "run now", task_id))
        )

    # -- dead letters ----------------------------------------------------------------------------------

    def requeue(self, task_ids: Sequence[str]) -> int:
        """Put dead letters back by id; answers how many there were.

        Raises UsageError, when all else is done, where one has no payload and so cannot run.
        """
        return self._by_id(calls.requeue, "requeue", task_ids)

    def requeue_type(self, task_type: str, *, progress: Callable[[int], object] = lambda _: None) -> int:
        """Put all dead letters of a type back, oldest first; return how many. Raises UnknownTaskType.

        Letters that die anew meanwhile are left alone, and so are those without a payload. progress: called
        after each batch with how many it moved.
        """
        return self.requeue_selected(DeadSelection(task_type), progress=progress)

    def requeue_selected(
        self, selection: DeadSelection, *, progress: Callable[[int], object] = lambda _: None
    ) -> int:
        """Put all selected dead letters back, oldest first; return how many. As `requeue_type`."""
        return _added(self.requeue_in_steps(selection), progress)

    def requeue_in_steps(self, selection: DeadSelection, *, action: str = "") -> Iterator[int]:
        """As `requeue_selected`, batch by batch: yields how many each moved. Only what is iterated is done.

        action: from `new_action`, where several calls are to be one action in the log.
        """
        self._check_type(selection.type)
        return self._selected(calls.requeue, "requeue", selection, action)

    def purge(self, task_ids: Sequence[str]) -> int:
        """Delete dead letters by id for good; answers how many there were."""
        return self._by_id(calls.purge, "purge", task_ids)

    def purge_type(self, task_type: str, *, progress: Callable[[int], object] = lambda _: None) -> int:
        """Delete all dead letters of a type for good, oldest first; return how many. As `requeue_type`."""
        return self.purge_selected(DeadSelection(task_type), progress=progress)

    def purge_selected(
        self, selection: DeadSelection, *, progress: Callable[[int], object] = lambda _: None
    ) -> int:
        """Delete all selected dead letters for good, oldest first; return how many. As `requeue_type`."""
        return _added(self.purge_in_steps(selection), progress)

    def purge_in_steps(self, selection: DeadSelection, *, action: str = "") -> Iterator[int]:
        """As `purge_selected`, batch by batch, as `requeue_in_steps` does."""
        self._check_type(selection.type)
        return self._selected(calls.purge, "purge", selection, action)

    def repair(
        self,
        *,
        dry_run: bool = False,
        write_off: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Audit:
        """Audit, and put right what can be: each in one script that looks again before it writes.

        dry_run: only say what would be done. write_off: what the counters miss, or have too much, is
        booked as vanished or adopted, when all else has been looked at.
        """
        mode: Mode = "dry" if dry_run else "repair"
        return Auditor(
            self._transport, self._app, self._known(), mode=mode, write_off=write_off, progress=progress
        ).run()

    def resubmit(self, task_id: str, payload: bytes) -> str | None:
        """Put a new task with another payload (a JSON object of the arguments by name) in a dead letter's
        place. Answers the new task's id, None where there is no such dead letter. Raises InvalidTaskId
        and PayloadError."""
        task = TaskId.parse(task_id)
        _check_payload(payload)
        told = note(self._by, "edit and requeue", task_id)
        local = self._transport.run(calls.resubmit(self._keys(task), task.local, payload, told))
        return str(TaskId(task.type, task.shard, local)) if local else None

    def _by_id(self, step: _Step, verb: str, task_ids: Sequence[str]) -> int:
        if isinstance(task_ids, str):  # one id is a sequence of letters
            task_ids = [task_ids]
        by_type: dict[TypeKeys, list[str]] = {}
        for task in [TaskId.parse(text) for text in task_ids]:
            by_type.setdefault(self._keys(task), []).append(task.local)
        told = note(self._by, verb, ", ".join(task_ids[:5]), len(task_ids))
        done = stay = 0
        for keys, ids in by_type.items():
            for n in range(0, len(ids), BATCH):
                moved = self._transport.run(step(keys, BATCH, 0, ids[n : n + BATCH], note=told))
                done, stay = done + moved.done, stay + moved.stay
        if stay:
            raise UsageError(
                f"{stay} of {len(task_ids)} dead letters have no payload, so they cannot run: something else "
                f"wrote or deleted their entries ({done} were requeued). Purge them, or edit and requeue them"
            )
        return done

    def _selected(self, step: _Step, verb: str, selection: DeadSelection, action: str) -> Iterator[int]:
        groups = Groups(self._transport, self._app, self._known())
        until = min(selection.until_ms, self._transport.run(calls.now()))
        told = note(self._by, verb, _said(selection), groups.count(selection), action)
        for keys, mark in list(groups.places(selection)):
            kind = {"since_ms": selection.since_ms, "fingerprint": mark, "note": told}
            yield from self._all(partial(step, keys, BATCH, until, **kind))

    def _all(self, step: _Step) -> Iterator[int]:
        """Until nothing is left but what has stayed."""
        stayed, left = 0, 1
        while left > stayed:
            moved = self._transport.run(step(skip=stayed) if stayed else step())
            yield moved.done
            if not moved.done and not moved.stay:
                break
            stayed, left = stayed + moved.stay, moved.left

    def _keys(self, task: TaskId) -> TypeKeys:
        return type_keys(self._app, task.shard, task.type)


def _added(steps: Iterator[int], progress: Callable[[int], object]) -> int:
    total = 0
    for moved in steps:
        total += moved
        progress(moved)
    return total


def _said(selection: DeadSelection) -> str:
    parts: Iterable[str] = (
        f"all dead letters of {selection.type}",
        f"with fingerprint {selection.fingerprint}" if selection.fingerprint else "",
        f"with {selection.error!r} in the error" if selection.error else "",
        f"that died since {_moment(selection.since_ms)}" if selection.since_ms else "",
        f"that died until {_moment(selection.until_ms)}" if selection.until_ms < END_MS else "",
    )
    return " ".join(filter(None, parts))


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _check_payload(payload: bytes) -> None:
    try:
        given = orjson.loads(payload)
    except ValueError as error:
        raise PayloadError(f"the payload is not JSON: {error}") from None
    if too_deep(payload):
        raise PayloadError(f"the payload: {TOO_DEEP}")
    if not isinstance(given, dict):
        raise PayloadError("the payload must be a JSON object of the arguments by name")
    sized(payload, TaskOptions().max_payload, "the arguments")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a process without a name in the password file
        return "unknown"

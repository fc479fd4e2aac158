"""The operator's actions: pause, resume, forget, drain, cancel, run now, requeue, resubmit, purge.

Owns the loops over batches. Each batch is one script, which also writes the log of actions: when a loop is
interrupted, its finished batches stay done and the rest is unchanged. Must not write in any other way.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple, Self

import orjson

from streamq import envelope
from streamq.audit import Audit, Auditor, Mode
from streamq.calls import lanes as lane_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.calls.locate import locate
from streamq.control.action_log import note, user
from streamq.control.dead_letters import DeadSelection, Groups, describe
from streamq.control.facade import AsyncFacade, AsyncSource, Facade, SyncFacade, operation, stepwise
from streamq.control.forgetting import Forgetting
from streamq.control.lanes import stored
from streamq.errors import InvalidOption, UnknownTaskType, UsageError
from streamq.flow import Flow, Part, ask, in_turn
from streamq.keys import ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.model.reply import Moved, Note
from streamq.model.task import CancelAnswer, TaskId, cancel_answer
from streamq.options.lane import StartRate, limit_of, named
from streamq.options.task import TaskOptions
from streamq.payloads.reading import check_edited, in_place_of
from streamq.registry.handler import sized
from streamq.transport.sync_transport import SyncTransport
from streamq.wording import listed

BATCH: Final = 100
_KEY: Final = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)

_Step = Callable[..., Call[Moved]]


UnlockResult = Literal["freed", "held", "free"]


class Unlocked(NamedTuple):
    """The result of `unlock`: freed; held, if its task lives and nothing was done; or free, if no task held
    it. holder: the task that held it."""

    result: UnlockResult
    holder: str


class Acts(Facade):
    """The actions on one app, in the name of `by`, in all shards that may hold tasks."""

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

    # -- task types and workers ------------------------------------------------------------------------

    @operation
    def pause(self, task_type: str, reason: str = "") -> Flow[bool]:
        """Pause a type: within a second no worker starts a task of it. Running tasks go on, and enqueue still
        accepts tasks. Return whether it was not paused before. Raises UnknownTaskType."""
        yield from self._check_type(task_type)
        about = {"by": self._by, "reason": reason[:500], "at_ms": (yield from ask(question_calls.now()))}
        entry = note(self._by, "pause", task_type)
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

    @operation
    def drain(self, worker: str) -> Flow[bool]:
        """Drain a worker: it takes no more tasks, finishes those in flight and ends, as after SIGTERM. Return
        whether there is a worker of that name."""
        return ask(operator_calls.drain(shard_keys(self._app, 0), worker, note(self._by, "drain", worker)))

    # -- lanes -----------------------------------------------------------------------------------------

    @operation
    def limit(
        self,
        task_type: str,
        *,
        lane: str | None = None,
        running: int | None = None,
        rate: StartRate | str | None = None,
        burst: int | None = None,
        weight: float | None = None,
    ) -> Flow[None]:
        """Limit one lane, or without `lane` the whole type, otherwise than the code does: at once, and until
        it is called again. What is None goes by the code again. Nobody is stopped; running=0 lets nobody
        start.

        Raises UnknownTaskType and InvalidOption.
        """
        rules = limit_of(running, rate, burst, weight)
        yield from self._check_type(task_type)
        yield from self._in_lanes(
            task_type, "limit", lane, lambda t, told: lane_calls.limit(t, _of(lane), rules, told)
        )

    @operation
    def pause_lane(self, task_type: str, lane: str) -> Flow[None]:
        """Let nobody of a lane start; who runs goes on. As limit(running=0). Raises UnknownTaskType."""
        yield from self._check_type(task_type)
        rules = limit_of(0, None, None, None)
        yield from self._in_lanes(
            task_type, "pause", lane, lambda t, told: lane_calls.limit(t, _of(lane), rules, told)
        )

    @operation
    def resume_lane(self, task_type: str, lane: str) -> Flow[None]:
        """Let a lane go on that was paused, that a dead letter halts, or that a handler holds back: its
        limits are those of the code again. Raises UnknownTaskType."""
        yield from self._check_type(task_type)
        yield from self._in_lanes(
            task_type, "resume", lane, lambda t, told: lane_calls.limit(t, _of(lane), "", told)
        )
        for shard in range((yield from self._known())):
            yield from ask(lane_calls.open_lane(type_keys(self._app, shard, task_type), _of(lane)))

    @operation
    def purge_lane(self, task_type: str, lane: str) -> Flow[int]:
        """End the parked tasks of a lane as cancelled; return how many. Who is ready or runs goes on. Raises
        UnknownTaskType."""
        yield from self._check_type(task_type)
        told, total = note(self._by, "purge", f"{task_type}, lane {lane!r}"), 0
        for shard in range((yield from self._known())):
            while ended := (
                yield from ask(
                    lane_calls.purge_lane(type_keys(self._app, shard, task_type), _of(lane), BATCH, told)
                )
            ):
                total += ended
        return total

    def _in_lanes(
        self, task_type: str, verb: str, lane: str | None, make: Callable[[TypeKeys, Note], Call[str | None]]
    ) -> Flow[None]:
        entry = note(self._by, verb, task_type if lane is None else f"{task_type}, lane {lane!r}")
        shards = range((yield from self._known()))
        answers = yield from in_turn(
            ask(make(type_keys(self._app, shard, task_type), entry)) for shard in shards
        )
        if all(answer is None for answer in answers):
            raise InvalidOption(
                f"task type {task_type!r} has no lanes and no limits: give it lane=Lane(...), running= or "
                "start_rate= in the code"
            )

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
        lane is ordered."""
        task = TaskId.parse(task_id)
        told = note(self._by, "run now", task_id)
        return ask(operator_calls.run_now(self._keys(task), task.local, told, force=force))

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
    def unlock(self, task_type: str, key: str, *, force: bool = False) -> Flow[Unlocked]:
        """Free the lock of a unique key, named by its digest as in `app.inspector.locks`, if its task is
        gone.

        force: also if the task lives; the key's next task may then run beside it. Raises UnknownTaskType.
        """
        if not _KEY.fullmatch(key):
            raise UsageError(
                f"{key[:64]!r} is not a key: write 32 hexadecimal digits, as `streamq unique TYPE` does"
            )
        yield from self._check_type(task_type)
        entry = note(self._by, "unlock", f"{task_type} {key[:64]}")
        for n in range((yield from self._known())):
            step = operator_calls.unlock(type_keys(self._app, n, task_type), key, force=force, note=entry)
            answer, holder = yield from ask(step)
            if answer != "free":
                result: UnlockResult = "held" if answer == "held" else "freed"
                return Unlocked(result, str(TaskId(task_type, n, holder)))
        return Unlocked("free", "")

    # -- dead letters ----------------------------------------------------------------------------------

    @operation
    def requeue(self, task_ids: Sequence[str], *, force: bool = False) -> Flow[int]:
        """Requeue dead letters by id; return how many there were.

        force: also if another task holds the letter's unique key; both run then. Raises UsageError, when all
        others are done, if one has no payload and so cannot run, or another task holds its key.
        """
        return self._by_id(partial(operator_calls.requeue, force=force), "requeue", task_ids)

    @operation
    def requeue_type(
        self, task_type: str, *, progress: Callable[[int], object] = lambda _: None
    ) -> Flow[int]:
        """Requeue all dead letters of a type, oldest first; return how many. Raises UnknownTaskType.

        Letters that die again in the meantime stay, and so do those without a payload. progress: called after
        each batch with how many it moved.
        """
        return self._selected(operator_calls.requeue, "requeue", DeadSelection(task_type), "", progress)

    @operation
    def requeue_selected(
        self, selection: DeadSelection, *, progress: Callable[[int], object] = lambda _: None
    ) -> Flow[int]:
        """Requeue all selected dead letters, oldest first; return how many. Otherwise as `requeue_type`."""
        return self._selected(operator_calls.requeue, "requeue", selection, "", progress)

    @stepwise
    def requeue_in_steps(self, selection: DeadSelection, *, action: str = "") -> Flow[int]:
        """Requeue as `requeue_selected` does, batch by batch: yield how many each moved. Only what is
        iterated is done.

        action: from `new_action`, if several calls should be one action in the log.
        """
        return self._selected(operator_calls.requeue, "requeue", selection, action)

    @operation
    def purge(self, task_ids: Sequence[str]) -> Flow[int]:
        """Delete dead letters by id for good; return how many there were."""
        return self._by_id(operator_calls.purge, "purge", task_ids)

    @operation
    def purge_type(self, task_type: str, *, progress: Callable[[int], object] = lambda _: None) -> Flow[int]:
        """Delete all dead letters of a type for good, oldest first; return how many. Otherwise as
        `requeue_type`."""
        return self._selected(operator_calls.purge, "purge", DeadSelection(task_type), "", progress)

    @operation
    def purge_selected(
        self, selection: DeadSelection, *, progress: Callable[[int], object] = lambda _: None
    ) -> Flow[int]:
        """Delete all selected dead letters for good, oldest first; return how many. Otherwise as
        `requeue_type`."""
        return self._selected(operator_calls.purge, "purge", selection, "", progress)

    @stepwise
    def purge_in_steps(self, selection: DeadSelection, *, action: str = "") -> Flow[int]:
        """Purge as `purge_selected` does, batch by batch, as `requeue_in_steps` does."""
        return self._selected(operator_calls.purge, "purge", selection, action)

    @operation
    def resubmit(self, task_id: str, payload: bytes) -> Flow[str | None]:
        """Replace a dead letter by a new task with another payload (a JSON object of the arguments by name).
        Return the new task's id; None if there is no such dead letter. Raises InvalidTaskId and
        PayloadError."""
        task = TaskId.parse(task_id)
        check_edited(payload)
        sized(payload, TaskOptions().max_payload, "the arguments")
        located = yield from ask(locate(self._keys(task), task.local))
        stored = in_place_of(envelope.fields_dict(located.fields).get("p"), payload)
        step = operator_calls.resubmit(
            self._keys(task), task.local, stored, note(self._by, "edit and requeue", task_id)
        )
        local = yield from ask(step)
        return str(TaskId(task.type, task.shard, local)) if local else None

    def _by_id(self, step: _Step, verb: str, task_ids: Sequence[str]) -> Flow[int]:
        if isinstance(task_ids, str):  # a str is a sequence of characters
            task_ids = [task_ids]
        by_type: dict[TypeKeys, list[str]] = {}
        for task in [TaskId.parse(text) for text in task_ids]:
            by_type.setdefault(self._keys(task), []).append(task.local)
        entry = note(self._by, verb, ", ".join(task_ids[:5]), len(task_ids))
        done = stay = 0
        held: list[tuple[str, str]] = []
        for keys, ids in by_type.items():
            for n in range(0, len(ids), BATCH):
                moved = yield from ask(step(keys, BATCH, 0, ids[n : n + BATCH], note=entry))
                done, stay = done + moved.done, stay + moved.stay - len(moved.held)
                held += [(str(TaskId(keys.type, keys.shard, one)), other) for one, other in moved.held]
        if held:
            raise _held(held, done, len(task_ids))
        if stay:
            raise UsageError(
                f"{stay} of {len(task_ids)} dead letters have no payload and cannot run: another program "
                f"wrote or deleted their entries ({done} were requeued). Purge them, or edit and requeue them"
            )
        return done

    def _selected(
        self,
        step: _Step,
        verb: str,
        selection: DeadSelection,
        action: str,
        progress: Callable[[int], object] | None = None,
    ) -> Flow[int]:
        """Move all selected letters, batch by batch; yield a part for each batch."""
        yield from self._check_type(selection.type)
        groups = Groups(self._app, range((yield from self._known())))
        until = min(selection.until_ms, (yield from ask(question_calls.now())))
        entry = note(self._by, verb, describe(selection), (yield from groups.count(selection)), action)
        total = 0
        for keys, fingerprint in (yield from groups.lists(selection)):
            kind = {"since_ms": selection.since_ms, "fingerprint": fingerprint, "note": entry}
            total += yield from _all(partial(step, keys, BATCH, until, **kind), progress)
        return total

    def _keys(self, task: TaskId) -> TypeKeys:
        return type_keys(self._app, task.shard, task.type)


def _of(lane: str | None) -> str:
    """A lane as the scripts name it; '' is the whole type."""
    return "" if lane is None else stored(named(lane, "lane"))


class Admin(SyncFacade, Acts, called="app.admin", awaited="app.aadmin"):
    """Acts on one app on one server, in the name of `by` (default: the user of this process), in all shards
    that may hold tasks, and at least `shards`."""

    def __init__(self, transport: SyncTransport, app: str, shards: int = 1, *, by: str = "") -> None:
        super().__init__(transport, app, shards)
        self._by = by or user()


class AsyncAdmin(AsyncFacade, Acts):
    """Acts as Admin does, for event loops: `await app.aadmin.pause("email")`."""

    def __init__(self, transport: AsyncSource, app: str, shards: int = 1, *, by: str = "") -> None:
        super().__init__(transport, app, shards)
        self._by = by or user()


def _held(held: Sequence[tuple[str, str]], done: int, asked: int) -> UsageError:
    letter, holder = held[0]
    name, shard, _ = letter.split(":")
    return UsageError(
        f"the unique keys of {len(held)} of {asked} dead letters are held ({done} were requeued): the key of "
        f"{letter} by {name}:{shard}:{holder}. Requeue it when that task has ended; --force runs both"
    )


def _all(step: _Step, progress: Callable[[int], object] | None) -> Flow[int]:
    """Move until only letters are left that cannot be moved."""
    total, stayed, left = 0, 0, 1
    while left > stayed:
        moved = yield from ask(step(skip=stayed) if stayed else step())
        total += moved.done
        if progress is not None:
            progress(moved.done)
        yield Part(moved.done)
        if not moved.done and not moved.stay:
            break
        stayed, left = stayed + moved.stay, moved.left
    return total

"""The operator's actions on dead letters: requeue, purge, resubmit.

Owns the loops over batches. Each batch is one script, which also writes the log of actions: when a loop is
interrupted, its finished batches stay done and the rest is unchanged. Must not write in any other way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from streamq import envelope
from streamq.calls import operator as operator_calls
from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.calls.locate import locate
from streamq.control.action_base import ActionBase
from streamq.control.action_log import new_action, note
from streamq.control.dead_letters import DeadSelection, Groups, describe
from streamq.control.facade import operation, stepwise
from streamq.control.task_list import TaskList
from streamq.control.task_rows import TaskFilter
from streamq.errors import DecodeError, PayloadError, UsageError
from streamq.flow import Flow, Part, ask
from streamq.keys import TypeKeys
from streamq.model.reply import Moved, Note
from streamq.model.task import TaskId
from streamq.namespace import with_ring
from streamq.options.task import TaskOptions
from streamq.payloads.pipeline import key_of
from streamq.payloads.reading import check_edited, in_place_of, sealed_anew
from streamq.payloads.ring import ring_of
from streamq.payloads.stage import About
from streamq.registry.handler import sized

BATCH: Final = 100


class Resealed(NamedTuple):
    """How many dead letters were sealed anew, and how many could not be."""

    done: int
    left: int


_Step = Callable[..., Call[Moved]]


class DeadLetterActions(ActionBase):
    """The actions on dead letters."""

    @operation
    def requeue(self, task_ids: Sequence[str], *, force: bool = False, fresh: bool = False) -> Flow[int]:
        """Requeue dead letters by id; return how many there were. Each goes on from its last step.

        fresh: from the beginning, without what its steps have stored. force: also if another task holds the
        letter's unique key; both run then. Raises UsageError, when all others are done, if one has no payload
        and so cannot run, or another task holds its key.
        """
        return self._by_id(partial(operator_calls.requeue, force=force, fresh=fresh), "requeue", task_ids)

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
    def requeue_in_steps(
        self, selection: DeadSelection, *, action: str = "", fresh: bool = False
    ) -> Flow[int]:
        """Requeue as `requeue_selected` does, batch by batch: yield how many each moved. Only what is
        iterated is done.

        action: from `new_action`, if several calls should be one action in the log. fresh: as of `requeue`.
        """
        return self._selected(partial(operator_calls.requeue, fresh=fresh), "requeue", selection, action)

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
        stored = in_place_of(
            envelope.fields_dict(located.fields).get("p"), payload, About(self._app, task.type, "payload")
        )
        step = operator_calls.resubmit(
            self._keys(task), task.local, stored, note(self._by, "edit and requeue", task_id)
        )
        local = yield from ask(step)
        return str(TaskId(task.type, task.shard, local)) if local else None

    @operation
    def reseal(self, types: Sequence[str]) -> Flow[Resealed]:
        """Seal dead letters of these types anew with the current key of the ring; return how many were, and
        how many could not be: their key is not in the ring, or they were changed. Raises UsageError without a
        ring, and UnknownTaskType."""
        ring = ring_of(self._app)
        if ring is None:
            raise UsageError(
                "there is no key ring here: set STREAMQ_KEYS, or StreamQ(..., keys=KeyRing(...))"
            )
        shards, action = range((yield from self._known())), new_action()
        done = left = 0
        for name in types:
            yield from self._check_type(name)
            for local_id in (yield from self._sealed_otherwise(name, shards, ring.current)):
                good = yield from self._reseal(
                    TaskId.parse(local_id), note(self._by, "reseal", name, action=action)
                )
                done, left = done + good, left + (not good)
        return Resealed(done, left)

    def _sealed_otherwise(self, name: str, shards: Sequence[int], current: str) -> Flow[list[str]]:
        """Return the dead letters of a type that have something sealed with another key."""
        found, cursor = list[str](), "start"
        while cursor:
            listed = TaskList(with_ring(self._app, None), shards)
            page = yield from listed.page(
                "dead", [name], "" if cursor == "start" else cursor, BATCH, TaskFilter()
            )
            for row in page.rows:
                keys = {key_of(row.fields.get("p", b"")), *envelope.failure_keys(row.fields.get("f", b""))}
                found += [row.id] if keys - {"", current} else []
            cursor = page.cursor
        return found

    def _reseal(self, task: TaskId, entry: Note) -> Flow[bool]:
        located = yield from ask(locate(self._keys(task), task.local))
        have = envelope.fields_dict(located.fields)
        before, failures = have.get("p", b""), have.get("f", b"")
        about = About(self._app, task.type, "payload")
        try:
            payload = sealed_anew(before, about)
            errors = envelope.resealed(failures, about._replace(purpose="failure"))
        except (DecodeError, PayloadError):
            return False
        call = operator_calls.reseal(
            self._keys(task), task.local, (before, payload), (failures, errors), entry
        )
        return (yield from ask(call))

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

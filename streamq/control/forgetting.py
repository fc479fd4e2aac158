"""Forgets a task type: checks what it still holds and which workers serve it, and removes it from each shard.

Owns the checks before the removal and the search for keys that expire. The removal from a shard is one
script, which checks again. Must not delete tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from streamq.calls import audit as audit_calls
from streamq.calls import operator as operator_calls
from streamq.calls import question as question_calls
from streamq.control.schedule_rows import rows_of
from streamq.control.unreadable import Unreadable
from streamq.errors import UsageError
from streamq.flow import AskAll, AskNode, Flow, ask, in_turn
from streamq.keys import known_key, shard_keys, type_keys, type_pattern
from streamq.model.reply import Note
from streamq.stored import mapping

SERVED_MS: Final = 60_000
"""A worker with a heartbeat in the last so many ms counts as serving its types."""
_SCANNED: Final = 1000


@dataclass(slots=True)
class _Kept:
    """The keys of a type in a shard that expire by themselves."""

    results: list[str] = field(default_factory=list[str])
    rollups: list[str] = field(default_factory=list[str])


class Forgetting:
    """Forgets types of one app, in this many shards. The methods are flows."""

    def __init__(self, app: str, shards: int) -> None:
        self._app, self._shards = app, shards

    def forget(self, task_type: str, note: Note, *, drop_results: bool) -> Flow[None]:
        """Remove a type from every shard. Raises UsageError, without removing anything, if it is in use; and
        if a task was enqueued meanwhile, which keeps the type in that shard."""
        yield from self._check_served(task_type)
        yield from self._check_scheduled(task_type)
        kept = yield from self._kept(task_type)
        yield from self._check_empty(task_type, kept, drop_results=drop_results)
        removing = (self._remove(task_type, n, kept[n], note, drop_results) for n in range(self._shards))
        left = [n for n, gone in enumerate((yield from in_turn(removing))) if not gone]
        if left:
            raise UsageError(
                f"task type {task_type!r} got a task meanwhile, so shard {left[0]} still has it. Let it end, "
                "then forget the type again"
            )

    def _remove(self, task_type: str, shard: int, kept: _Kept, note: Note, drop: bool) -> Flow[bool]:
        keys = type_keys(self._app, shard, task_type)
        return (yield from ask(operator_calls.forget(keys, kept.results, kept.rollups, drop=drop, note=note)))

    def _check_served(self, task_type: str) -> Flow[None]:
        shard = shard_keys(self._app, 0)
        details, now = (
            (yield from ask(question_calls.heartbeats(shard))),
            (yield from ask(question_calls.now())),
        )
        beats = yield from ask(question_calls.workers(shard))
        policy = yield from ask(question_calls.policy(type_keys(self._app, 0, task_type)))
        alias_of = policy.get("alias_of")
        how, fix = "it", "Stop it, or start it with code without that type"
        if alias_of is not None:
            how = f"it as an alias of {alias_of!r}"
            fix = f"Take it out of aliases=[...] of {alias_of!r}, and deploy"
        for name, beat in beats:
            if now - beat < SERVED_MS and task_type in _types(details.get(name, b"")):
                raise UsageError(
                    f"task type {task_type!r} cannot be forgotten: worker {name} serves {how}. {fix}"
                )

    def _check_scheduled(self, task_type: str) -> Flow[None]:
        """Raise UsageError where a schedule would make tasks of it, or that cannot be known."""
        look = Unreadable()
        for shard in range(self._shards):
            for row in (yield from rows_of(shard_keys(self._app, shard), look)):
                if mapping(row.definition or b"").get("type") == task_type:
                    raise UsageError(
                        f"task type {task_type!r} cannot be forgotten: schedule {row.name!r} makes tasks of "
                        f"it. Remove that first: streamq schedules remove {row.name}"
                    )
        if look.faults:
            raise UsageError(
                f"task type {task_type!r} cannot be forgotten: a schedule may make tasks of it. Schedules "
                f"{look.faults[0]}"
            )

    def _check_empty(self, task_type: str, kept: dict[int, _Kept], *, drop_results: bool) -> Flow[None]:
        keys = [type_keys(self._app, n, task_type) for n in range(self._shards)]
        counts = yield from in_turn(ask(question_calls.counts(one)) for one in keys)
        held = {
            state: sum(getattr(one, state) for one in counts)
            for state in ("ready", "running", "scheduled", "parked", "dead")
        }
        if any(held.values()):
            text = ", ".join(f"{number:,} {state}" for state, number in held.items() if number)
            raise UsageError(
                f"task type {task_type!r} cannot be forgotten: it has tasks: {text}. Let them end or cancel "
                "them, and purge dead letters"
            )
        if not drop_results and any(one.results for one in kept.values()):
            raise UsageError(
                f"task type {task_type!r} cannot be forgotten: results of it are kept. Wait until "
                "they expire, or drop them with results=True (--results)"
            )

    def _kept(self, task_type: str) -> Flow[dict[int, _Kept]]:
        found = {n: _Kept() for n in range(self._shards)}
        for name in set((yield from _scanned(type_pattern(self._app, task_type)))):
            known = known_key(self._app, name)
            if known is None or known.type != task_type or known.shard not in found:
                continue
            if known.kind == "results":
                found[known.shard].results.append(name)
            elif known.kind in ("minute", "quarter"):
                found[known.shard].rollups.append(name)
        return found


def _scanned(pattern: str) -> Flow[list[str]]:
    """Return the matching keys of all nodes."""
    found: list[str] = []
    nodes: dict[str, tuple[str, list[str]]] = yield AskAll(audit_calls.scan_keys(pattern, "", _SCANNED))
    for node, (first, listed) in nodes.items():
        cursor = first
        found += listed
        while cursor:
            cursor, more = yield AskNode(node, audit_calls.scan_keys(pattern, cursor, _SCANNED))
            found += more
    return found


def _types(raw: bytes) -> list[object]:
    """Return the task types of a heartbeat; none if it is damaged."""
    types = mapping(raw).get("types")
    return types if isinstance(types, list) else []

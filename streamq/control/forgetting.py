"""How a task type is forgotten: what it may still hold, who serves it, and its removal from each shard.

Owns the looks before the removal and the search for keys that expire. The removal from a shard is one script,
which looks again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import orjson

from streamq.calls import audit as audit_calls
from streamq.calls import operator as operator_calls
from streamq.calls import question as question_calls
from streamq.depth import too_deep
from streamq.errors import UsageError
from streamq.flow import AskAll, AskNode, Flow, ask, in_turn
from streamq.keys import known_key, shard_keys, type_keys, type_pattern
from streamq.model.reply import Note

SERVED_MS: Final = 60_000
"""A worker that has sent a heartbeat in so many ms is taken for one that serves its types."""
_SCANNED: Final = 1000


@dataclass(slots=True)
class _Kept:
    """The keys of a type in a shard that expire by themselves."""

    results: list[str] = field(default_factory=list[str])
    rollups: list[str] = field(default_factory=list[str])


class Forgetting:
    """Of one app, in this many shards. Its methods are flows."""

    def __init__(self, app: str, shards: int) -> None:
        self._app, self._shards = app, shards

    def forget(self, task_type: str, note: Note, *, drop_results: bool) -> Flow[None]:
        """Remove a type from every shard. Raises UsageError, and removes nothing, where it is in use; a task
        that comes in between leaves it in that shard, and UsageError says so."""
        yield from self._check_served(task_type)
        kept = yield from self._kept(task_type)
        yield from self._check_empty(task_type, kept, drop_results=drop_results)
        removing = (self._remove(task_type, n, kept[n], note, drop_results) for n in range(self._shards))
        left = [n for n, gone in enumerate((yield from in_turn(removing))) if not gone]
        if left:
            raise UsageError(
                f"task type {task_type!r} got a task meanwhile, so shard {left[0]} still has it: let it end, "
                "and forget the type then"
            )

    def _remove(self, task_type: str, shard: int, kept: _Kept, note: Note, drop: bool) -> Flow[bool]:
        keys = type_keys(self._app, shard, task_type)
        return (yield from ask(operator_calls.forget(keys, kept.results, kept.rollups, drop=drop, note=note)))

    def _check_served(self, task_type: str) -> Flow[None]:
        shard = shard_keys(self._app, 0)
        told, now = (yield from ask(question_calls.heartbeats(shard))), (yield from ask(question_calls.now()))
        beats = yield from ask(question_calls.workers(shard))
        for name, beat in beats:
            if now - beat < SERVED_MS and task_type in _types(told.get(name, b"")):
                raise UsageError(
                    f"task type {task_type!r} cannot be forgotten: worker {name} serves it. End that, or "
                    "start it with code that has no such type"
                )

    def _check_empty(self, task_type: str, kept: dict[int, _Kept], *, drop_results: bool) -> Flow[None]:
        keys = [type_keys(self._app, n, task_type) for n in range(self._shards)]
        counts = yield from in_turn(ask(question_calls.counts(one)) for one in keys)
        held = {
            state: sum(getattr(one, state) for one in counts)
            for state in ("ready", "running", "scheduled", "parked", "dead")
        }
        if any(held.values()):
            said = ", ".join(f"{number:,} {state}" for state, number in held.items() if number)
            raise UsageError(
                f"task type {task_type!r} cannot be forgotten: it has tasks: {said}. Let them end or cancel "
                "them, and purge dead letters"
            )
        if not drop_results and any(one.results for one in kept.values()):
            raise UsageError(
                f"task type {task_type!r} cannot be forgotten: results of it are kept. Wait for their "
                "retention to end, or say that they are to go: results=True, --results"
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
    """Return the keys of all nodes."""
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
    """The task types of a heartbeat; none where it is damaged."""
    try:
        told = None if too_deep(raw) else orjson.loads(raw)
    except ValueError:
        return []
    types = told.get("types") if isinstance(told, dict) else None
    return types if isinstance(types, list) else []

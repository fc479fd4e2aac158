"""How a task type is forgotten: what it may still hold, who serves it, and its removal from each shard.

Owns the looks before the removal and the search for keys that expire. The removal from a shard is one script,
which looks again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import orjson

from streamq import calls
from streamq.depth import too_deep
from streamq.errors import UsageError
from streamq.keys import known_key, shard_keys, type_keys, type_pattern
from streamq.model import Note
from streamq.transport import SyncTransport

SERVED_MS: Final = 60_000
"""A worker that has sent a heartbeat in so many ms is taken for one that serves its types."""
_SCANNED: Final = 1000


@dataclass(slots=True)
class _Kept:
    """The keys of a type in a shard that expire by themselves."""

    results: list[str] = field(default_factory=list[str])
    rollups: list[str] = field(default_factory=list[str])


class Forgetting:
    """Of one app, in this many shards."""

    def __init__(self, transport: SyncTransport, app: str, shards: int) -> None:
        self._transport, self._app, self._shards = transport, app, shards

    def forget(self, task_type: str, note: Note, *, drop_results: bool) -> None:
        """Remove a type from every shard. Raises UsageError, and removes nothing, where it is in use; a task
        that comes in between leaves it in that shard, and UsageError says so."""
        self._check_served(task_type)
        kept = self._kept(task_type)
        self._check_empty(task_type, kept, drop_results=drop_results)
        left = [n for n in range(self._shards) if not self._remove(task_type, n, kept[n], note, drop_results)]
        if left:
            raise UsageError(
                f"task type {task_type!r} got a task meanwhile, so shard {left[0]} still has it: let it end, "
                "and forget the type then"
            )

    def _remove(self, task_type: str, shard: int, kept: _Kept, note: Note, drop: bool) -> bool:
        keys = type_keys(self._app, shard, task_type)
        return self._transport.run(calls.forget(keys, kept.results, kept.rollups, drop=drop, note=note))

    def _check_served(self, task_type: str) -> None:
        shard = shard_keys(self._app, 0)
        told, now = self._transport.run(calls.heartbeats(shard)), self._transport.run(calls.now())
        beats = self._transport.run(calls.workers(shard))
        for name, beat in beats:
            if now - beat < SERVED_MS and task_type in _types(told.get(name, b"")):
                raise UsageError(
                    f"task type {task_type!r} cannot be forgotten: worker {name} serves it. End that, or "
                    "start it with code that has no such type"
                )

    def _check_empty(self, task_type: str, kept: dict[int, _Kept], *, drop_results: bool) -> None:
        counts = [
            self._transport.run(calls.counts(type_keys(self._app, n, task_type))) for n in range(self._shards)
        ]
        held = {
            state: sum(getattr(one, state) for one in counts)
            for state in ("ready", "running", "scheduled", "dead")
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

    def _kept(self, task_type: str) -> dict[int, _Kept]:
        found = {n: _Kept() for n in range(self._shards)}
        for name in set(self._scanned(type_pattern(self._app, task_type))):
            known = known_key(self._app, name)
            if known is None or known.type != task_type or known.shard not in found:
                continue
            if known.kind == "results":
                found[known.shard].results.append(name)
            elif known.kind in ("minute", "quarter"):
                found[known.shard].rollups.append(name)
        return found

    def _scanned(self, pattern: str) -> Iterable[str]:
        transport = self._transport
        for where, first in transport.everywhere(calls.scan_keys(pattern, "", _SCANNED)).items():
            cursor, listed = first
            yield from listed
            while cursor:
                cursor, listed = transport.there(where, calls.scan_keys(pattern, cursor, _SCANNED))
                yield from listed


def _types(raw: bytes) -> list[object]:
    """The task types of a heartbeat; none where it is damaged."""
    try:
        told = None if too_deep(raw) else orjson.loads(raw)
    except ValueError:
        return []
    types = told.get("types") if isinstance(told, dict) else None
    return types if isinstance(types, list) else []

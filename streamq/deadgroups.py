"""Dead letters by fault: groups with one error at one place, kept by the scripts that make and move letters.

Owns the reading of groups and what a selection of dead letters means. Counts are exact and cost nothing
to ask for: they are distances in a sorted set. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from streamq import calls, codec
from streamq.errors import ServerError
from streamq.fingerprint import place, stored
from streamq.keys import TypeKeys, type_keys
from streamq.model import TaskId
from streamq.stored import count
from streamq.transport import SyncTransport
from streamq.unreadable import Unreadable, of_data, said

STEP: Final = 20
MOST_GROUPS: Final = 200
"""Groups of one task type that are looked at, and of all that are listed, at most."""
CHARTED: Final = 40
"""Groups, those with most letters, of which it is told how many died in each hour."""
SLICES: Final = 24
SLICE_MS: Final = 3_600_000
END_MS: Final = 9_999_999_999_998


@dataclass(frozen=True, slots=True)
class DeadGroup:
    """Dead letters of a type with one error at one place in the user's code.

    error: the exception's name, or the reason where there is none. place: file, line and function of the
    latest. per_hour: how many died in each of the last 24 hours, oldest first; empty for groups that are
    not among the 40 largest. sample: the latest's id; payload: the
    latest's, None if it is long. framed: the place is of a stored frame, not read from a traceback's text.
    """

    type: str
    fingerprint: str
    error: str
    message: str
    place: str
    reason: str
    count: int
    first_ms: int
    last_ms: int
    sample: str
    per_hour: tuple[int, ...] = ()
    payload: bytes | None = field(default=None, repr=False)
    framed: bool = field(default=False, repr=False)

    def tells(self, part: str) -> bool:
        """Whether a selection by this part of an error's name or reason takes the group."""
        return part.lower() in f"{self.error} {self.reason}".lower()


@dataclass(frozen=True, slots=True)
class DeadGroups:
    """The groups, most letters first. `complete` is False where there are more than are listed.
    `faults`: what could not be read, and is not in the groups."""

    groups: list[DeadGroup]
    complete: bool
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeadSelection:
    """Which dead letters of a type: of one group, of those whose error's name or reason contains `error`
    (of one group only if it does, where both are given), or all; that died since and until (ms since the
    epoch)."""

    type: str
    fingerprint: str = ""
    error: str = ""
    since_ms: int = 0
    until_ms: int = END_MS


class Groups:
    """Groups the dead letters of one app."""

    def __init__(self, transport: SyncTransport, app: str, shards: int) -> None:
        self._transport = transport
        self._app = app
        self._shards = shards

    def read(self, types: Iterable[str]) -> DeadGroups:
        """The groups of these types."""
        groups: list[DeadGroup] = []
        complete, look = True, Unreadable(self._transport)
        for name in types:
            shards = range(self._shards)
            per_shard = [found for shard in shards for found in self._readable(name, shard, look)]
            complete = complete and len(per_shard) < MOST_GROUPS * self._shards
            groups += _merged(per_shard)
        groups.sort(key=lambda group: -group.count)
        complete = complete and len(groups) <= MOST_GROUPS
        listed = self._charted(groups[:CHARTED], look) + groups[CHARTED:MOST_GROUPS]
        return DeadGroups(listed, complete, tuple(look.told))

    def _readable(self, name: str, shard: int, look: Unreadable) -> list[DeadGroup]:
        """The groups of a shard, as far as they can be read."""
        found: list[DeadGroup] = []
        try:
            found.extend(self._of_shard(name, shard))
        except ServerError as error:
            if not of_data(error):
                raise
            keys = self._keys(name, shard)
            look.note(said(self._transport, (keys.groups, keys.letters), error))
        return found

    def _of_shard(self, task_type: str, shard: int) -> Iterable[DeadGroup]:
        keys, after = self._keys(task_type, shard), ""
        for _ in range(0, MOST_GROUPS, STEP):
            found = self._transport.run(calls.dead_groups(keys, after, STEP))
            yield from (_group(task_type, shard, group) for group in found)
            if len(found) < STEP:
                return
            after = found[-1].fingerprint

    def _charted(self, groups: list[DeadGroup], look: Unreadable) -> list[DeadGroup]:
        """The groups with how many died in each hour."""
        lines: dict[tuple[str, str], tuple[int, ...]] = {}
        for name in {group.type for group in groups}:
            marks = [group.fingerprint for group in groups if group.type == name]
            for start in range(0, len(marks), STEP):
                lines |= self._lines(name, marks[start : start + STEP], look)
        return [replace(group, per_hour=lines[group.type, group.fingerprint]) for group in groups]

    def _lines(self, name: str, marks: list[str], look: Unreadable) -> dict[tuple[str, str], tuple[int, ...]]:
        nothing: list[tuple[int, ...]] = [(0,) * SLICES for _ in marks]
        per_shard = [
            look.ask(calls.dead_slices(self._keys(name, shard), SLICE_MS, SLICES, marks), lambda: nothing)
            for shard in range(self._shards)
        ]
        return {
            (name, mark): tuple(map(sum, zip(*(rows[n] for rows in per_shard), strict=True)))
            for n, mark in enumerate(marks)
        }

    def count(self, selection: DeadSelection) -> int:
        """How many dead letters are selected."""
        return sum(
            self._transport.run(calls.dead_count(keys, selection.since_ms, selection.until_ms, mark))
            for keys, mark in self.places(selection)
        )

    def places(self, selection: DeadSelection) -> Iterable[tuple[TypeKeys, str]]:
        """Where the selected letters lie: shard by shard, each with a fingerprint, '' for all of it."""
        for shard in range(self._shards):
            for mark in self._marks(selection, shard):
                yield self._keys(selection.type, shard), mark

    def _marks(self, selection: DeadSelection, shard: int) -> Iterable[str]:
        if not selection.error:
            return [selection.fingerprint]
        wanted = selection.fingerprint
        found = list(self._of_shard(selection.type, shard))
        return [g.fingerprint for g in found if g.tells(selection.error) and wanted in ("", g.fingerprint)]

    def _keys(self, task_type: str, shard: int) -> TypeKeys:
        return type_keys(self._app, shard, task_type)


def _group(task_type: str, shard: int, group: calls.Group) -> DeadGroup:
    have = codec.fields_dict(group.fields)
    failures = codec.failures(have.get("f", b""))
    last = failures[-1] if failures else {}
    where = place(last)
    return DeadGroup(
        type=task_type,
        fingerprint=group.fingerprint,
        error=str(last.get("error") or group.reason),
        message=str(last.get("message", "")),
        place=str(where) if where else "",
        reason=group.reason,
        count=group.size,
        first_ms=group.first_ms,
        last_ms=group.last_ms,
        sample=str(TaskId(task_type, shard, group.last_local)),
        payload=_whole(have),
        framed=stored(last) is not None,
    )


def _whole(have: dict[str, bytes]) -> bytes | None:
    """Return a payload that was not cut; None if it was."""
    payload, size = have.get("p"), count(have.get("size", b"0"), 1 << 62)
    return payload if payload is not None and len(payload) >= size else None


def _merged(groups: Iterable[DeadGroup]) -> list[DeadGroup]:
    """One group a fingerprint, over all shards."""
    merged: dict[str, DeadGroup] = {}
    for group in groups:
        known = merged.get(group.fingerprint)
        merged[group.fingerprint] = group if known is None else _sum(known, group)
    return list(merged.values())


def _sum(one: DeadGroup, other: DeadGroup) -> DeadGroup:
    latest = max(one, other, key=lambda group: group.last_ms)
    return replace(latest, count=one.count + other.count, first_ms=min(one.first_ms, other.first_ms))

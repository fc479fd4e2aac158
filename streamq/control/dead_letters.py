"""Dead letters by fault: groups with one error at one place, kept by the scripts that make and move letters.

Owns the reading of groups and what a selection of dead letters means. Counts are exact and cost nothing
to ask for: they are distances in a sorted set. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from streamq import envelope
from streamq.calls import listing as listing_calls
from streamq.control.unreadable import Unreadable, of_data, said
from streamq.errors import ServerError
from streamq.fingerprint import place, stored
from streamq.flow import Flow, ask, in_turn
from streamq.keys import TypeKeys, type_keys
from streamq.model.task import TaskId
from streamq.payloads.reading import readable
from streamq.stored import count

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
    """Groups the dead letters of one app in these shards. Its methods are flows."""

    def __init__(self, app: str, shards: Sequence[int]) -> None:
        self._app = app
        self._shards = shards

    def read(self, types: Iterable[str]) -> Flow[DeadGroups]:
        """Return the groups of these types."""
        groups: list[DeadGroup] = []
        complete, look = True, Unreadable()
        for name in types:
            per_shard: list[DeadGroup] = []
            for shard in self._shards:
                yield from self._readable(name, shard, look, per_shard)
            complete = complete and len(per_shard) < MOST_GROUPS * len(self._shards)
            groups += _merged(per_shard)
        groups.sort(key=lambda group: -group.count)
        complete = complete and len(groups) <= MOST_GROUPS
        charted = yield from self._charted(groups[:CHARTED], look)
        return DeadGroups(charted + groups[CHARTED:MOST_GROUPS], complete, tuple(look.told))

    def _readable(self, name: str, shard: int, look: Unreadable, into: list[DeadGroup]) -> Flow[None]:
        """Add the groups of a shard, as far as they can be read."""
        try:
            yield from self._of_shard(name, shard, into)
        except ServerError as error:
            if not of_data(error):
                raise
            keys = self._keys(name, shard)
            look.note((yield from said((keys.groups, keys.letters), error)))

    def _of_shard(self, task_type: str, shard: int, into: list[DeadGroup]) -> Flow[None]:
        keys, after = self._keys(task_type, shard), ""
        for _ in range(0, MOST_GROUPS, STEP):
            found = yield from ask(listing_calls.dead_groups(keys, after, STEP))
            into += [_group(task_type, shard, group) for group in found]
            if len(found) < STEP:
                return
            after = found[-1].fingerprint

    def _charted(self, groups: list[DeadGroup], look: Unreadable) -> Flow[list[DeadGroup]]:
        """Return the groups with how many died in each hour."""
        lines: dict[tuple[str, str], tuple[int, ...]] = {}
        for name in {group.type for group in groups}:
            marks = [group.fingerprint for group in groups if group.type == name]
            for start in range(0, len(marks), STEP):
                lines |= yield from self._lines(name, marks[start : start + STEP], look)
        return [replace(group, per_hour=lines[group.type, group.fingerprint]) for group in groups]

    def _lines(
        self, name: str, marks: list[str], look: Unreadable
    ) -> Flow[dict[tuple[str, str], tuple[int, ...]]]:
        nothing: list[tuple[int, ...]] = [(0,) * SLICES for _ in marks]
        slices = (
            listing_calls.dead_slices(self._keys(name, n), SLICE_MS, SLICES, marks) for n in self._shards
        )
        per_shard = yield from in_turn(look.ask(call, lambda: nothing) for call in slices)
        return {
            (name, mark): tuple(map(sum, zip(*(rows[n] for rows in per_shard), strict=True)))
            for n, mark in enumerate(marks)
        }

    def count(self, selection: DeadSelection) -> Flow[int]:
        """Return how many dead letters are selected."""
        number = 0
        for keys, mark in (yield from self.places(selection)):
            number += yield from ask(
                listing_calls.dead_count(keys, selection.since_ms, selection.until_ms, mark)
            )
        return number

    def places(self, selection: DeadSelection) -> Flow[list[tuple[TypeKeys, str]]]:
        """Return where the selected letters lie, by shard, each with a fingerprint, '' for all of it."""
        found: list[tuple[TypeKeys, str]] = []
        for shard in self._shards:
            marks = yield from self._marks(selection, shard)
            found += [(self._keys(selection.type, shard), mark) for mark in marks]
        return found

    def _marks(self, selection: DeadSelection, shard: int) -> Flow[list[str]]:
        if not selection.error:
            return [selection.fingerprint]
        wanted, found = selection.fingerprint, list[DeadGroup]()
        yield from self._of_shard(selection.type, shard, found)
        return [g.fingerprint for g in found if g.tells(selection.error) and wanted in ("", g.fingerprint)]

    def _keys(self, task_type: str, shard: int) -> TypeKeys:
        return type_keys(self._app, shard, task_type)


def _group(task_type: str, shard: int, group: listing_calls.Group) -> DeadGroup:
    have = envelope.fields_dict(group.fields)
    failures = envelope.failures(have.get("f", b""))
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
    return readable(payload) if payload is not None and len(payload) >= size else None


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


def said_of(selection: DeadSelection) -> str:
    """Return which letters are selected, in words."""
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

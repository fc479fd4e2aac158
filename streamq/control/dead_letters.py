"""Dead letters in groups, by error and frame; the scripts that create and move letters maintain the groups.

Owns the reading of groups and the meaning of a selection. Counts are exact and cheap: they are ranks in a
sorted set. Must not write.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from streamq import envelope
from streamq.calls import listing as listing_calls
from streamq.control.unreadable import Unreadable, describe_fault, is_data_fault
from streamq.errors import ServerError
from streamq.fingerprint import frame_of, stored_frame
from streamq.flow import Flow, ask, in_turn
from streamq.keys import TypeKeys, type_keys
from streamq.model.task import TaskId
from streamq.payloads.reading import readable
from streamq.payloads.stage import About
from streamq.stored import count

STEP: Final = 20
MOST_GROUPS: Final = 200
"""Groups of one task type that are read, and of all types that are listed, at most."""
CHARTED: Final = 40
"""Groups, the largest ones, with the number of deaths in each hour."""
SLICES: Final = 24
SLICE_MS: Final = 3_600_000
END_MS: Final = 9_999_999_999_998


@dataclass(frozen=True, slots=True)
class DeadGroup:
    """Dead letters of a type with one error, raised at one line of the user's code.

    error: the exception's name, or the reason if there is none. place: file, line and function of the latest.
    per_hour: how many died in each of the last 24 hours, oldest first; empty for groups that are not among
    the 40 largest. sample: the id of the latest. payload: of the latest; None if it is long. framed: `place`
    is from a stored frame, not from the text of a traceback.
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
    line: str = ""
    """The text of the line at `place`; '' if that is not the user's own code."""
    payload: bytes | None = field(default=None, repr=False)
    framed: bool = field(default=False, repr=False)

    def matches(self, part: str) -> bool:
        """Return whether a selection by this part of an error's name or reason includes the group."""
        return part.lower() in f"{self.error} {self.reason}".lower()


@dataclass(frozen=True, slots=True)
class DeadGroups:
    """The groups, largest first. complete: False if there are more than are listed. faults: what could not be
    read, and is missing in the groups."""

    groups: list[DeadGroup]
    complete: bool
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeadSelection:
    """Selected dead letters of a type: those of one group, those whose error's name or reason contains
    `error` (with both, of the group if it does), or all; that died since and until (ms since the epoch)."""

    type: str
    fingerprint: str = ""
    error: str = ""
    since_ms: int = 0
    until_ms: int = END_MS


class Groups:
    """The dead letters of one app in these shards, in groups. The methods are flows."""

    def __init__(self, app: str, shards: Sequence[int]) -> None:
        self._app = app
        self._shards = shards

    def read(self, types: Iterable[str]) -> Flow[DeadGroups]:
        """Return the groups of these types."""
        groups: list[DeadGroup] = []
        complete, unreadable = True, Unreadable()
        for name in types:
            per_shard: list[DeadGroup] = []
            for shard in self._shards:
                yield from self._readable(name, shard, unreadable, per_shard)
            complete = complete and len(per_shard) < MOST_GROUPS * len(self._shards)
            groups += _merged(per_shard)
        groups.sort(key=lambda group: -group.count)
        complete = complete and len(groups) <= MOST_GROUPS
        charted = yield from self._charted(groups[:CHARTED], unreadable)
        return DeadGroups(charted + groups[CHARTED:MOST_GROUPS], complete, tuple(unreadable.faults))

    def _readable(self, name: str, shard: int, unreadable: Unreadable, into: list[DeadGroup]) -> Flow[None]:
        """Add the groups of a shard, as far as they can be read."""
        try:
            yield from self._of_shard(name, shard, into)
        except ServerError as error:
            if not is_data_fault(error):
                raise
            keys = self._keys(name, shard)
            unreadable.note((yield from describe_fault((keys.groups, keys.letters), error)))

    def _of_shard(self, task_type: str, shard: int, into: list[DeadGroup]) -> Flow[None]:
        keys, after = self._keys(task_type, shard), ""
        for _ in range(0, MOST_GROUPS, STEP):
            found = yield from ask(listing_calls.dead_groups(keys, after, STEP))
            into += [_group(self._app, task_type, shard, group) for group in found]
            if len(found) < STEP:
                return
            after = found[-1].fingerprint

    def _charted(self, groups: list[DeadGroup], unreadable: Unreadable) -> Flow[list[DeadGroup]]:
        """Return the groups with how many died in each hour."""
        counts: dict[tuple[str, str], tuple[int, ...]] = {}
        for name in {group.type for group in groups}:
            marks = [group.fingerprint for group in groups if group.type == name]
            for start in range(0, len(marks), STEP):
                counts |= yield from self._hourly(name, marks[start : start + STEP], unreadable)
        return [replace(group, per_hour=counts[group.type, group.fingerprint]) for group in groups]

    def _hourly(
        self, name: str, marks: list[str], unreadable: Unreadable
    ) -> Flow[dict[tuple[str, str], tuple[int, ...]]]:
        nothing: list[tuple[int, ...]] = [(0,) * SLICES for _ in marks]
        slices = (
            listing_calls.dead_slices(self._keys(name, n), SLICE_MS, SLICES, marks) for n in self._shards
        )
        per_shard = yield from in_turn(unreadable.ask(call, lambda: nothing) for call in slices)
        return {
            (name, mark): tuple(map(sum, zip(*(rows[n] for rows in per_shard), strict=True)))
            for n, mark in enumerate(marks)
        }

    def count(self, selection: DeadSelection) -> Flow[int]:
        """Return how many dead letters are selected."""
        number = 0
        for keys, mark in (yield from self.lists(selection)):
            number += yield from ask(
                listing_calls.dead_count(keys, selection.since_ms, selection.until_ms, mark)
            )
        return number

    def lists(self, selection: DeadSelection) -> Flow[list[tuple[TypeKeys, str]]]:
        """Return the lists of the selected letters: the keys of each shard, with a fingerprint, '' for all
        letters."""
        found: list[tuple[TypeKeys, str]] = []
        for shard in self._shards:
            marks = yield from self._marks(selection, shard)
            found += [(self._keys(selection.type, shard), mark) for mark in marks]
        return found

    def _marks(self, selection: DeadSelection, shard: int) -> Flow[list[str]]:
        if not selection.error:
            return [selection.fingerprint]
        only, found = selection.fingerprint, list[DeadGroup]()
        yield from self._of_shard(selection.type, shard, found)
        return [g.fingerprint for g in found if g.matches(selection.error) and only in ("", g.fingerprint)]

    def _keys(self, task_type: str, shard: int) -> TypeKeys:
        return type_keys(self._app, shard, task_type)


def _group(app: str, task_type: str, shard: int, group: listing_calls.Group) -> DeadGroup:
    have = envelope.fields_dict(group.fields)
    failures = envelope.failures(have.get("f", b""), app, task_type)
    last = failures[-1] if failures else {}
    frame = frame_of(last)
    return DeadGroup(
        type=task_type,
        fingerprint=group.fingerprint,
        error=str(last.get("error") or group.reason),
        message=str(last.get("message", "")),
        place=str(frame) if frame and frame.own else "",
        line=frame.text if frame and frame.own else "",
        reason=group.reason,
        count=group.size,
        first_ms=group.first_ms,
        last_ms=group.last_ms,
        sample=str(TaskId(task_type, shard, group.last_local)),
        payload=_whole(have, About(app, task_type, "payload")),
        framed=stored_frame(last) is not None,
    )


def _whole(have: dict[str, bytes], about: About) -> bytes | None:
    """Return a payload that was not cut; None if it was."""
    payload, size = have.get("p"), count(have.get("size", b"0"), 1 << 62)
    return readable(payload, about) if payload is not None and len(payload) >= size else None


def _merged(groups: Iterable[DeadGroup]) -> list[DeadGroup]:
    """Return one group for each fingerprint, over all shards."""
    merged: dict[str, DeadGroup] = {}
    for group in groups:
        known = merged.get(group.fingerprint)
        merged[group.fingerprint] = group if known is None else _sum(known, group)
    return list(merged.values())


def _sum(one: DeadGroup, other: DeadGroup) -> DeadGroup:
    latest = max(one, other, key=lambda group: group.last_ms)
    return replace(latest, count=one.count + other.count, first_ms=min(one.first_ms, other.first_ms))


def describe(selection: DeadSelection) -> str:
    """Return a selection in words."""
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

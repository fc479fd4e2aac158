"""Lists of several shards as one, the newest first.

Owns the merging and the cursor of a merged list. Each shard's list is in order by itself; a page reads no
more of each than it may need. Pure but for the readers it is given, which are flows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Final, NamedTuple

from streamq.calls.listing import Row, RowPage
from streamq.errors import UsageError
from streamq.flow import Flow
from streamq.stored import moment

REFILLS: Final = 20
"""Reads in one page beyond the first of each shard. One more is enough for a shard that has most of the rows;
where a list has few rows that are wanted, the page ends early."""

Reader = Callable[[str, int], Flow[RowPage]]


class SortKey(NamedTuple):
    """A row's place in the order: the greatest comes first. Two shards may have one id at the same ms."""

    at_ms: int
    member: str
    shard: int


class CursorFormat(NamedTuple):
    """How a list writes where it goes on: `head at_ms member`, the member being `mark` and the local id."""

    head: str = ""
    mark: str = ""

    def write(self, place: SortKey, shard: int) -> str:
        """Where a shard goes on after this place: the same id of a shard before it is still to come."""
        return f"{self.head}{place.at_ms} {place.member}" + ("\0" if shard < place.shard else "")

    def read(self, cursor: str, shard: int) -> SortKey:
        at_ms, _, member = cursor.removeprefix(self.head).partition(" ")
        return SortKey(moment(at_ms), member, shard)

    def of(self, row: Row, shard: int) -> SortKey:
        return SortKey(row.at_ms, self.mark + row.local, shard)


class MergedPage(NamedTuple):
    """Rows with their shards; where the next page begins ('' at the end)."""

    cursor: str
    rows: list[tuple[int, Row]]


class MergedPages:
    """One list out of those of the shards, which are given as readers by their numbers."""

    def __init__(self, readers: Mapping[int, Reader], form: CursorFormat) -> None:
        self._readers, self._form = readers, form

    def read(self, after: str, limit: int) -> Flow[MergedPage]:
        """The page after a cursor. Raises UsageError for one that no page gave out."""
        start = _parsed(after) if after else None
        lines = [
            _Line(reader, self._form, shard, self._form.write(start, shard) if start else "")
            for shard, reader in self._readers.items()
        ]
        for line in lines:
            yield from line.fill(limit // len(lines) + 1)
        return (yield from _merged(lines, limit))


class _Line:
    """What has been read of one shard and not been taken, and a mark where there may be more."""

    def __init__(self, reader: Reader, form: CursorFormat, shard: int, after: str) -> None:
        self._reader, self._form, self._shard, self._after = reader, form, shard, after
        self._waiting: deque[tuple[SortKey, Row | None]] = deque()

    @property
    def head(self) -> SortKey | None:
        """The place of what comes first; None at the end."""
        return self._waiting[0][0] if self._waiting else None

    def take(self) -> tuple[SortKey, Row | None]:
        """What comes first; None for a row is the mark: read on."""
        return self._waiting.popleft()

    def fill(self, limit: int) -> Flow[None]:
        found = yield from self._reader(self._after, limit)
        self._waiting.extend((self._form.of(row, self._shard), row) for row in found.rows)
        if found.cursor:
            self._after = found.cursor
            self._waiting.append((self._form.read(found.cursor, self._shard), None))


def _merged(lines: list[_Line], limit: int) -> Flow[MergedPage]:
    rows, refills = list[tuple[int, Row]](), REFILLS
    while heads := [(line.head, line) for line in lines if line.head is not None]:
        line = max(heads, key=itemgetter(0))[1]
        place, row = line.take()
        if row is not None:
            rows.append((place.shard, row))
            if len(rows) == limit:
                more = any(one.head is not None for one in lines)
                return MergedPage(_written(place) if more else "", rows)
        elif refills:
            refills -= 1
            yield from line.fill(limit - len(rows))
        else:
            return MergedPage(_written(place), rows)
    return MergedPage("", rows)


def _written(place: SortKey) -> str:
    return f"{place.at_ms} {place.shard} {place.member}"


def _parsed(cursor: str) -> SortKey:
    at_ms, shard, member = [*cursor.split(" ", 2), "", ""][:3]
    if not all(text.isascii() and text.isdigit() and len(text) < 17 for text in (at_ms, shard)):
        raise UsageError("cursor: is none that a page gave out")
    return SortKey(int(at_ms), member, int(shard))

"""Merges the lists of several shards into one, the newest first.

Owns the merging and the cursor of a merged list. Each shard's list is sorted; a page reads no more of each
than it may need. Does no I/O: its readers are flows.
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
"""Further reads in one page after the first of each shard. One is enough if one shard has most of the rows;
if few rows of a list match, the page ends early."""

Reader = Callable[[str, int], Flow[RowPage]]


class SortKey(NamedTuple):
    """The sort key of a row: the greatest comes first. Two shards may have the same id at the same ms."""

    at_ms: int
    member: str
    shard: int


class CursorFormat(NamedTuple):
    """The cursor of one shard's list: `head at_ms member`; the member is `mark` and the local id."""

    head: str = ""
    mark: str = ""

    def write(self, key: SortKey, shard: int) -> str:
        """Return the cursor of a shard after this key: the same id in a lower shard is still to come."""
        return f"{self.head}{key.at_ms} {key.member}" + ("\0" if shard < key.shard else "")

    def read(self, cursor: str, shard: int) -> SortKey:
        """Return the key in a shard's cursor."""
        at_ms, _, member = cursor.removeprefix(self.head).partition(" ")
        return SortKey(moment(at_ms), member, shard)

    def of(self, row: Row, shard: int) -> SortKey:
        """Return the key of a row."""
        return SortKey(row.at_ms, self.mark + row.local, shard)


class MergedPage(NamedTuple):
    """Rows with their shards; the cursor of the next page, '' at the end."""

    cursor: str
    rows: list[tuple[int, Row]]


class MergedPages:
    """One list of all shards, each with a reader by its number."""

    def __init__(self, readers: Mapping[int, Reader], form: CursorFormat) -> None:
        self._readers, self._form = readers, form

    def read(self, after: str, limit: int) -> Flow[MergedPage]:
        """Return the page after a cursor. Raises UsageError for an invalid cursor."""
        start = _parsed(after) if after else None
        lists = [
            _ShardList(reader, self._form, shard, self._form.write(start, shard) if start else "")
            for shard, reader in self._readers.items()
        ]
        for one in lists:
            yield from one.fill(limit // len(lists) + 1)
        return (yield from _merged(lists, limit))


class _ShardList:
    """Rows of one shard that were read and not taken yet; None after them if there may be more."""

    def __init__(self, reader: Reader, form: CursorFormat, shard: int, after: str) -> None:
        self._reader, self._form, self._shard, self._after = reader, form, shard, after
        self._waiting: deque[tuple[SortKey, Row | None]] = deque()

    @property
    def head(self) -> SortKey | None:
        """The key of the first row; None at the end."""
        return self._waiting[0][0] if self._waiting else None

    def take(self) -> tuple[SortKey, Row | None]:
        """Return the first row; None means that more must be read."""
        return self._waiting.popleft()

    def fill(self, limit: int) -> Flow[None]:
        """Read more rows."""
        found = yield from self._reader(self._after, limit)
        self._waiting.extend((self._form.of(row, self._shard), row) for row in found.rows)
        if found.cursor:
            self._after = found.cursor
            self._waiting.append((self._form.read(found.cursor, self._shard), None))


def _merged(lists: list[_ShardList], limit: int) -> Flow[MergedPage]:
    rows, refills = list[tuple[int, Row]](), REFILLS
    while heads := [(one.head, one) for one in lists if one.head is not None]:
        newest = max(heads, key=itemgetter(0))[1]
        key, row = newest.take()
        if row is not None:
            rows.append((key.shard, row))
            if len(rows) == limit:
                more = any(one.head is not None for one in lists)
                return MergedPage(_written(key) if more else "", rows)
        elif refills:
            refills -= 1
            yield from newest.fill(limit - len(rows))
        else:
            return MergedPage(_written(key), rows)
    return MergedPage("", rows)


def _written(key: SortKey) -> str:
    return f"{key.at_ms} {key.shard} {key.member}"


def _parsed(cursor: str) -> SortKey:
    at_ms, shard, member = [*cursor.split(" ", 2), "", ""][:3]
    if not all(text.isascii() and text.isdigit() and len(text) < 17 for text in (at_ms, shard)):
        raise UsageError("invalid cursor: use one returned by a previous page")
    return SortKey(int(at_ms), member, int(shard))

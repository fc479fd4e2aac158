"""The list of completed tasks over several types and shards, strictly the newest first.

Owns the merging. Results lie in hashes: of the second in which their tasks were enqueued, or of 256 tasks
that began in the schedule. The list goes from one second to the one before; the rows of one are sorted over
all types and shards by when each was enqueued. Only where one second has more than `MOST_ROWS`, they follow
by type in it, so that the cost of a page has a bound. Does no I/O: reads are flows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from streamq.calls import listing as listing_calls
from streamq.control.completed_tasks import Bucket, CompletedTasks
from streamq.control.unreadable import Unreadable
from streamq.errors import UsageError
from streamq.flow import Flow
from streamq.keys import TypeKeys
from streamq.stored import count

MOST_SOURCES: Final = 100
"""Types times shards that are merged; of more, one follows after the other."""
MOST_ROWS: Final = 500
"""Rows of one second that are read at once to be sorted."""
SECONDS_AT_ONCE: Final = 20
"""Seconds with rows that one read goes over, and minutes without that it skips."""
NEWEST: Final = 10**9
"""A minute later than all."""
_SORTED, _BY_TYPE = 1, 2
_DIGITS: Final = 20
"""Those of the largest number in an id, which has 64 bits."""

Slot = tuple[int, int]
"""A hash in each source: the minute, and the second in it or the number of `CompletedTasks.in_minute`."""
Key = tuple[int, int, int]
"""The sort key of a row: ms, the number in that, and minus the source. The greatest comes first."""


class Source(NamedTuple):
    """One type in one shard."""

    type: str
    shard: int
    keys: TypeKeys


class Position(NamedTuple):
    """Where a page begins: a slot, and in it behind a key (a, b, source c) or at row b of source a."""

    minute: int = NEWEST
    second: int = NEWEST
    mode: int = 0
    a: int = 0
    b: int = 0
    c: int = 0

    @property
    def slot(self) -> Slot:
        return self.minute, self.second

    def text(self) -> str:
        return " ".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Position:
        """Raise UsageError if it is none."""
        if not text:
            return cls()
        parts = text.split(" ")
        if len(parts) != len(cls._fields) or not all(
            part.isascii() and part.isdigit() and len(part) <= _DIGITS for part in parts
        ):
            raise UsageError("invalid cursor: use one returned by a previous page")
        return cls(*map(int, parts))


class NewestPage(NamedTuple):
    """Rows with their sources; where the next page begins, None at the end."""

    rows: list[tuple[Source, listing_calls.Row]]
    following: Position | None


class NewestCompleted:
    """The completed tasks of these sources. Each read continues where the one before ended."""

    def __init__(self, unreadable: Unreadable, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._lists = [_SourceList(unreadable, one.keys) for one in sources]
        self._began = False

    def read(self, begin: Position, limit: int) -> Flow[NewestPage]:
        """Return rows from a position on. Raises UsageError."""
        for one in self._lists:
            if not self._began:
                one.begin(begin.slot)
            yield from one.fill()
        self._began = True
        rows = list[tuple[Source, listing_calls.Row]]()
        for _ in range(SECONDS_AT_ONCE):
            slot = max((one.slot for one in self._lists if one.slot is not None), default=None)
            if slot is None:
                return NewestPage(rows, None)
            within = begin if begin.slot == slot else Position(*slot)
            found, following = yield from self._of_slot(within, limit - len(rows))
            rows += found
            if following is not None:
                return NewestPage(rows, following)
            for one in self._lists:
                if one.slot == slot:
                    one.drop()
                    yield from one.fill()
            if len(rows) >= limit:
                break
        slot = max((one.slot for one in self._lists if one.slot is not None), default=None)
        return NewestPage(rows, None if slot is None else Position(*slot))

    def _of_slot(
        self, begin: Position, limit: int
    ) -> Flow[tuple[list[tuple[Source, listing_calls.Row]], Position | None]]:
        """Return rows of one slot, and where it goes on in that; None if that was all of it."""
        sharing = [n for n, one in enumerate(self._lists) if one.slot == begin.slot]
        if begin.mode == _BY_TYPE or sum(self._lists[n].size for n in sharing) > MOST_ROWS:
            return (yield from self._by_type(begin, sharing, limit))
        keyed = [(_key(row, n), n, row) for n in sharing for row in self._lists[n].rows]
        last: Key = (begin.a, begin.b, -begin.c)
        rest = sorted((one for one in keyed if begin.mode != _SORTED or one[0] < last), reverse=True)
        found = [(self._sources[n], row) for _, n, row in rest[:limit]]
        if len(rest) <= limit:
            return found, None
        ms, number, source = rest[limit - 1][0] if limit else last
        return found, Position(*begin.slot, _SORTED, ms, number, -source)

    def _by_type(
        self, begin: Position, sharing: Sequence[int], limit: int
    ) -> Flow[tuple[list[tuple[Source, listing_calls.Row]], Position | None]]:
        """Return the same of a slot with too many rows to be sorted: one source after the other."""
        first, skip = (begin.a, begin.b) if begin.mode == _BY_TYPE else (0, 0)
        found = list[tuple[Source, listing_calls.Row]]()
        for n in (one for one in sharing if one >= first):
            at = skip if n == first else 0
            while at < self._lists[n].size:
                if len(found) >= limit:
                    return found, Position(*begin.slot, _BY_TYPE, n, at)
                rows = yield from self._lists[n].from_row(at, limit - len(found))
                if not rows:
                    break
                found += [(self._sources[n], row) for row in rows]
                at += len(rows)
        return found, None


class _SourceList:
    """The hashes of one source, the newest first. slot: of the one that is read, None at the end; size: its
    number of rows; rows: the first of them, and none of a minute that is still to be looked for."""

    def __init__(self, unreadable: Unreadable, keys: TypeKeys) -> None:
        self._unreadable, self._keys = unreadable, keys
        self._tasks = CompletedTasks(unreadable, keys)
        self._waiting: list[tuple[Slot, Bucket]] = []
        self._bucket: Bucket | None = None
        self._most: Slot = (NEWEST, NEWEST)
        self.slot: Slot | None = None
        self.size: int = 0
        self.rows: list[listing_calls.Row] = []

    def begin(self, most: Slot) -> None:
        """Begin at a slot: it and older ones are read."""
        self._most = self.slot = most

    def drop(self) -> None:
        """Leave the slot that was read."""
        self.rows, self.size, self._bucket = [], 0, None

    def fill(self) -> Flow[None]:
        """Read the next hash that has rows, unless one is read. After many minutes without any the slot is
        where to go on."""
        for _ in range(SECONDS_AT_ONCE):
            if self.rows or self.slot is None:
                return
            if not self._waiting:
                yield from self._look()
                if not self._waiting:
                    continue
            number, self.size, self.rows = yield from self._tasks.first_rows(
                [bucket for _, bucket in self._waiting], 0, MOST_ROWS
            )
            if number:
                self.slot, self._bucket = self._waiting[number - 1]
            self._waiting = self._waiting[number:] if number else []

    def _look(self) -> Flow[None]:
        """Look for the newest minute that has hashes."""
        ask = self._unreadable.ask
        minute = yield from ask(listing_calls.newest_minute(self._keys, self._most[0]), lambda: None)
        if minute is None:
            self.slot = None
            return
        members = yield from ask(listing_calls.buckets_of(self._keys, minute), list)
        self._waiting = sorted(
            (
                ((minute, second), bucket)
                for member in members
                for second, bucket in self._tasks.in_minute(member)
                if (minute, second) <= self._most
            ),
            key=lambda one: one[0], reverse=True,
        )  # fmt: skip
        self._most = self.slot = (minute - 1, NEWEST)

    def from_row(self, skip: int, limit: int) -> Flow[list[listing_calls.Row]]:
        """Return rows of the hash that is read."""
        if self._bucket is None:
            return []
        _, _, rows = yield from self._tasks.first_rows([self._bucket], skip, limit)
        return rows


def _key(row: listing_calls.Row, source: int) -> Key:
    """Return the sort key of a row: when its task was enqueued; of one that began in the schedule, when it
    ended."""
    stamp, _, number = row.local[1:].partition("-")
    ms = row.at_ms if row.local.startswith("d") else count(stamp)
    return ms, int(number) if number.isascii() and number.isdigit() and len(number) <= _DIGITS else 0, -source

"""The list of completed tasks over several types and shards, the newest first.

Owns the merging. Results are stored by the minute in which their task was enqueued, so the lists are merged
minute by minute: within one they follow by type and shard, and a page is then sorted by the time of the end.
Does no I/O: reads are flows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from streamq.calls import listing as listing_calls
from streamq.control.completed_tasks import CompletedTasks
from streamq.control.unreadable import Unreadable
from streamq.errors import UsageError
from streamq.flow import Flow
from streamq.keys import TypeKeys

MOST_SOURCES: Final = 100
"""Types times shards that are merged; of more, one follows after the other."""
NEWEST: Final = 10**9
"""A minute later than all."""


class Source(NamedTuple):
    """One type in one shard."""

    type: str
    shard: int
    keys: TypeKeys


class Position(NamedTuple):
    """Where a page begins: the minute, the number of the source in it, the member, and the place in that."""

    minute: int = NEWEST
    source: int = 0
    after: str = ""

    def text(self) -> str:
        return f"{self.minute} {self.source} {self.after}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Raise UsageError if it is none."""
        minute, source, after = [*text.split(" ", 2), "", ""][:3]
        if not text:
            return cls()
        if not all(part.isascii() and part.isdigit() and len(part) < 12 for part in (minute, source)):
            raise UsageError("invalid cursor: use one returned by a previous page")
        return cls(int(minute), int(source), after)


class MinutePage(NamedTuple):
    """Rows with their sources; where the next page begins, None at the end."""

    rows: list[tuple[Source, listing_calls.Row]]
    following: Position | None


class NewestCompleted:
    """The completed tasks of these sources."""

    def __init__(self, unreadable: Unreadable, sources: Sequence[Source]) -> None:
        self._unreadable, self._sources = unreadable, sources

    def read(self, begin: Position, limit: int) -> Flow[MinutePage]:
        """Return rows of the newest minute from `begin` on that has any."""
        found = yield from self._minute(begin.minute)
        if found is None:
            return MinutePage([], None)
        rows = list[tuple[Source, listing_calls.Row]]()
        start = begin if found == begin.minute else Position(found)
        for n in range(start.source, len(self._sources)):
            after = start.after if n == start.source else ""
            while len(rows) < limit:
                page = yield from self._of_source(n, found, after, limit - len(rows))
                rows += [(self._sources[n], row) for row in page.rows]
                after = page.cursor
                if not after:
                    break
            if after or len(rows) >= limit:
                return MinutePage(_sorted(rows), _next(found, n, after, len(self._sources)))
        return MinutePage(_sorted(rows), Position(found - 1))

    def _minute(self, most: int) -> Flow[int | None]:
        """Return the newest minute, `most` at the latest, in which any source has results."""
        newest: int | None = None
        for one in self._sources:
            call = listing_calls.newest_minute(one.keys, most)
            minute = yield from self._unreadable.ask(call, lambda: None)
            if minute is not None and (newest is None or minute > newest):
                newest = minute
        return newest

    def _of_source(self, n: int, minute: int, after: str, limit: int) -> Flow[listing_calls.RowPage]:
        one = self._sources[n]
        members = yield from self._unreadable.ask(listing_calls.buckets_of(one.keys, minute), list)
        return (yield from CompletedTasks(self._unreadable, one.keys).within(members, after, limit))


def _next(minute: int, source: int, after: str, number: int) -> Position:
    if after:
        return Position(minute, source, after)
    return Position(minute, source + 1) if source + 1 < number else Position(minute - 1)


def _sorted(rows: list[tuple[Source, listing_calls.Row]]) -> list[tuple[Source, listing_calls.Row]]:
    return sorted(rows, key=lambda row: -row[1].at_ms)

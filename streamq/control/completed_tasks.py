"""The list of completed tasks, which are stored in many small hashes.

Owns the walk over these hashes and its cursor. Does no I/O: reads are flows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from streamq.calls import listing as listing_calls
from streamq.control.unreadable import Unreadable
from streamq.errors import UsageError
from streamq.flow import Flow
from streamq.keys import RESULT_BUCKET_MS, SCHEDULED_RESULTS, TypeKeys
from streamq.stored import count, moment

MEMBERS_AT_ONCE: Final = 20
_MEMBER: Final = re.compile(r"d?[0-9]{1,15}")


class Bucket(NamedTuple):
    """A hash of results: its cursor, and its key."""

    cursor: str
    key: str


class CompletedTasks:
    """The completed tasks of a type in a shard, newest first. There is one hash for each second in which they
    were enqueued, or for each 256 that began in the schedule; one call reads many hashes.

    A cursor is the member of the index, the number of the hash in it, and the rows to skip.
    """

    def __init__(self, unreadable: Unreadable, t: TypeKeys) -> None:
        self._ask = unreadable.ask
        self._t = t

    def read(self, after: str, limit: int) -> Flow[listing_calls.RowPage]:
        """Return the page after a cursor. Raises UsageError."""
        member, _, _ = self._cursor(after)
        members = yield from self._ask(listing_calls.page_buckets(self._t, member, MEMBERS_AT_ONCE + 1), list)
        return (yield from self._page(members, after, limit))

    def _page(self, members: list[str], after: str, limit: int) -> Flow[listing_calls.RowPage]:
        _, hash_, skip = self._cursor(after)
        buckets = [bucket for one in members[:MEMBERS_AT_ONCE] for bucket in self._buckets(one)][hash_:]
        following = f"{members[-1]}:0:0" if len(members) > MEMBERS_AT_ONCE else ""
        number, size, rows = (yield from self.first_rows(buckets, skip, limit)) if buckets else (0, 0, [])
        if not rows:
            return listing_calls.RowPage(following, [])
        seen = (skip if number == 1 else 0) + len(rows)
        if seen < size:
            following = f"{buckets[number - 1].cursor}:{seen}"
        elif number < len(buckets):
            following = f"{buckets[number].cursor}:0"
        return listing_calls.RowPage(following, rows)

    def first_rows(
        self, buckets: Sequence[Bucket], skip: int, limit: int
    ) -> Flow[tuple[int, int, list[listing_calls.Row]]]:
        """Return the rows of the first of these hashes that has any, its number from 1, and how many rows it
        has; number 0 if none has. One that cannot be read must not hide the others."""
        unread = (-1, 0, list[listing_calls.Row]())
        number, size, rows = yield from self._ask(
            listing_calls.page_results([bucket.key for bucket in buckets], skip, limit), lambda: unread
        )
        for n in range(len(buckets) if number < 0 else 0):
            number, size, rows = yield from self._ask(
                listing_calls.page_results([buckets[n].key], skip if n == 0 else 0, limit), lambda: unread
            )
            if number > 0:
                return n + 1, size, _dated(rows)
        return (number, size, _dated(rows)) if number > 0 else (0, 0, [])

    def in_minute(self, member: str) -> list[tuple[int, Bucket]]:
        """Return the hashes of a member of the index, each with its second; those of tasks that began in the
        schedule come before all seconds, by their number."""
        buckets = self._buckets(member)
        if member.startswith("d"):
            return [(60 + count(member[1:]), bucket) for bucket in buckets]
        return [(59 - n, bucket) for n, bucket in enumerate(buckets)]

    def _cursor(self, after: str) -> tuple[str | None, int, int]:
        member, hash_, skip = [*after.rsplit(":", 2), "", ""][:3]  # a damaged member may have any character
        if not after:
            return None, 0, 0
        if not (hash_.isdigit() and skip.isdigit()):
            raise UsageError("invalid cursor: use one returned by a previous page")
        return member, count(hash_), count(skip)

    def _buckets(self, member: str) -> list[Bucket]:
        """Return the hashes of a member of the index."""
        if not _MEMBER.fullmatch(member):  # streamq did not write it
            return []
        if member.startswith("d"):
            return [Bucket(f"{member}:0", self._t.results(f"d0-{count(member[1:]) * SCHEDULED_RESULTS}"))]
        first = count(member) * 60_000
        keys = [self._t.results(f"n{first + at * RESULT_BUCKET_MS}-0") for at in range(59, -1, -1)]
        return [Bucket(f"{member}:{n}", key) for n, key in enumerate(keys)]


def _dated(rows: list[listing_calls.Row]) -> list[listing_calls.Row]:
    """Return rows that have a time: where none is stored, that of the enqueuing."""
    return [row if row.at_ms else row._replace(at_ms=_stamp(row.local)) for row in rows]


def _stamp(local: str) -> int:
    return moment(local[1:].partition("-")[0])

"""Lists of tasks in pages: every state, from a cursor on, filtered; each page is bounded.

Owns the walk over task types, shards and streams, and what a filter means. A page looks at so many rows
and takes so long at most; where that ends it early, it says from where to go on. Writes nothing. Tasks
move while they are listed: one may be missed or met twice.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from streamq import envelope
from streamq.calls import listing as listing_calls
from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.control.merged_pages import CursorFormat, MergedPage, MergedPages, Reader
from streamq.control.unreadable import Unreadable
from streamq.errors import UsageError
from streamq.flow import Flow, ask
from streamq.keys import RESULT_BUCKET_MS, SCHEDULED_RESULTS, TypeKeys, type_keys
from streamq.model.task import STATES, State, TaskId
from streamq.payloads.reading import readable
from streamq.stored import count, moment

MOST_ROWS: Final = 200
LOOK_AT: Final = 2000
"""Rows that a page looks at at most."""
LOOK_FOR: Final = 0.06
"""Seconds after which a page ends, full or not."""
SHOWN: Final = 600
"""Bytes of a payload in a list, as the scripts that read lists cut it."""
MEMBERS_AT_ONCE: Final = 20
_MEMBER: Final = re.compile(r"d?[0-9]{1,15}")
ENDED: Final[dict[State, str]] = {"dead": "", "cancelled": "x", "expired": "e"}
"""The lists that are kept by time, the newest first, with the mark that is before an id in its set."""


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks of a list. None and empty texts let everything through.

    error: part of the last error's name or message, or of the reason. id: part of the id.
    older_than, newer_than: seconds since that moment which a row tells as `at_ms` (for a scheduled task:
    until it is due, so newer_than is "due within"). fingerprint: dead letters of one group. told: what of a
    row an error is searched in, where that is not `TaskRow.told`.
    """

    error: str = ""
    id: str = ""
    older_than: float | None = None
    newer_than: float | None = None
    fingerprint: str = ""
    told: Callable[[TaskRow], str] | None = None

    @property
    def empty(self) -> bool:
        return not (self.error or self.id) and self.older_than is None and self.newer_than is None

    def lets(self, row: TaskRow, now_ms: int) -> bool:
        """Whether this row belongs to the list."""
        age = abs(now_ms - row.at_ms) / 1000
        return (
            (not self.id or self.id in row.id)
            and (not self.error or self.error.lower() in (self.told(row) if self.told else row.told).lower())
            and (self.older_than is None or age >= self.older_than)
            and (self.newer_than is None or age <= self.newer_than)
        )


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task as a list shows it.

    at_ms: when it became ready (of one that runs too), is due, died or ended; for a completed task when it
    was enqueued. payload: the first 600 bytes of `payload_size`. last_error: the latest failure.
    """

    id: str
    type: str
    state: State
    priority: str
    at_ms: int
    attempts_failed: int = 0
    lost: int = 0
    worker: str = ""
    lease_idle_ms: int = 0
    reason: str = ""
    fingerprint: str = ""
    payload: bytes | None = None
    payload_size: int = 0
    result: bytes | None = None
    last_error: dict[str, object] | None = None
    fields: dict[str, bytes] = field(repr=False, default_factory=dict)

    @property
    def told(self) -> str:
        """What there is to search for an error in."""
        return told(self.last_error, self.reason)

    @property
    def whole_payload(self) -> bytes | None:
        """The payload where the row has all of it."""
        return self.payload if self.payload is not None and len(self.payload) >= self.payload_size else None


def told(failure: dict[str, object] | None, reason: str) -> str:
    """What there is of a failure to search for an error in."""
    last = failure or {}
    return f"{last.get('error', '')}: {last.get('message', '')} {reason}"


@dataclass(frozen=True, slots=True)
class TaskPage:
    """A page: `cursor` is where the next one begins, '' at the end of the list; `looked_at` rows.
    `faults`: what could not be read, and is not in the rows."""

    rows: list[TaskRow]
    cursor: str
    looked_at: int
    now_ms: int
    faults: tuple[str, ...] = ()


class TaskList:
    """Lists the tasks of one app in these shards."""

    def __init__(self, app: str, shards: Sequence[int]) -> None:
        self._look = Unreadable()
        self._app = app
        self._shards = shards

    def page(
        self, state: State, types: Sequence[str], cursor: str, limit: int, wanted: TaskFilter
    ) -> Flow[TaskPage]:
        """Return a page of the tasks of these types in a state, type by type. Raises UsageError."""
        if state not in STATES or state == "unknown":
            known = ", ".join(name for name in STATES if name != "unknown")
            raise UsageError(f"there is no list of {state!r} tasks; there are: {known}")
        if not 1 <= limit <= MOST_ROWS:
            raise UsageError(f"limit={limit}: a page has 1 to {MOST_ROWS} rows")
        walk = _Walk(self._steps(state, sorted(types), _Cursor.parse(cursor), wanted), limit, wanted)
        page = yield from walk.page((yield from ask(question_calls.now())))
        return replace(page, faults=tuple(self._look.told))

    def _steps(self, state: State, types: list[str], cursor: _Cursor, wanted: TaskFilter) -> Iterator[_Step]:
        merged = state in ENDED and len(self._shards) > 1
        for name in types:
            for shard in (0,) if merged else self._shards:
                place = (name, shard)
                if place < (cursor.type, cursor.shard):
                    continue
                after = cursor.after if place == (cursor.type, cursor.shard) else ""
                read = self._merged(state, name, wanted) if merged else self._one(state, name, shard, wanted)
                yield _Step(name, shard, after, read)

    def _one(self, state: State, name: str, shard: int, wanted: TaskFilter) -> _Reader:
        """The list of one shard."""
        read = self._reader(state, type_keys(self._app, shard, name), wanted)

        def page(after: str, limit: int) -> Flow[MergedPage]:
            found = yield from read(after, limit)
            return MergedPage(found.cursor, [(shard, row) for row in found.rows])

        return page

    def _merged(self, state: State, name: str, wanted: TaskFilter) -> _Reader:
        """The lists of all shards in one, the newest first."""
        head = f"{wanted.fingerprint} " if state == "dead" and wanted.fingerprint else ""
        form = CursorFormat(head, ENDED.get(state, ""))
        keys = {shard: type_keys(self._app, shard, name) for shard in self._shards}
        return MergedPages({shard: self._reader(state, t, wanted) for shard, t in keys.items()}, form).read

    def _reader(self, state: State, t: TypeKeys, wanted: TaskFilter) -> Reader:
        def run(call: Call[listing_calls.RowPage]) -> Flow[listing_calls.RowPage]:
            return self._look.ask(call, lambda: listing_calls.RowPage("", []))

        match state:
            case "ready" | "running":
                return lambda after, limit: run(listing_calls.page_streams(t, state, after, limit))
            case "scheduled":
                return lambda after, limit: run(listing_calls.page_schedule(t, after, limit))
            case "parked":
                return lambda after, limit: run(listing_calls.page_lanes(t, after, limit))
            case "dead":
                return lambda after, limit: run(listing_calls.page_dead(t, after, limit, wanted.fingerprint))
            case "completed":
                return _Completed(self._look, t).read
            case _:
                return lambda after, limit: run(listing_calls.page_ended(t, state, after, limit))


_Reader = Callable[[str, int], Flow[MergedPage]]


@dataclass(frozen=True, slots=True)
class _Step:
    type: str
    shard: int
    after: str
    read: _Reader


class _Walk:
    """Reads steps until a page is full, or until it has looked long enough."""

    def __init__(self, steps: Iterator[_Step], limit: int, wanted: TaskFilter) -> None:
        self._steps, self._limit, self._wanted = steps, limit, wanted
        self._rows: list[TaskRow] = []
        self._looked_at = 0
        self._until = time.monotonic() + LOOK_FOR

    def page(self, now_ms: int) -> Flow[TaskPage]:
        cursor = ""
        for step in self._steps:
            cursor = yield from self._step(step, now_ms)
            if cursor:
                break
        return TaskPage(self._rows, cursor, self._looked_at, now_ms)

    def _step(self, step: _Step, now_ms: int) -> Flow[str]:
        """Walk one type in one shard or in all; return where to go on where the page ends here."""
        after = step.after
        while not self._over():
            found = yield from step.read(after, self._limit - len(self._rows))
            self._looked_at += max(1, len(found.rows))
            rows = [_row(step.type, shard, row) for shard, row in found.rows]
            self._rows += [row for row in rows if self._wanted.lets(row, now_ms)]
            after = found.cursor
            if not after:
                return ""
        return _Cursor(step.type, step.shard, after).text()

    def _over(self) -> bool:
        full = len(self._rows) >= self._limit
        return full or self._looked_at >= LOOK_AT or time.monotonic() > self._until


@dataclass(frozen=True, slots=True)
class _Cursor:
    type: str = ""
    shard: int = 0
    after: str = ""

    def text(self) -> str:
        raw = f"{self.type}\n{self.shard}\n{self.after}".encode("utf-8", "surrogateescape")
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> _Cursor:
        if not text:
            return cls()
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
            name, shard, after = raw.decode("utf-8", "surrogateescape").split("\n", 2)
            return cls(name, int(shard), after)
        except (ValueError, binascii.Error):
            raise UsageError(f"cursor={text[:40]!r} is none that a page gave out") from None


class _Completed:
    """Completed tasks lie in many small hashes: one for each second in which they were enqueued, or for
    each 256 that began in the schedule. MergedPages first; many hashes are looked at in one call.

    A cursor is the member of the index, the number of the hash in it, and the rows to skip.
    """

    def __init__(self, look: Unreadable, t: TypeKeys) -> None:
        self._ask = look.ask
        self._t = t

    def read(self, after: str, limit: int) -> Flow[listing_calls.RowPage]:
        member, hash_, skip = self._cursor(after)
        members = yield from self._ask(listing_calls.page_buckets(self._t, member, MEMBERS_AT_ONCE + 1), list)
        places = [place for one in members[:MEMBERS_AT_ONCE] for place in self._hashes(one)][hash_:]
        following = f"{members[-1]}:0:0" if len(members) > MEMBERS_AT_ONCE else ""
        number, size, rows = (yield from self._results(places, skip, limit)) if places else (0, 0, [])
        if not rows:
            return listing_calls.RowPage(following, [])
        seen = (skip if number == 1 else 0) + len(rows)
        if seen < size:
            following = f"{places[number - 1][0]}:{seen}"
        elif number < len(places):
            following = f"{places[number][0]}:0"
        return listing_calls.RowPage(following, [row._replace(at_ms=_stamp(row.local)) for row in rows])

    def _results(
        self, places: Sequence[tuple[str, str]], skip: int, limit: int
    ) -> Flow[tuple[int, int, list[listing_calls.Row]]]:
        """Return the rows of the first hash that has any; a hash that cannot be read takes no other along."""
        unread = (-1, 0, list[listing_calls.Row]())
        found = yield from self._ask(
            listing_calls.page_results([key for _, key in places], skip, limit), lambda: unread
        )
        if found is not unread:
            return found
        for n, (_, key) in enumerate(places):
            number, size, rows = yield from self._ask(
                listing_calls.page_results([key], skip if n == 0 else 0, limit), lambda: unread
            )
            if number > 0:
                return n + 1, size, rows
        return 0, 0, []

    def _cursor(self, after: str) -> tuple[str | None, int, int]:
        member, hash_, skip = [*after.rsplit(":", 2), "", ""][:3]  # a damaged member may have any character
        if not after:
            return None, 0, 0
        if not (hash_.isdigit() and skip.isdigit()):
            raise UsageError("cursor: is none that a page gave out")
        return member, count(hash_), count(skip)

    def _hashes(self, member: str) -> list[tuple[str, str]]:
        """The hashes of a member of the index: each as a cursor says it, with its key."""
        if not _MEMBER.fullmatch(member):  # streamq did not write it
            return []
        if member.startswith("d"):
            return [(f"{member}:0", self._t.results(f"d0-{count(member[1:]) * SCHEDULED_RESULTS}"))]
        first = count(member) * 60_000
        keys = [self._t.results(f"n{first + at * RESULT_BUCKET_MS}-0") for at in range(59, -1, -1)]
        return [(f"{member}:{n}", key) for n, key in enumerate(keys)]


def _stamp(local: str) -> int:
    return moment(local[1:].partition("-")[0])


def _row(task_type: str, shard: int, row: listing_calls.Row) -> TaskRow:
    have = envelope.fields_dict(row.fields)
    failures, payload = envelope.failures(have.get("f", b"")), readable(have.get("p"))
    return TaskRow(
        id=str(TaskId(task_type, shard, row.local)),
        type=task_type,
        state=row.state,
        priority={"h": "high", "l": "low"}.get(row.priority, "normal"),
        at_ms=row.at_ms,
        attempts_failed=failed_attempts(count(have.get("a")), failures),
        lost=count(have.get("l")),
        worker=row.worker,
        lease_idle_ms=row.idle_ms,
        reason=row.reason,
        fingerprint=row.fingerprint,
        payload=None if payload is None else payload[:SHOWN],
        payload_size=count(have.get("size")) if payload is have.get("p") else len(payload or b""),
        result=(readable(have.get("result")) or b"null") if "result" in have else None,
        last_error=failures[-1] if failures else None,
        fields=have,
    )


def failed_attempts(counted: int, failures: list[dict[str, object]]) -> int:
    """How many attempts failed: the last one of a dead letter is in its history only."""
    return max(counted, len([failure for failure in failures if failure.get("error") != "WorkerLost"]))

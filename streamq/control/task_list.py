"""Lists of tasks in pages: every state, from a cursor on, filtered; each page is bounded.

Owns the walk over task types, shards and streams. A page reads a limited number of rows in a limited time; if
that ends it early, its cursor continues there. Tasks move while they are listed: one may be missing or appear
twice. Must not write.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from streamq.calls import listing as listing_calls
from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.control.completed_tasks import CompletedTasks
from streamq.control.merged_pages import CursorFormat, MergedPages, Reader
from streamq.control.newest_completed import MOST_SOURCES, NewestCompleted, Position, Source
from streamq.control.task_rows import TaskFilter, TaskRow, row_of
from streamq.control.unreadable import Unreadable
from streamq.errors import UsageError
from streamq.flow import Flow, ask
from streamq.keys import TypeKeys, type_keys
from streamq.model.task import STATES, State

MOST_ROWS: Final = 200
LOOK_AT: Final = 2000
"""Rows that a page reads at most."""
LOOK_FOR: Final = 0.06
"""Seconds after which a page ends, even if it is not full."""
ENDED: Final[dict[State, str]] = {"dead": "", "cancelled": "x", "expired": "e"}
"""The states whose lists are sorted by time, newest first, with the prefix of an id in the sorted set."""


@dataclass(frozen=True, slots=True)
class TaskPage:
    """A page. cursor: of the next one; '' at the end of the list. looked_at: rows that were read. faults:
    what could not be read, and is missing in the rows."""

    rows: list[TaskRow]
    cursor: str
    looked_at: int
    now_ms: int
    faults: tuple[str, ...] = ()


class TaskList:
    """Lists the tasks of one app in these shards."""

    def __init__(self, app: str, shards: Sequence[int]) -> None:
        self._unreadable = Unreadable()
        self._app = app
        self._shards = shards

    def page(
        self, state: State, types: Sequence[str], cursor: str, limit: int, selected: TaskFilter
    ) -> Flow[TaskPage]:
        """Return a page of the tasks of these types in a state, type by type. Raises UsageError."""
        if state not in STATES or state == "unknown":
            known = ", ".join(name for name in STATES if name != "unknown")
            raise UsageError(f"there is no list of {state!r} tasks: use one of {known}")
        if not 1 <= limit <= MOST_ROWS:
            raise UsageError(f"limit={limit} must be from 1 to {MOST_ROWS}")
        steps = self._steps(state, sorted(types), _Cursor.parse(cursor), selected)
        walk = _Walk(self._app, steps, limit, selected)
        page = yield from walk.page((yield from ask(question_calls.now())))
        return replace(page, faults=tuple(self._unreadable.faults))

    def _steps(
        self, state: State, types: list[str], cursor: _Cursor, selected: TaskFilter
    ) -> Iterator[_Step]:
        sources = [Source(name, n, type_keys(self._app, n, name)) for name in types for n in self._shards]
        if state == "completed" and 0 < len(sources) <= MOST_SOURCES:
            yield _Step("", 0, cursor.after, self._newest(sources))
            return
        merged = state in ENDED and len(self._shards) > 1
        for name in types:
            for shard in (0,) if merged else self._shards:
                at = (name, shard)
                if at < (cursor.type, cursor.shard):
                    continue
                after = cursor.after if at == (cursor.type, cursor.shard) else ""
                read = (
                    self._merged(state, name, selected) if merged else self._one(state, name, shard, selected)
                )
                yield _Step(name, shard, after, read)

    def _newest(self, sources: Sequence[Source]) -> _Reader:
        """Return the reader of all completed tasks of these types and shards, newest first."""
        merged = NewestCompleted(self._unreadable, sources)

        def page(after: str, limit: int) -> Flow[_Rows]:
            found = yield from merged.read(Position.parse(after), limit)
            rows = [(one.type, one.shard, row) for one, row in found.rows]
            return _Rows(found.following.text() if found.following else "", rows)

        return page

    def _one(self, state: State, name: str, shard: int, selected: TaskFilter) -> _Reader:
        """Return the reader of one shard's list."""
        read = self._reader(state, type_keys(self._app, shard, name), selected)

        def page(after: str, limit: int) -> Flow[_Rows]:
            found = yield from read(after, limit)
            return _Rows(found.cursor, [(name, shard, row) for row in found.rows])

        return page

    def _merged(self, state: State, name: str, selected: TaskFilter) -> _Reader:
        """Return the reader of all shards' lists, merged, newest first."""
        head = f"{selected.fingerprint} " if state == "dead" and selected.fingerprint else ""
        form = CursorFormat(head, ENDED.get(state, ""))
        keys = {shard: type_keys(self._app, shard, name) for shard in self._shards}
        pages = MergedPages({shard: self._reader(state, t, selected) for shard, t in keys.items()}, form)

        def page(after: str, limit: int) -> Flow[_Rows]:
            found = yield from pages.read(after, limit)
            return _Rows(found.cursor, [(name, shard, row) for shard, row in found.rows])

        return page

    def _reader(self, state: State, t: TypeKeys, selected: TaskFilter) -> Reader:
        def run(call: Call[listing_calls.RowPage]) -> Flow[listing_calls.RowPage]:
            return self._unreadable.ask(call, lambda: listing_calls.RowPage("", []))

        match state:
            case "ready" | "running":
                return lambda after, limit: run(listing_calls.page_streams(t, state, after, limit))
            case "scheduled":
                return lambda after, limit: run(listing_calls.page_schedule(t, after, limit))
            case "parked":
                return lambda after, limit: run(listing_calls.page_lanes(t, after, limit))
            case "dead":
                return lambda after, limit: run(
                    listing_calls.page_dead(t, after, limit, selected.fingerprint)
                )
            case "completed":
                return CompletedTasks(self._unreadable, t).read
            case _:
                return lambda after, limit: run(listing_calls.page_ended(t, state, after, limit))


class _Rows(NamedTuple):
    """Rows with their types and shards; the cursor of the next page, '' at the end."""

    cursor: str
    rows: list[tuple[str, int, listing_calls.Row]]


_Reader = Callable[[str, int], Flow[_Rows]]


@dataclass(frozen=True, slots=True)
class _Step:
    type: str
    shard: int
    after: str
    read: _Reader


class _Walk:
    """Reads steps until a page is full, or has reached a limit."""

    def __init__(self, app: str, steps: Iterator[_Step], limit: int, selected: TaskFilter) -> None:
        self._app = app
        self._steps, self._limit, self._selected = steps, limit, selected
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
        """Read one type in one shard or in all; return the cursor if the page ends here."""
        after = step.after
        while not self._over():
            found = yield from step.read(after, self._limit - len(self._rows))
            self._looked_at += max(1, len(found.rows))
            rows = [row_of(self._app, name, shard, row) for name, shard, row in found.rows]
            self._rows += [row for row in rows if self._selected.matches(row, now_ms)]
            after = found.cursor
            if not after:
                return ""
        return _Cursor(step.type, step.shard, after).text()

    def _over(self) -> bool:
        full = len(self._rows) >= self._limit or self._looked_at >= LOOK_AT
        # A page ends only after a first read, so that it makes progress on a slow server too.
        return full or (self._looked_at > 0 and time.monotonic() > self._until)


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
            raise UsageError(f"invalid cursor={text[:40]!r}: use one returned by a previous page") from None

"""Resumable iteration: rows of a source, and the cursor of the last one that was finished.

Owns when a cursor moves and when it is stored. Where it is stored is up to the steps of the attempt.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar, cast

from streamq.context_protocols import Source, SyncSource
from streamq.errors import Interrupted, UsageError

T = TypeVar("T")


class Cursor:
    """The cursor of one loop. name: of its memo. value: of the last finished row, as it will be stored; None
    before the first. every: seconds between two stores."""

    def __init__(self, name: str, value: object, every: float) -> None:
        self.name: str = name
        self.value: object = value
        self._every, self._stored_at = every, time.monotonic()
        self.moved: bool = False

    @property
    def count(self) -> int:
        """Return how many rows are finished, where rows are counted: then that is the value."""
        return cast("int", self.value or 0)

    def finish(self, value: object) -> None:
        """Note that the row with this cursor is finished."""
        self.value, self.moved = value, True

    @property
    def due(self) -> bool:
        """Return whether it is to be stored now."""
        return self.moved and time.monotonic() - self._stored_at >= self._every

    def stored(self) -> None:
        """Note that it is stored."""
        self.moved, self._stored_at = False, time.monotonic()


def check(source: object, key: object) -> None:
    """Raise UsageError if the rows of a source cannot be found again."""
    if callable(source) and key is None:
        raise UsageError(
            "resume: a function as the source needs key=: a function that returns the cursor of a row, which "
            "the source is called with to continue after that row"
        )
    if not callable(source) and key is not None:
        raise UsageError(
            "resume: key= needs a source that is a function of the cursor. Rows of an iterable are counted: "
            "leave key= out"
        )
    if not callable(source) and not isinstance(source, Iterable | AsyncIterable):
        raise UsageError(f"resume: {source!r:.80} is neither iterable nor a function of the cursor")


async def arows(source: Source[T], cursor: Cursor) -> AsyncIterator[T]:
    """Yield the rows behind a cursor."""
    found = source(cursor.value) if callable(source) else source
    skipped = 0 if callable(source) else cursor.count
    if not isinstance(found, AsyncIterable):
        for row in islice(found, skipped, None):
            yield row
        return
    async for row in found:
        if skipped:
            skipped -= 1
        else:
            yield row


def rows(source: SyncSource[T], cursor: Cursor) -> Iterator[T]:
    """Yield the rows behind a cursor, in a thread."""
    if callable(source):
        return iter(source(cursor.value))
    return islice(source, cursor.count, None)


def cursor_of(row: T, key: Callable[[T], object] | None, cursor: Cursor) -> object:
    """Return the cursor of a row that is finished."""
    return cursor.count + 1 if key is None else key(row)


def interrupted(name: str) -> Interrupted:
    """Return what ends an attempt between two rows, as its worker stops."""
    return Interrupted(f"the worker stops: {name!r} goes on elsewhere")

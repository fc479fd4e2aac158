"""Writers, which make an enqueue call safe to resend, and the batches that tasks are sent in.

Owns the identity of calls and the size of a batch. Must not know a connection.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from streamq.model.task import NewTask

BATCH: Final = 300
"""Tasks in one script call at most: it blocks the server for about a millisecond."""
BATCH_BYTES: Final = 1024 * 1024
AT_ONCE: Final = 16
"""Batches in flight at once if each waits for replicas or a disk, on a connection of its own."""


class Writer:
    """An id and the number of its last call; used by one sender at a time.

    The server remembers the last call of each writer, so a call whose reply was lost can be sent again.
    """

    __slots__ = ("_number", "id")

    def __init__(self) -> None:
        self.id: str = os.urandom(9).hex()
        self._number = 0

    def next(self) -> int:
        """Return the number of the next call."""
        self._number += 1
        return self._number


class Writers:
    """Idle writers, shared by threads: there are as many as calls were ever in flight at once."""

    def __init__(self) -> None:
        self._idle: deque[Writer] = deque()

    def take(self) -> Writer:
        try:
            return self._idle.pop()
        except IndexError:
            return Writer()

    def give(self, writer: Writer) -> None:
        self._idle.append(writer)


def batches(tasks: Sequence[NewTask]) -> Iterator[Sequence[NewTask]]:
    """Split tasks into batches for one call each, by number and by bytes; a batch has at least one task."""
    start = size = 0
    for n, task in enumerate(tasks):
        if n > start and (n - start >= BATCH or size + len(task.payload) > BATCH_BYTES):
            yield tasks[start:n]
            start, size = n, 0
        size += len(task.payload)
    if start < len(tasks):
        yield tasks[start:]

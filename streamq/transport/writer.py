"""Who sends, and what one call carries: the writers, and how tasks are cut into batches.

Owns what makes an enqueue call safe to resend. Knows no connection.
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
"""Batches under way at once where each waits for replicas or a disk, on a connection of its own."""


class Writer:
    """One sender at a time: an id and the number of its last call.

    The server remembers the last call of each writer, so a call whose answer was lost can be sent again.
    """

    __slots__ = ("_number", "id")

    def __init__(self) -> None:
        self.id: str = os.urandom(9).hex()
        self._number = 0

    def next(self) -> int:
        self._number += 1
        return self._number


class Writers:
    """Idle writers, shared by threads: as many exist as calls were ever under way at once."""

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
    """Cut what one call carries: by number and by bytes, never less than one."""
    start = size = 0
    for n, task in enumerate(tasks):
        if n > start and (n - start >= BATCH or size + len(task.payload) > BATCH_BYTES):
            yield tasks[start:n]
            start, size = n, 0
        size += len(task.payload)
    if start < len(tasks):
        yield tasks[start:]

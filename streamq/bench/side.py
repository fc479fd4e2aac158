"""What is asked of each side of a comparison, and what both need: children, pacing, the text.

Owns the interface that keeps the comparison fair: the same work, the same recorder, the same clock.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar, Final

TEXT: Final = "x" * 72
"""With the stamp and the names it makes a payload of about 107 bytes."""
GRACE: Final = 10.0


class Side(ABC):
    """One system on one server. Times are seconds; stamps are ns of the monotonic clock."""

    name: ClassVar[str]

    @abstractmethod
    def one(self, count: int) -> float:
        """Enqueue one at a time, sync; seconds."""

    @abstractmethod
    async def aone(self, count: int) -> float:
        """Enqueue one at a time, async; seconds."""

    @abstractmethod
    async def concurrent(self, count: int) -> float:
        """Enqueue in groups of 100 concurrent calls; seconds."""

    @abstractmethod
    def many(self, count: int, *, stored: bool = False) -> float:
        """Enqueue in bulk, of a type whose results are kept or not; seconds."""

    @abstractmethod
    def spaced(self, count: int, gap: float) -> None:
        """Enqueue one every `gap` seconds, stamped with the time of the call."""

    @abstractmethod
    def delayed(self, count: int, delay: float, gap: float) -> None:
        """Enqueue tasks due in `delay` seconds, one every `gap`, stamped with when they are due."""

    @abstractmethod
    def worker(self, processes: int = 1, concurrency: int = 100) -> AbstractContextManager[None]:
        """Worker processes, ended at the end."""

    @abstractmethod
    def daemon(self) -> AbstractContextManager[None]:
        """What makes delayed tasks run."""

    @abstractmethod
    def bytes_used(self) -> int:
        """Bytes that the server needs for all keys."""

    @abstractmethod
    def clean(self) -> None:
        """Delete every key."""

    @abstractmethod
    def close(self) -> None:
        """Close connections."""


def paced(count: int, gap: float) -> Iterator[int]:
    """Numbers, one every `gap` seconds."""
    began = time.monotonic()
    for n in range(count):
        time.sleep(max(0.0, began + n * gap - time.monotonic()))
        yield n


@contextmanager
def child(arguments: list[str], environment: Mapping[str, str], copies: int = 1) -> Generator[None]:
    """Python processes, ended by SIGTERM and, where that does not help, by force."""
    started = [
        subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            [sys.executable, *arguments], env={**os.environ, **environment}, stdout=subprocess.DEVNULL
        )
        for _ in range(copies)
    ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

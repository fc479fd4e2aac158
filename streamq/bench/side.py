"""Define what each side of a comparison can do, and what both need: child processes, pacing, the text.

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
"""With the stamp and the names this makes a payload of about 107 bytes."""
GRACE: Final = 10.0


class Side(ABC):
    """One system on one server. Times are seconds; stamps are ns of the monotonic clock."""

    name: ClassVar[str]

    @abstractmethod
    def one(self, count: int) -> float:
        """Enqueue one at a time, sync. Returns seconds."""

    @abstractmethod
    async def aone(self, count: int) -> float:
        """Enqueue one at a time, async. Returns seconds."""

    @abstractmethod
    async def concurrent(self, count: int) -> float:
        """Enqueue in groups of 100 concurrent calls. Returns seconds."""

    @abstractmethod
    def many(self, count: int, *, stored: bool = False) -> float:
        """Enqueue in bulk, of a type whose results are stored or not. Returns seconds."""

    @abstractmethod
    def spaced(self, count: int, gap: float) -> None:
        """Enqueue one every `gap` seconds, stamped with the time of the call."""

    @abstractmethod
    def delayed(self, count: int, delay: float, gap: float) -> None:
        """Enqueue tasks due in `delay` seconds, one every `gap`, stamped with their due time."""

    @abstractmethod
    def worker(self, processes: int = 1, concurrency: int = 100) -> AbstractContextManager[None]:
        """Run worker processes until the block ends."""

    @abstractmethod
    def daemon(self) -> AbstractContextManager[None]:
        """Run the process that makes delayed tasks run."""

    @abstractmethod
    def bytes_used(self) -> int:
        """Return the bytes that the server needs for all keys."""

    @abstractmethod
    def clean(self) -> None:
        """Delete every key."""

    @abstractmethod
    def close(self) -> None:
        """Close connections."""


def paced(count: int, gap: float) -> Iterator[int]:
    """Yield numbers, one every `gap` seconds."""
    began = time.monotonic()
    for n in range(count):
        time.sleep(max(0.0, began + n * gap - time.monotonic()))
        yield n


@contextmanager
def child(arguments: list[str], environment: Mapping[str, str], copies: int = 1) -> Generator[None]:
    """Run Python processes, ended by SIGTERM or, if that does not suffice, by SIGKILL."""
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

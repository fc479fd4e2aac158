"""Record when tasks start, without asking the server: two integers per task in a mapped file.

Owns that file. Needs only the standard library and knows no queue, so that every compared system can use the
same recorder. Survives a killed process; costs about half a microsecond per task.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Final

_PAIR: Final = struct.Struct("<qq")
_SIZE: Final = 64 * 1024 * 1024
"""Bytes of the sparse file of one process: four million tasks."""
FOLDER: Final = "STREAMQ_BENCH_RECORD"  # also defined here: peers use a copy of this file, without streamq
"""The environment variable that names the folder to write to."""


class Recorder:
    """The file of this process, created at the first mark."""

    def __init__(self) -> None:
        self._file: mmap.mmap | None = None
        self._at = 0
        os.register_at_fork(after_in_child=self._forget)

    def mark(self, stamp: int) -> None:
        """Record `stamp` (a number that the task carries) and the monotonic clock, in ns."""
        if self._file is None:
            self._file = self._open()
        _PAIR.pack_into(self._file, self._at, stamp, time.monotonic_ns())
        self._at += 16

    def _forget(self) -> None:
        self._file, self._at = None, 0

    @staticmethod
    def _open() -> mmap.mmap:
        path = Path(os.environ[FOLDER]) / f"{os.getpid()}.marks"
        with path.open("w+b") as file:
            file.truncate(_SIZE)
            return mmap.mmap(file.fileno(), _SIZE)


mark: Final = Recorder().mark


def read(folder: Path) -> list[tuple[int, int]]:
    """Return all marks so far, (stamp, monotonic ns), in no particular order."""
    found: list[tuple[int, int]] = []
    for path in folder.glob("*.marks"):
        with path.open("rb") as file:
            while (chunk := file.read(65536)) and chunk[8:16] != bytes(8):
                found += [pair for pair in _PAIR.iter_unpack(chunk) if pair[1]]
    return found


def count(folder: Path) -> int:
    """Return how many marks there are: cheap enough to call often."""
    return sum(_filled(path) for path in folder.glob("*.marks"))


def _filled(path: Path) -> int:
    """Return the number of marks in one file by binary search: they are written in order."""
    low, high = 0, _SIZE // 16
    with path.open("rb") as file:
        while low < high:
            middle = (low + high) // 2
            file.seek(middle * 16 + 8)
            if file.read(8) not in (b"", bytes(8)):
                low = middle + 1
            else:
                high = middle
    return low

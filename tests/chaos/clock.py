"""A wall clock that jumps: time.time() of a worker's process, moved by what a file says.

Owns the patch. The monotonic clock is left alone, as it is when a host's time is set.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Final

FILE: Final = "STREAMQ_CHAOS_CLOCK"
"""The environment variable that names the file: the offset in seconds, a double."""

_FORMAT: Final = struct.Struct("d")


def create(path: Path) -> None:
    path.write_bytes(_FORMAT.pack(0.0))


def jump(path: Path, seconds: float) -> None:
    """Move the clock of every process that looks at this file."""
    with path.open("r+b") as file:
        file.write(_FORMAT.pack(seconds))


def install() -> None:
    """Let this process's clock follow its file, if it has one."""
    if not (name := os.environ.get(FILE)):
        return
    with Path(name).open("rb") as file:
        offset = mmap.mmap(file.fileno(), _FORMAT.size, access=mmap.ACCESS_READ)
    true_time = time.time

    def moved() -> float:
        return true_time() + float(_FORMAT.unpack_from(offset)[0])

    time.time = moved

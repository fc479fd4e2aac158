"""Reaps orphans: in a container this process is process 1 and inherits processes whose parent has ended.

Owns which children are orphans: all that this process did not start itself. Linux only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


class Orphans:
    """The orphans of this process. Children that exist when it is created are left alone."""

    def __init__(self) -> None:
        self._existing = set(_children())

    def reap(self, own: Iterable[int]) -> int:
        """Reap the orphans that have ended and return their number. Skip `own`, whose exit status is read
        elsewhere."""
        known, reaped = self._existing | set(own), 0
        for pid in _children():
            if pid not in known:
                with suppress(ChildProcessError):
                    reaped += os.waitpid(pid, os.WNOHANG)[0] == pid
        return reaped


def _children() -> list[int]:
    """Return the children of all threads, including those that have ended but were not reaped."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text().split())
    return found

"""Reaps processes that became ours because who started them has ended: in a container we are process 1.

Owns which children of this process are orphans: all that it has not started itself. Linux only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


class Orphans:
    """Of this process. What it has started before is not touched."""

    def __init__(self) -> None:
        self._others = set(_children())

    def reap(self, ours: Iterable[int]) -> int:
        """Reap those that have ended, but none of `ours`: whoever waits for these needs their exit status.
        Answers how many there were."""
        known, reaped = self._others | set(ours), 0
        for pid in _children():
            if pid not in known:
                with suppress(ChildProcessError):
                    reaped += os.waitpid(pid, os.WNOHANG)[0] == pid
        return reaped


def _children() -> list[int]:
    """The children of all threads, also those that have ended and were not waited for."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text().split())
    return found

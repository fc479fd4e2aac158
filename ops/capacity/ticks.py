"""CPU time of processes, which the kernel counts in ticks: and when that is too coarse."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

TICK: Final = os.sysconf("SC_CLK_TCK")
"""Ticks a second."""
LEAST_TICKS: Final = 10
"""Fewer are a tenth too much or too little."""


class TooFewTasks(Exception):
    """They took so little CPU time that a cost cannot be told from it."""


def process_seconds(pid: int) -> float:
    """CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def each_us(seconds: float, tasks: int, whose: str) -> float:
    """Microseconds of CPU time for a task. TooFewTasks where the ticks do not tell."""
    if tasks <= 0 or seconds * TICK < LEAST_TICKS - 0.5:
        took = f"{max(0, tasks):,} tasks took {seconds * 1000:.0f} ms of the CPU time of {whose}"
        raise TooFewTasks(
            f"{took}, which is counted in steps of {1000 / TICK:.0f} ms: too few to tell what one costs. Try "
            f"again with a larger --count"
        )
    return seconds / tasks * 1e6


def at_least(least: int) -> Callable[[str], int]:
    """An argument's type: a number of tasks that is no smaller."""

    def count(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(
                f"{number} tasks take too little CPU time to be measured; take {least} or more"
            )
        return number

    return count

"""What the programs for flows have in common: `work URL`, and `start URL KIND COUNT SIZE`.

KIND: `chain` (three tasks, each with the result of the one before), `join` (SIZE tasks, then one with all
their results), `map` (the same, by the system's own call for many alike, if it has one). One flow is started
first, then COUNT at once. The last task of each notes when it ran, with the moment at which starting began.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

WARM_UP = 1
"""What the last task of a first flow notes: it opens connections and loads scripts, and is not measured."""
URL = sys.argv[2] if len(sys.argv) > 2 else "redis://localhost:6379/0"


def main(*, work: Callable[[], object], start: Callable[[str, int, int, int], object]) -> None:
    if sys.argv[1] == "work":
        work()
        return
    kind, count, size = sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    start(kind, 1, size, WARM_UP)
    start(kind, count, size, time.monotonic_ns())
    os._exit(0)  # no client's background threads keep us

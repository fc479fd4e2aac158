"""What producers, handlers and the conductor did, written down outside Redis.

Owns the files: one for each process, one JSON line an event, one write a line at the end of the file, so
that kill -9 tears none apart. Times are the machine's monotonic clock in ns, the same for all processes, and
its wall clock in ms, which is the server's too.
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

DIRECTORY: Final = "STREAMQ_CHAOS_HISTORY"
"""The environment variable that names the directory of the files."""

Event = dict[str, Any]
"""`event`, `at` (ns), `wall` (ms), `pid`, and what the event is about."""


@cache
def _file(directory: str, pid: int) -> int:
    return os.open(Path(directory) / f"{pid}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def write(event: str, **about: Any) -> None:
    """Note an event."""
    pid = os.getpid()
    # Not time.time(): a run moves that one.
    wall = round(time.clock_gettime(time.CLOCK_REALTIME) * 1000)
    line = (
        orjson.dumps({"event": event, "at": time.monotonic_ns(), "wall": wall, "pid": pid, **about}) + b"\n"
    )
    os.write(_file(os.environ[DIRECTORY], pid), line)


def look_after(key: str) -> None:
    """From now on the task of this key is well, however it was told to behave."""
    (Path(os.environ[DIRECTORY]) / f"{key}.well").touch()


def looked_after(key: str) -> bool:
    """Whether somebody has looked after the task of this key."""
    return bool(key) and (Path(os.environ[DIRECTORY]) / f"{key}.well").exists()


def read(directory: Path) -> list[Event]:
    """All events of all processes in the order of their times."""
    lines = [line for path in directory.glob("*.jsonl") for line in path.read_bytes().splitlines()]
    return sorted(map(orjson.loads, lines), key=lambda event: int(event["at"]))

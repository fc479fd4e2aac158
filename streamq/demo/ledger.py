"""Record what handlers and producer did outside Redis: one file of JSON lines per process.

Owns the files. A line is one write at the end of a file, so kill -9 cannot split it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from streamq import environment

DIRECTORY: Final = environment.DEMO_LEDGER.name
"""The environment variable that names the ledger's directory."""


Event = dict[str, Any]
"""`event`, `task`, `at`, and what the event adds: `attempt`, `due`."""


@cache
def _file(directory: str, pid: int) -> int:
    return os.open(Path(directory) / f"{pid}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def write(event: str, task: str, **more: object) -> None:
    """Record an event of a task."""
    line = orjson.dumps({"event": event, "task": task, "at": time.time(), **more}) + b"\n"
    os.write(_file(os.environ[DIRECTORY], os.getpid()), line)


def read(directory: Path) -> Iterator[Event]:
    """Yield all events of all processes, in no particular order."""
    for path in directory.glob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            yield orjson.loads(line)

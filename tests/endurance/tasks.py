"""The app under test, and its ledger: what was run is written down outside Redis.

Owns the handlers. A ledger is a file for each process that only grows: eight bytes a run, one write each,
so that kill -9 tears none apart.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

from streamq import StreamQ, get_context
from tests.chaos import history

LEDGER: Final = "STREAMQ_LEDGER"
"""The environment variable that names the directory of the ledgers."""
APP: Final = "STREAMQ_ENDURANCE_APP"
ENTRY: Final = struct.Struct("<q")

app = StreamQ(os.environ.get(APP, "endurance"))


@cache
def _file(directory: str, pid: int) -> int:
    return os.open(Path(directory) / f"{pid}.runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(number: int) -> None:
    """Write down that a task was run."""
    os.write(_file(os.environ[LEDGER], os.getpid()), ENTRY.pack(number))


def runs(directory: Path) -> Counter[int]:
    """How often each task was run, by its number."""
    found: Counter[int] = Counter()
    for path in directory.glob("*.runs"):
        found.update(number for (number,) in ENTRY.iter_unpack(path.read_bytes()))
    return found


@app.task(retention=0)
async def work(n: int) -> None:
    """Nothing but its entry in the ledger."""
    note(n)


@app.task(timeout=None, retention=0)
async def hold(seconds: float) -> None:
    """Holds its delivery until its worker is killed; who gets it then returns at once."""
    context: Any = get_context()
    about = {"id": context.id, "lost": context.lost, "attempt": context.attempt}
    history.write("start", place=context._task.place, worker=context.worker, conduct="hold", **about)
    if not context.lost:
        await asyncio.sleep(seconds)
    history.write("effect", **about)

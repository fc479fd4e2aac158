"""streamq: `Lane("key", running=5)`, or `running=10`; one process of 100 slots, and its daemon."""

from __future__ import annotations

import asyncio
import os
import sys

import record

from streamq import Lane, StreamQ
from streamq.cli import main as cli

if __name__ == "__main__":
    os.environ["STREAMQ_URL"] = sys.argv[2]
app = StreamQ("bench-limits", os.environ["STREAMQ_URL"])


@app.task(name="key", lane=Lane("key", running=5))
async def of_key(key: str, stamp: int) -> None:
    record.mark(stamp)
    await asyncio.sleep(0.005)


@app.task(name="type", running=10)
async def of_type(key: str, stamp: int) -> None:
    record.mark(stamp)
    await asyncio.sleep(0.005)


if __name__ == "__main__":
    if sys.argv[1] == "produce":
        task = of_key if sys.argv[3] == "key" else of_type
        app.enqueue_many([task.bind(f"key {n % 20}", n) for n in range(int(sys.argv[4]))])
    else:
        sys.exit(cli(["worker", "streamq_:app", "--log-level", "error", "--with-daemon"]))

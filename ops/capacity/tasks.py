"""The app whose costs are measured: a task type for each feature. Its handlers do nothing else."""

from __future__ import annotations

import os

from tenacity import wait_fixed

from streamq import RateLimit, StreamQ, get_context
from streamq.bench.record import mark

app = StreamQ(os.environ.get("CAPACITY_APP", "capacity"), shards=int(os.environ.get("CAPACITY_SHARDS", "1")))


@app.task(retention=0)
async def plain(stamp: int, text: str) -> None:
    """Nothing kept."""
    mark(stamp)


@app.task
async def kept(stamp: int, text: str) -> None:
    """The result (None) is kept, as it is by default."""
    mark(stamp)


@app.task(retention=0)
def in_thread(stamp: int, text: str) -> None:
    """A `def` handler, on a thread."""
    mark(stamp)


@app.task(retention=0, max_attempts=2, backoff=wait_fixed(0.01))
async def fails_once(stamp: int, text: str) -> None:
    """One retry."""
    if get_context().attempt == 1:
        raise OSError("once")
    mark(stamp)


@app.task(retention=0, max_attempts=1)
async def dies(stamp: int, text: str) -> None:
    """Becomes a dead letter."""
    mark(stamp)
    raise OSError("always")


@app.task(retention=0, rate_limit=RateLimit(1_000_000, 1.0))
async def limited(stamp: int, text: str) -> None:
    """Held against a rate limit that it never reaches."""
    mark(stamp)

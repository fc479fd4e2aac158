"""Threads for a worker's own calls that block: what an attempt told is sent, blobs are read and written.

Owns these threads. The event loop's own executor has a few threads, and handlers may keep all of them busy
with `asyncio.to_thread`. Must not run code of users.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

from streamq.forking import after_fork

P = ParamSpec("P")
R = TypeVar("R")

THREADS: Final = 16
"""The most of a process: each call waits for a server or a store."""
_POOL: Final[list[ThreadPoolExecutor]] = []


async def in_own_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that blocks, without holding up the event loop."""
    if not _POOL:
        _POOL.append(ThreadPoolExecutor(THREADS, "streamq-own"))
    return await asyncio.get_running_loop().run_in_executor(_POOL[0], partial(function, *args, **kwargs))


after_fork(_POOL.clear)  # its threads are the parent's

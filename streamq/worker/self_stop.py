"""Lets a worker end by itself: when its queue is empty, after a number of tasks, or with too much memory.

Owns these conditions. Must not stop anything but through the worker's stop state; a supervisor replaces a
worker that asks for it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from streamq.control import idle
from streamq.errors import RedisError
from streamq.flow import adrive
from streamq.model.delivery import Delivery
from streamq.model.outcome import Outcome
from streamq.telemetry import logs
from streamq.worker.config import WorkerConfig
from streamq.worker.runner import Runner

LOOK: Final = 0.2
"""Seconds between two looks."""
LEAST_AGE: Final = 10.0
"""Seconds that a worker runs before its memory counts: until then it still loads what it needs."""
JITTER: Final = 0.1
"""The share by which the number of tasks varies: the workers of a group should not end at the same time."""
_STATM: Final = Path("/proc/self/statm")


async def stop_when_empty(config: WorkerConfig, runner: Runner) -> None:
    """Stop the worker when no task of its types is left that is ready, running or due. An outage is no
    answer."""
    name, stop = config.registry.name, config.stop
    while not stop.requested.is_set():
        scope = idle.Scope(name, config.registry.shards, tuple(config.types), scheduled=False)
        try:
            empty = runner.idle and await adrive(config.transport, idle.idle(scope))
        except RedisError:
            empty = False
        if empty and runner.idle:
            logs.get_logger(worker=config.name).info("worker.empty")
            stop.drained = True
            stop.requested.set()
            return
        await asyncio.sleep(LOOK)


class Recycling:
    """Decides when this process should be replaced: an observer of attempts. wanted: set then."""

    def __init__(
        self, config: WorkerConfig, wanted: asyncio.Event, rss: Callable[[], int] | None = None
    ) -> None:
        options = config.options
        after = options.recycle_after
        self._left = after if after is None else max(1, round(after * random.uniform(1 - JITTER, 1 + JITTER)))
        self._most = options.recycle_rss
        self._wanted = wanted
        self._rss = rss or resident_bytes
        self._ended = 0
        self._log = logs.get_logger(worker=config.name)

    def attempt_ended(self, _task: Delivery, _outcome: Outcome | None, _seconds: float | None) -> None:
        """Count a task."""
        self._ended += 1
        if self._left is not None and self._ended >= self._left and not self._wanted.is_set():
            self._want("tasks", tasks=self._ended)

    async def watch_memory(self) -> None:
        """Watch the size of the process until it is above its limit. A limit below what the process needs
        before its first task is refused: each new process would end at once."""
        if self._most is None:
            return
        began = time.monotonic()
        while not self._wanted.is_set():
            size = self._rss()
            if not self._ended and size > self._most:
                self._log.error(
                    "worker.recycle_refused", rss=size, recycle_rss=self._most,
                    fix="the process is larger than --recycle-rss before its first task: raise it",
                )  # fmt: skip
                return
            if size > self._most and time.monotonic() - began > LEAST_AGE:
                self._want("rss", rss=size)
            await asyncio.sleep(LOOK)

    def _want(self, why: str, **fields: int) -> None:
        self._log.info("worker.recycles", why=why, **fields)
        self._wanted.set()


def resident_bytes() -> int:
    """Return the resident size of this process."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def can_measure() -> bool:
    """Return whether the size of this process can be read."""
    return _STATM.exists()

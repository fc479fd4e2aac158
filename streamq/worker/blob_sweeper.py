"""Removes blobs that no task needs: those whose tasks or results have ended, and those that no task ever got.

Owns when it looks and how much it does at once. A blob of which Redis knows nothing and that is older than
a day was stored by a program that died before it enqueued the task. Workers of an app with blobs do this,
each by itself: removing one twice does no harm.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from streamq.blobs.sweep import Sweep
from streamq.errors import RedisError
from streamq.payloads.blob_store import Blobs
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport

EVERY: Final = 10.0
"""Seconds between two looks at what may be removed."""
ORPHANS_EVERY: Final = 300.0
"""Seconds between two looks at a page of the store."""


class BlobSweeper:
    """The sweeper of one worker process. shards: returns how many shards the app has."""

    def __init__(
        self, app: str, blobs: Blobs, transport: AsyncTransport, worker: str, shards: Callable[[], int]
    ) -> None:
        self._sweep = Sweep(app, blobs, transport)
        self._shards = shards
        self._log = logs.get_logger(worker=worker)
        self._failed = False

    async def run(self) -> None:
        """Sweep until cancelled."""
        looked, every = 0.0, random.uniform(0.5, 1.0) * ORPHANS_EVERY
        while True:
            pause = random.uniform(0.8, 1.2) * EVERY
            await asyncio.sleep(pause)
            looked += pause
            await self._once(orphans=looked >= every)
            if looked >= every:
                looked, every = 0.0, ORPHANS_EVERY

    async def _once(self, *, orphans: bool) -> None:
        try:
            removed = await self._sweep.remove_due(self._shards())
            if orphans:
                removed += await self._sweep.remove_orphans(self._shards())
        except RedisError:
            return  # the fetchers tell of it
        except Exception as error:  # noqa: BLE001 - whatever a store raises
            if not self._failed:
                self._log.warning("blobs.not_removed", error=f"{type(error).__name__}: {error}")
            self._failed = True
            return
        self._failed = False
        if removed:
            self._log.info("blobs.removed", count=removed)

"""The dashboard's metrics: those of its app's queue, the same as a daemon's, and those of the dashboard
itself.

Owns /metrics and the view behind it, which is cached for a moment and shared by scrapers. Writes nothing. If
daemons are scraped too, both export the same metrics of the queue: use max, not sum.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from streamq.control.inspector import Inspector
from streamq.control.overview import KEPT, SCRAPED, Row, View, memory, samples, scraped, tally
from streamq.errors import RedisError, UsageError
from streamq.flow import drive
from streamq.keys import shard_keys
from streamq.probes.loop_lag import LoopLag
from streamq.telemetry import exposition
from streamq.telemetry.counters import Counters, Snapshot, build_info

ROLE: Final = "dashboard"


class Metrics:
    """The metrics of one app. `inspect` returns an inspector of it."""

    def __init__(self, app: str, inspect: Callable[[], Inspector]) -> None:
        self._app = app
        self._inspect = inspect
        self._counters = Counters()
        self._counters.counter("streamq_redis_errors_total", ROLE)
        self._lock = threading.Lock()
        self._view, self._read_at = View(), float("-inf")
        self._beating: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None

    async def serve(self, request: Request) -> Response:
        """Return the response to a scrape."""
        self._beat()
        return await run_in_threadpool(self._rendered, request)

    def _beat(self) -> None:
        """Measure this event loop from its first scrape on: a mounted application gets no start event."""
        loop = asyncio.get_running_loop()
        if self._beating is None or self._beating[0] is not loop or self._beating[1].done():
            self._beating = loop, loop.create_task(LoopLag(self._counters).run())

    def _rendered(self, request: Request) -> Response:
        try:
            content_type, text = exposition.render(self._snapshot(), request.headers.get("accept", ""))
        except UsageError as error:  # the extra is missing
            return PlainTextResponse(f"{error}\n", 501)
        return Response(text, media_type=content_type)

    def count_failure(self) -> None:
        """Count a page that failed because the server did not respond or refused."""
        self._counters.count("streamq_redis_errors_total", ROLE)

    def _snapshot(self) -> Snapshot:
        view = self._cached_view(self._inspect())
        found = self._counters.snapshot()
        found.add(samples(view))
        build_info(found, ROLE)
        return found

    def _cached_view(self, inspector: Inspector) -> View:
        with self._lock:
            if time.monotonic() - self._read_at > KEPT:
                self._view, self._read_at = self._read_view(inspector), time.monotonic()
            return self._view

    def _read_view(self, inspector: Inspector) -> View:
        try:
            types, more = inspector.glance(SCRAPED)
            rows, workers = self._rows(inspector, types), {self._app: tally(inspector.workers())}
            shards = (shard_keys(self._app, n) for n in range(inspector.shards()))
            seen = drive(inspector.transport, memory(keys.types for keys in shards))
            return View(rows, workers, seen, more)
        except RedisError:
            self.count_failure()
            return View()

    def _rows(self, inspector: Inspector, types: list[str]) -> list[Row]:
        """Return a row for each type. A type that cannot be read in one of its shards has none: a partial
        count would be taken for the whole."""
        stats, paused = inspector.stats(types), inspector.paused()
        for _ in filter(None, (one.fault for one in stats)):
            self.count_failure()
        return [scraped(self._app, one, paused=one.type in paused) for one in stats if not one.fault]

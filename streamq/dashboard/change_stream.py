"""Notify open pages of changes: the queue is read once a second for all of them.

Owns the server-sent events. A message says only that something changed; the page fetches it itself. The queue
is not read while no page is open.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from streamq.errors import StreamQError

INTERVAL: Final = 1.0
SILENCE: Final = 15.0
"""Seconds after which a comment is sent in any case, to detect a closed connection."""
MOST: Final = 200


class ChangeStream:
    """Reads the queue for all pages. `read` returns text that differs whenever the queue does."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._listeners: set[asyncio.Queue[str]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._last = ""

    async def stream(self, request: Request) -> Response:
        """Return the endless response to one page."""
        if len(self._listeners) >= MOST:
            return PlainTextResponse("503: too many open pages. Close some.\n", 503, {"retry-after": "30"})
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._events(request), media_type="text/event-stream", headers=headers)

    async def _events(self, request: Request) -> AsyncGenerator[str]:
        mine: asyncio.Queue[str] = asyncio.Queue(maxsize=1)
        self._listeners.add(mine)
        mine.put_nowait("open")  # what changed since the page was made is before the first read
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        try:
            yield "retry: 3000\n\n"
            while not await request.is_disconnected():
                try:
                    async with asyncio.timeout(SILENCE):
                        yield f"data: {await mine.get()}\n\n"
                except TimeoutError:
                    yield ": keep-alive\n\n"
        finally:
            self._listeners.discard(mine)

    async def _watch(self) -> None:
        while self._listeners:
            try:
                state = hashlib.sha256((await run_in_threadpool(self._read)).encode()).hexdigest()[:16]
            except StreamQError:
                state = "unreachable"  # the page shows the error
            if state != self._last:
                self._last = state
                self._notify(state)
            await asyncio.sleep(INTERVAL)

    def _notify(self, state: str) -> None:
        for listener in self._listeners:
            if listener.empty():
                listener.put_nowait(state)

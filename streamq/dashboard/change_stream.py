"""Tells open pages that something has changed: one look a second at the queue for all of them.

Owns the server-sent events. A message says only that there is something new; the page fetches it by
itself. Nobody looks while no page is open.
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
"""Seconds after which a word is said in any case, so that a connection that is gone is noticed."""
MOST: Final = 200


class ChangeStream:
    """The one that looks, and those who listen. `look` answers text that differs when anything does."""

    def __init__(self, look: Callable[[], str]) -> None:
        self._look = look
        self._listeners: set[asyncio.Queue[str]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._last = ""

    async def stream(self, request: Request) -> Response:
        """The endless answer to one page."""
        if len(self._listeners) >= MOST:
            return PlainTextResponse("503: too many open pages\n", 503, {"retry-after": "30"})
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._events(request), media_type="text/event-stream", headers=headers)

    async def _events(self, request: Request) -> AsyncGenerator[str]:
        mine: asyncio.Queue[str] = asyncio.Queue(maxsize=1)
        self._listeners.add(mine)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._watch())
        try:
            yield "retry: 3000\n\n"
            while not await request.is_disconnected():
                try:
                    async with asyncio.timeout(SILENCE):
                        yield f"data: {await mine.get()}\n\n"
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._listeners.discard(mine)

    async def _watch(self) -> None:
        while self._listeners:
            try:
                seen = hashlib.sha256((await run_in_threadpool(self._look)).encode()).hexdigest()[:16]
            except StreamQError:
                seen = "unreachable"  # the page will say it
            if seen != self._last:
                self._last = seen
                self._tell(seen)
            await asyncio.sleep(INTERVAL)

    def _tell(self, seen: str) -> None:
        for listener in self._listeners:
            if listener.empty():
                listener.put_nowait(seen)

"""The event loop, in a thread of its own, in which plain code and threads wait for tasks.

Owns that thread: it starts with the first wait, and any number of waiting threads share its connections.
After a fork the child starts another. Must not know what is waited for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Final, TypeVar

from streamq.client.waiting import Waiting
from streamq.errors import UsageError
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport

R = TypeVar("R")

_CLOSED: Final = (
    "the app was closed while this thread waited: the task goes on. Call app.close() when no thread waits, "
    "or ask again"
)


class Background:
    """A thread with an event loop."""

    def __init__(self, address: Address, patience: float) -> None:
        self._address, self._patience = address, patience
        self._loop = asyncio.new_event_loop()
        self._transport: AsyncTransport | None = None
        self._waiting: Waiting | None = None
        self._lock, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._serve, name="streamq-waiting", daemon=True)
        self._thread.start()

    def wait(self, make: Callable[[Waiting], Coroutine[object, object, R]]) -> R:
        """Run a coroutine in the loop and wait for it; cancel it if the wait is interrupted. Raises
        UsageError if `close` is called meanwhile."""
        with self._lock:
            if self._closed:
                raise UsageError(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(self._run(make), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise UsageError(_CLOSED) from None
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Close the connections and end the thread. Waits that are still running end with UsageError."""
        with self._lock:  # a wait that begins after the loop has stopped would never end
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    async def _run(self, make: Callable[[Waiting], Coroutine[object, object, R]]) -> R:
        if self._waiting is None:
            self._transport = AsyncTransport(self._address, patience=self._patience)
            self._waiting = Waiting(self._transport, self._patience)
        return await make(self._waiting)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._aclose())
        finally:
            self._loop.close()

    async def _aclose(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._waiting is not None and self._transport is not None:
            await self._waiting.aclose()
            await self._transport.aclose()

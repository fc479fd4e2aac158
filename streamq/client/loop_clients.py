"""The async clients of a program: one for each event loop.

Owns which loop has which client, and forgets those of closed loops. Must not send anything. asyncio and the
async client are imported with the first async call: a program that only enqueues from threads does not need
them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TYPE_CHECKING

from streamq.lazy import allowed_at_exit
from streamq.registry.registry import Registry
from streamq.transport.address import Address

if TYPE_CHECKING:
    import asyncio

    from streamq.client.async_client import AsyncClient


class AsyncClients:
    """One async client for each event loop, created at first use."""

    def __init__(self, registry: Registry, address: Address, *, patience: float) -> None:
        self._registry, self._address, self._patience = registry, address, patience
        self._by_loop: dict[asyncio.AbstractEventLoop, AsyncClient] = {}
        self._ends: dict[asyncio.AbstractEventLoop, AsyncGenerator[None]] = {}
        self._lock = threading.Lock()

    def at(self, server: Address) -> AsyncClients:
        """Return the same clients for another server."""
        return AsyncClients(self._registry, server, patience=self._patience)

    def current(self) -> AsyncClient:
        """Return the client of the running loop. Raises RuntimeError outside a loop."""
        loop = _running_loop()
        client = self._by_loop.get(loop)
        return client if client is not None else self._make(loop)

    def _make(self, loop: asyncio.AbstractEventLoop) -> AsyncClient:
        with allowed_at_exit():
            from streamq.client.async_client import AsyncClient  # noqa: PLC0415

        with self._lock:
            for closed in [known for known in self._by_loop if known.is_closed()]:
                self._by_loop.pop(closed).abandon()
                self._ends.pop(closed, None)
            client = AsyncClient(self._registry, self._address, patience=self._patience)
            self._by_loop[loop] = client
            self._ends[loop] = end = self._end(loop)
        with suppress(StopIteration):
            end.__anext__().send(None)  # up to its yield
        return client

    async def _end(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
        """Close the client when the loop shuts down its async generators. Connections that stay open after
        that would be found by the collector, with a ResourceWarning for each."""
        try:
            yield
        finally:
            client = self._by_loop.pop(loop, None)
            if client is not None:
                await client.aclose()

    async def aclose(self) -> None:
        """Close the client of the running loop, if there is one."""
        end = self._ends.pop(_running_loop(), None)
        if end is not None:
            await end.aclose()

    def forget(self) -> None:
        """Start anew after a fork: the connections are the parent's."""
        self._by_loop, self._ends = {}, {}
        self._lock = threading.Lock()


def _running_loop() -> asyncio.AbstractEventLoop:
    # A thread with a loop has imported asyncio; an `import` here would be executed with each call.
    module = sys.modules.get("asyncio")
    if module is None:
        raise RuntimeError("no running event loop")
    loop: asyncio.AbstractEventLoop = module.get_running_loop()
    return loop

"""The async clients of a program: one for each event loop.

Owns which loop has which, and forgets those of loops that are closed. Sends nothing. asyncio and the
async client are loaded with the first async call: a program that only enqueues from threads has no need
of them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from streamq.app import Registry
from streamq.transport import Address

if TYPE_CHECKING:
    import asyncio

    from streamq.client.aio import AsyncClient


class AsyncClients:
    """The async client of the running loop, made at first use; loops that are closed are forgotten."""

    def __init__(self, registry: Registry, address: Address, *, patience: float) -> None:
        self._registry, self._address, self._patience = registry, address, patience
        self._by_loop: dict[asyncio.AbstractEventLoop, AsyncClient] = {}
        self._lock = threading.Lock()

    def current(self) -> AsyncClient:
        loop = _running_loop()
        client = self._by_loop.get(loop)
        return client if client is not None else self._make(loop)

    def _make(self, loop: asyncio.AbstractEventLoop) -> AsyncClient:
        from streamq.client.aio import AsyncClient  # noqa: PLC0415

        with self._lock:
            for closed in [known for known in self._by_loop if known.is_closed()]:
                del self._by_loop[closed]
            client = AsyncClient(self._registry, self._address, patience=self._patience)
            self._by_loop[loop] = client
        return client

    async def aclose(self) -> None:
        """Close the client of the running loop, if there is one."""
        client = self._by_loop.pop(_running_loop(), None)
        if client is not None:
            await client.aclose()

    def forget(self) -> None:
        self._by_loop = {}
        self._lock = threading.Lock()


def _running_loop() -> asyncio.AbstractEventLoop:
    import asyncio  # noqa: PLC0415

    return asyncio.get_running_loop()

"""The daemon's life: which chores run, and how it ends.

Owns the wiring. Everything it does is in the chores' own files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from streamq import telemetry
from streamq.daemon.claimer import Claimer
from streamq.daemon.directory import Directory
from streamq.daemon.janitor import Janitor
from streamq.daemon.loop import every
from streamq.daemon.promoter import Promoter
from streamq.daemon.retirer import Retirer
from streamq.options import DaemonOptions
from streamq.transport import Address, AsyncTransport

START_PATIENCE: Final = 10.0


class Daemon:
    """Promoter, claimer, janitor and retirer. `only` limits it to one app; None serves all of the server.

    `await daemon.run()` serves until `stop()`. `after_round` is told a chore's name after each round:
    tests wait for that instead of sleeping.
    """

    def __init__(
        self,
        address: Address,
        options: DaemonOptions | None = None,
        *,
        only: str | None = None,
        after_round: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.options = options or DaemonOptions()
        self.ready = asyncio.Event()
        self._transport = AsyncTransport(address)
        self._directory = Directory(self._transport, only)
        self._after = after_round
        self._stop = asyncio.Event()
        self._log = telemetry.get_logger()

    def stop(self) -> None:
        """End soon. A step under way is finished."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until stopped. Raises RedisErrors at the start only."""
        await self._start()
        options = self.options
        promoter = Promoter(self._transport, self._directory, options.batch, self._after)
        claimer = Claimer(self._transport, self._directory, options.batch)
        janitor = Janitor(self._transport, self._directory, options)
        retirer = Retirer(self._transport, self._directory)
        self._log.info("daemon.ready", types=len(self._directory.types()))
        self.ready.set()
        try:
            await asyncio.gather(
                promoter.run(self._stop),
                self._every("discover", options.discover_interval, self._directory.look),
                self._every("reclaim", options.claim_interval, claimer.round),
                self._every("tidy", options.tidy_interval, janitor.round),
                self._every("retire", options.tidy_interval, retirer.round),
            )
        finally:
            await self._transport.aclose()
            self._log.info("daemon.stopped")

    async def _start(self) -> None:
        await self._transport.reconnect(patience=START_PATIENCE)
        await self._directory.look()
        info = self._transport.info
        if info is not None and info.evicts:
            self._log.error(
                "server.evicts",
                policy=info.eviction,
                fix="tasks WILL BE LOST: set maxmemory-policy to noeviction on the server",
            )

    async def _every(self, name: str, interval: float, chore: Callable[[], object]) -> None:
        await every(name, interval, chore, self._transport, self._stop, after=self._after)  # type: ignore[arg-type]

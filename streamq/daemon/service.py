"""The daemon's life: which chores run, and how it ends.

Owns the wiring. Everything it does is in the chores' own files.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import orjson

from streamq import calls, telemetry
from streamq.daemon.claimer import Claimer
from streamq.daemon.directory import Directory
from streamq.daemon.janitor import Janitor
from streamq.daemon.loop import every, guarded
from streamq.daemon.promoter import Promoter
from streamq.daemon.retirer import Retirer
from streamq.daemon.sampler import Sampler
from streamq.errors import RedisError
from streamq.options import DaemonOptions
from streamq.release import package_version
from streamq.transport import Address, AsyncTransport, warn_of_eviction

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
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.ready = asyncio.Event()
        self._transport = AsyncTransport(address)
        self._directory = Directory(self._transport, only)
        self._started_at = time.time()
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
        sampler = Sampler(self._transport, self._directory)
        retirer = Retirer(self._transport, self._directory)
        self._log.info("daemon.ready", types=len(self._directory.types()))
        self.ready.set()
        try:
            await asyncio.gather(
                promoter.run(self._stop),
                self._every("discover", options.discover_interval, self._directory.look),
                self._every("reclaim", options.claim_interval, claimer.round),
                self._every("tidy", options.tidy_interval, janitor.round),
                self._every("heartbeat", options.heartbeat, self._beat),
                self._every("sample", options.sample_interval, sampler.round),
                self._every("retire", options.tidy_interval, retirer.round),
            )
        finally:
            with suppress(RedisError):
                await self._transport.run(calls.depart(self.name), patience=0)
            await self._transport.aclose()
            self._log.info("daemon.stopped")

    async def _start(self) -> None:
        await self._transport.run(calls.ready(), patience=START_PATIENCE)
        await guarded("discover", self._directory.look, self._transport, self._stop)
        warn_of_eviction(self._transport.servers(), self._log)

    async def _beat(self) -> None:
        details = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": package_version(),
            "only": self._directory.only,
            "heartbeat": self.options.heartbeat,
            "started_at": self._started_at,
        }
        await self._transport.run(calls.attend(self.name, orjson.dumps(details)), patience=0)

    async def _every(self, name: str, interval: float, chore: Callable[[], object]) -> None:
        await every(name, interval, chore, self._transport, self._stop, after=self._after)  # type: ignore[arg-type]

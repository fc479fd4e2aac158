"""The daemon's life: which chores run, and how it ends.

Owns the wiring. Everything it does is in the chores' own files.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from streamq import telemetry
from streamq.daemon.backlog import Backlog, View, samples
from streamq.daemon.claimer import Claimer
from streamq.daemon.directory import Directory
from streamq.daemon.janitor import Janitor
from streamq.daemon.loop import every
from streamq.daemon.promoter import LONGEST_SLEEP, Promoter
from streamq.daemon.rounds import Rounds
from streamq.options import DaemonOptions
from streamq.telemetry import health, systemd
from streamq.telemetry.health import Facts
from streamq.telemetry.pulse import Pulse
from streamq.telemetry.report import Report
from streamq.telemetry.tally import Snapshot, Tally, build_info
from streamq.transport import Address, AsyncTransport

START_PATIENCE: Final = 10.0
WATCH_INTERVAL: Final = 3.0
"""Seconds between two looks at the queue for a supervisor's metrics."""


class Daemon:
    """Promoter, claimer and janitor. `only` limits it to one app; None serves all of the server.

    `await daemon.run()` serves until `stop()`. `after_round` is told a chore's name after each round:
    tests wait for that instead of sleeping. It is a `telemetry.routes.Service`; `watched` makes it look
    at the queue now and then, so that a report from another thread can tell what is in it.
    """

    role = "daemon"

    def __init__(
        self,
        address: Address,
        options: DaemonOptions | None = None,
        *,
        only: str | None = None,
        after_round: Callable[[str], None] = lambda _: None,
        watched: bool = False,
    ) -> None:
        self.options = options or DaemonOptions()
        self.ready = asyncio.Event()
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._transport = AsyncTransport(address)
        self._directory = Directory(self._transport, only)
        self._tally = Tally()
        self._rounds = Rounds(self._tally)
        self._pulse = Pulse(self._tally)
        self._backlog = Backlog(self._transport, self._directory)
        self._watched = watched
        self._view = View()
        self._after = after_round
        self._stop = asyncio.Event()
        self._log = telemetry.get_logger()

    def stop(self) -> None:
        """End soon. A step under way is finished."""
        systemd.notify(STOPPING=1)
        self._stop.set()

    async def run(self) -> None:
        """Serve until stopped. Raises RedisErrors at the start only."""
        await self._start()
        options = self.options
        promoter = Promoter(
            self._transport, self._directory, options.batch, self._after, self._rounds, self._tally
        )
        claimer = Claimer(self._transport, self._directory, options.batch)
        janitor = Janitor(self._transport, self._directory, options)
        self._log.info("daemon.ready", types=len(self._directory.types()))
        self.ready.set()
        pulse = asyncio.create_task(self._pulse.run())
        try:
            await asyncio.gather(
                promoter.run(self._stop),
                self._every("discover", options.discover_interval, self._directory.look),
                self._every("reclaim", options.claim_interval, claimer.round),
                self._every("tidy", options.tidy_interval, janitor.round),
                *([self._every("watch", WATCH_INTERVAL, self._look)] if self._watched else []),
            )
        finally:
            pulse.cancel()
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

    async def _every(self, name: str, interval: float, chore: Callable[[], Awaitable[None]]) -> None:
        await every(name, interval, chore, self._transport, self._stop, self._rounds, after=self._after)

    # -- what probes and scrapers ask ------------------------------------------------------------------

    def facts(self) -> Facts:
        """How this daemon is; may be asked from another thread."""
        intervals = {
            "discover": self.options.discover_interval,
            "reclaim": self.options.claim_interval,
            "tidy": self.options.tidy_interval,
            "promote": LONGEST_SLEEP,
        }
        return Facts(
            name=self.name,
            role=self.role,
            started=self.ready.is_set(),
            draining=self._stop.is_set(),
            loop_silent=self._pulse.silent() if self.ready.is_set() else 0.0,
            redis_away=self._rounds.away(),
            overdue=", ".join(self._rounds.overdue(intervals)) if self.ready.is_set() else "",
        )

    def not_alive(self) -> list[str]:
        return health.not_alive(self.facts())

    def not_ready(self) -> list[str]:
        return health.not_ready(self.facts())

    def drain(self) -> None:
        self.stop()

    async def metrics(self) -> Snapshot:
        """This daemon's sums, and the queue as it is."""
        found = self._sums()
        found.add(samples(await self._backlog.look()))
        return found

    async def backlog(self) -> list[dict[str, Any]] | None:
        return (await self._backlog.look()).rows

    def report(self) -> Report:
        """What a supervisor is told; called in another thread."""
        sums = self._sums()
        sums.add(samples(self._view))
        return Report(self.facts(), sums, self._view.rows)

    async def _look(self) -> None:
        self._view = await self._backlog.look()

    def _sums(self) -> Snapshot:
        found = self._tally.snapshot()
        for chore, at in self._rounds.last_good().items():
            found.set("streamq_daemon_last_round_timestamp_seconds", chore, value=at)
        found.set("streamq_ready", self.role, value=int(not self.not_ready()))
        build_info(found, self.role)
        return found

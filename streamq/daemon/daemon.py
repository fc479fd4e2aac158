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

from streamq.calls import daemon as daemon_calls
from streamq.control.overview import View, samples
from streamq.daemon.alarm import Alarm
from streamq.daemon.backlog import Backlog
from streamq.daemon.chore_status import ChoreStatus
from streamq.daemon.chores import CHORES, DISCOVER, Chore, Tools, Work
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Step, run_periodically, run_round
from streamq.errors import RedisError, UsageError
from streamq.options.service import DaemonOptions
from streamq.probes import health, systemd
from streamq.probes.health import Facts
from streamq.probes.loop_lag import LoopLag
from streamq.probes.report import BacklogView, Report
from streamq.telemetry import logs
from streamq.telemetry.counters import Counters, Snapshot, build_info
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.server import warn_of_eviction
from streamq.transport.server_wait import arrived
from streamq.version import package_version

WATCH_INTERVAL: Final = 3.0
"""Seconds between two looks at the queue for a supervisor's metrics."""


class Daemon:
    """Promoter, scheduler, claimer, janitor and retirer. `only` limits it to one app; None serves all of the
    server.

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
        if not isinstance(address, Address):
            raise UsageError(f"Daemon({address!r}): takes an address, Daemon(app.address)")
        self.options: DaemonOptions = options or DaemonOptions()
        self.name: str = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.ready: asyncio.Event = asyncio.Event()
        self._transport = AsyncTransport(address)
        self._namespace = address.namespace
        self._discovery = Discovery(self._transport, only)
        self._counters = Counters()
        self._chore_status = ChoreStatus(self._counters)
        self._loop_lag = LoopLag(self._counters)
        self._backlog = Backlog(self._transport, self._discovery, self._chore_status)
        self._watched = watched
        self._view = View()
        self._started_at = time.time()
        self._after = after_round
        self._stop = asyncio.Event()
        self._log = logs.get_logger()

    def stop(self) -> None:
        """End soon. A step under way is finished."""
        systemd.notify(STOPPING=1)
        self._stop.set()

    async def run(self) -> None:
        """Serve until stopped; a server that is not there yet is waited for. Raises the RedisErrors of a
        server that refuses us, at the start only."""
        if not await self._start():
            return
        tools = Tools(
            self._transport, self._discovery, self.options, self._counters, self._stop, self._beat,
            Alarm(), self.name,
        )  # fmt: skip
        loops = [self._loop(chore, chore.make(tools)) for chore in CHORES]
        if self._watched:
            loops.append(self._periodically("watch", self._look, WATCH_INTERVAL))
        logs.always("daemon.ready", types=len(self._discovery.types()))
        self.ready.set()
        loop_lag = asyncio.create_task(self._loop_lag.run())
        try:
            await asyncio.gather(*loops)
        finally:
            loop_lag.cancel()
            with suppress(RedisError):
                await self._transport.run(daemon_calls.depart(self.name, self._namespace), patience=0)
            await self._transport.aclose()
            self._log.info("daemon.stopped")

    async def _start(self) -> bool:
        """False where we are stopped before the server is there."""
        try:
            there = await arrived(self._transport, self._log, stop=self._stop)
        except BaseException:
            await self._transport.aclose()
            raise
        if not there:
            await self._transport.aclose()
            self._log.info("daemon.stopped")
            return False
        await self._round(DISCOVER.name, self._discovery.look)
        warn_of_eviction(self._transport.servers(), self._log)
        return True

    async def _beat(self) -> None:
        details = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": package_version(),
            "only": self._discovery.only,
            "heartbeat": self.options.heartbeat,
            "started_at": self._started_at,
            "problems": [*self.not_ready(), *self.faults()],
        }
        await self._transport.run(
            daemon_calls.attend(self.name, orjson.dumps(details), self._namespace), patience=0
        )

    async def _loop(self, chore: Chore, work: Work) -> None:
        """Run a chore until stopped: every interval, or as it waits itself."""
        if work.wait is None:
            await self._periodically(chore.name, work.round, chore.interval(self.options), chore.after_outage)
            return
        while not self._stop.is_set():
            await self._round(chore.name, work.round)
            self._after(chore.name)
            await self._round("listen", work.wait)
        if work.close is not None:
            await work.close()

    async def _periodically(
        self, name: str, step: Step, interval: float, after_outage: float | None = None
    ) -> None:
        await run_periodically(
            name, step, interval, self._transport, self._stop, self._chore_status,
            after_outage=after_outage, after=self._after,
        )  # fmt: skip

    async def _round(self, name: str, step: Step) -> None:
        await run_round(name, step, self._transport, self._stop, self._chore_status)

    # -- what probes and scrapers ask ------------------------------------------------------------------

    def facts(self) -> Facts:
        """How this daemon is; may be asked from another thread."""
        intervals = {chore.name: chore.interval(self.options) for chore in CHORES}
        return Facts(
            name=self.name,
            role=self.role,
            started=self.ready.is_set(),
            draining=self._stop.is_set(),
            loop_silent=self._loop_lag.silent() if self.ready.is_set() else 0.0,
            redis_away=self._chore_status.away(),
            overdue=", ".join(self._chore_status.overdue(intervals)) if self.ready.is_set() else "",
        )

    def not_alive(self) -> list[str]:
        return health.not_alive(self.facts())

    def not_ready(self) -> list[str]:
        return health.not_ready(self.facts())

    def faults(self) -> list[str]:
        """What is wrong with single apps, shards and types, and keeps no other from being served."""
        return self._chore_status.faults()

    def drain(self) -> None:
        self.stop()

    async def metrics(self) -> Snapshot:
        """This daemon's sums, and the queue as it is."""
        found = self._snapshot()
        found.add(samples(await self._backlog.look()))
        return found

    async def backlog(self) -> BacklogView | None:
        view = await self._backlog.look()
        return None if view.rows is None else BacklogView(view.rows, view.more_types)

    def report(self) -> Report:
        """What a supervisor is told; called in another thread."""
        found = self._snapshot()
        found.add(samples(self._view))
        return Report(self.facts(), found, self._view.rows, self._view.more_types)

    async def _look(self, _faults: object) -> None:
        self._view = await self._backlog.look()

    def _snapshot(self) -> Snapshot:
        found = self._counters.snapshot()
        for chore, at in self._chore_status.last_good().items():
            found.set("streamq_daemon_last_round_timestamp_seconds", chore, value=at)
        found.set("streamq_daemon_faults", value=len(self.faults()))
        found.set("streamq_ready", self.role, value=int(not self.not_ready()))
        build_info(found, self.role)
        return found

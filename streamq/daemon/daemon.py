"""The daemon: starts the chores, serves probes and ends cleanly.

Owns the wiring. Must not do a chore's work: that is in the chores' own modules.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Final

import orjson

from streamq.calls import daemon as daemon_calls
from streamq.control.overview import View, samples
from streamq.daemon.alarm import Alarm
from streamq.daemon.backlog import Backlog
from streamq.daemon.chore_status import ChoreStatus
from streamq.daemon.chores import CHORES, DISCOVER, Chore, Dependencies, RunningChore
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Step, run_periodically, run_round
from streamq.errors import RedisError, UsageError
from streamq.features import SPEAKS
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
from streamq.transport.server_wait import wait_at_start
from streamq.version import package_version

WATCH_INTERVAL: Final = 3.0
"""Seconds between two counts of the queue for a supervisor's metrics."""


class Daemon:
    """Runs all chores. `only` limits them to one app; None: all apps of the server.

    `await daemon.run()` serves until `stop()`. `after_round` is called with a chore's name after each round;
    tests wait for that instead of sleeping. The daemon is a `probes.routes.Service`. `watched` makes it count
    the queue periodically, so that a report from another thread can include it.
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
            raise UsageError(f"Daemon({address!r}): not an address. Pass one, as in Daemon(app.address).")
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
        self._after_round = after_round
        self._stop = asyncio.Event()
        self._log = logs.get_logger()

    def stop(self) -> None:
        """Stop soon; steps in progress are completed first."""
        systemd.notify(STOPPING=1)
        self._stop.set()

    async def run(self) -> None:
        """Serve until stopped. Wait for Redis if it is not reachable yet. Raise RedisError if Redis refuses
        this daemon at the start; later refusals are logged and retried.

        However it ends, by `stop()`, cancellation or an error, nothing of it goes on.
        """
        running: list[asyncio.Task[None]] = []
        try:
            if await self._start():
                running += [asyncio.create_task(one) for one in (*self._loops(), self._loop_lag.run())]
                logs.always("daemon.ready", types=len(self._discovery.types()))
                self.ready.set()
                await asyncio.gather(*running[:-1])
        except GeneratorExit:  # the event loop has ended: nothing can be awaited
            raise
        except BaseException:
            await self._end_anyway(running)
            raise
        await self._end_anyway(running)

    def _loops(self) -> Sequence[Coroutine[object, object, None]]:
        """Return the loops of all chores."""
        deps = Dependencies(
            self._transport,
            self._discovery,
            self.options,
            self._counters,
            self._stop,
            self._beat,
            Alarm(),
            self.name,
        )
        loops = [self._loop(chore, chore.make(deps)) for chore in CHORES]
        if self._watched:
            loops.append(self._periodically("watch", self._watch, WATCH_INTERVAL))
        return loops

    async def _end_anyway(self, running: list[asyncio.Task[None]]) -> None:
        """End as `_end` does, even if the caller is cancelled meanwhile. Closing an event loop cancels all
        tasks, so `_end` is run again if it was cancelled itself."""
        for _ in range(2):
            ending = asyncio.create_task(self._end(running))
            while not ending.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([ending])
            if not ending.cancelled():
                return ending.result()
        return None

    async def _end(self, running: list[asyncio.Task[None]]) -> None:
        """End what runs, tell the other daemons, and close the connections."""
        self._stop.set()
        if (reconnecting := self._chore_status.reconnecting) is not None:
            running.append(reconnecting)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self.ready.is_set():
            with suppress(RedisError):
                await self._transport.run(daemon_calls.depart(self.name, self._namespace), patience=0)
        await self._transport.aclose()
        self._log.info("daemon.stopped")

    async def _start(self) -> bool:
        """Wait for Redis and discover the apps. Return False if the daemon was stopped before that."""
        if not await wait_at_start(self._transport, self._log, stop=self._stop):
            return False
        await self._round(DISCOVER.name, self._discovery.refresh)
        warn_of_eviction(self._transport.servers(), self._log)
        return True

    async def _beat(self) -> None:
        details = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": package_version(),
            "speaks": sorted(SPEAKS),
            "only": self._discovery.only,
            "heartbeat": self.options.heartbeat,
            "started_at": self._started_at,
            "problems": [*self.not_ready(), *self.faults()],
        }
        await self._transport.run(
            daemon_calls.attend(self.name, orjson.dumps(details), self._namespace), patience=0
        )

    async def _loop(self, chore: Chore, running: RunningChore) -> None:
        """Run a chore until stopped, at its interval or by its own `wait`."""
        if running.wait is None:
            interval = chore.interval(self.options)
            await self._periodically(chore.name, running.round, interval, chore.after_outage)
            return
        try:
            while not self._stop.is_set():
                await self._round(chore.name, running.round)
                self._after_round(chore.name)
                await self._round("listen", running.wait)
        finally:
            if running.close is not None:
                await running.close()

    async def _periodically(
        self, name: str, step: Step, interval: float, after_outage: float | None = None
    ) -> None:
        await run_periodically(
            name, step, interval, self._transport, self._stop, self._chore_status,
            after_outage=after_outage, after_round=self._after_round,
        )  # fmt: skip

    async def _round(self, name: str, step: Step) -> None:
        await run_round(name, step, self._transport, self._stop, self._chore_status)

    # -- for probes and scrapers -----------------------------------------------------------------------

    def facts(self) -> Facts:
        """Return the daemon's health. May be called from another thread."""
        intervals = {chore.name: chore.interval(self.options) for chore in CHORES}
        return Facts(
            name=self.name,
            role=self.role,
            started=self.ready.is_set(),
            draining=self._stop.is_set(),
            loop_late=self._loop_lag.seconds_late() if self.ready.is_set() else 0.0,
            redis_unreachable=self._chore_status.unreachable_seconds(),
            overdue=", ".join(self._chore_status.overdue(intervals)) if self.ready.is_set() else "",
        )

    def not_alive(self) -> list[str]:
        """Return the reasons to restart the daemon; empty if there are none."""
        return health.not_alive(self.facts())

    def not_ready(self) -> list[str]:
        """Return the reasons why tasks are not served; empty if they are."""
        return health.not_ready(self.facts())

    def faults(self) -> list[str]:
        """Return the faults of single apps, shards and types, which do not affect the others."""
        return self._chore_status.faults()

    def drain(self) -> None:
        """Stop the daemon."""
        self.stop()

    async def metrics(self) -> Snapshot:
        """Return the daemon's counters, and the queue as it is now."""
        found = self._snapshot()
        found.add(samples(await self._backlog.view()))
        return found

    async def backlog(self) -> BacklogView | None:
        """Return the queue; None if Redis is unreachable."""
        view = await self._backlog.view()
        return None if view.rows is None else BacklogView(view.rows, view.more_types)

    def report(self) -> Report:
        """Return the report for a supervisor. Called in another thread."""
        found = self._snapshot()
        found.add(samples(self._view))
        return Report(self.facts(), found, self._view.rows, self._view.more_types)

    async def _watch(self, _faults: object) -> None:
        self._view = await self._backlog.view()

    def _snapshot(self) -> Snapshot:
        found = self._counters.snapshot()
        for chore, at in self._chore_status.last_success().items():
            found.set("streamq_daemon_last_round_timestamp_seconds", chore, value=at)
        found.set("streamq_daemon_faults", value=len(self.faults()))
        found.set("streamq_ready", self.role, value=int(not self.not_ready()))
        build_info(found, self.role)
        return found

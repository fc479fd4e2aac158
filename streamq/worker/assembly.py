"""A worker, put together: its parts, and how they are connected.

Owns the wiring. Where two parts need each other, one is given a function that is bound to the other here, and
nowhere else. Starts nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

from streamq.keys import TypeKeys
from streamq.telemetry.sums import Sums
from streamq.worker.attemptlog import AttemptLog
from streamq.worker.behind import Behind
from streamq.worker.clocks import Clocks
from streamq.worker.control import Control
from streamq.worker.crew import Crew
from streamq.worker.executors import Executors
from streamq.worker.fetcher import Fetcher
from streamq.worker.holdings import Holdings
from streamq.worker.incarnations import Incarnations
from streamq.worker.intake import Intake
from streamq.worker.leases import LeaseEvents, LeaseKeeper, LeaseSources
from streamq.worker.meter import Meter
from streamq.worker.observers import Observers
from streamq.worker.runner import Runner
from streamq.worker.setting import Setting
from streamq.worker.settler import Settler
from streamq.worker.tally import Tally
from streamq.worker.teller import Teller
from streamq.worker.vitals import Vitals


@dataclass(frozen=True, slots=True)
class Parts:
    """A worker that has met its server."""

    holdings: Holdings
    runner: Runner
    settler: Settler
    crew: Crew
    leases: LeaseKeeper
    vitals: Vitals
    control: Control
    observers: Observers
    teller: Teller


def assemble(given: Setting, shards: int, main: asyncio.Task[Any] | None) -> Parts:
    """Make the parts of a worker for so many shards. `main`: the asyncio task that serves."""
    registry, options, sums, name = given.registry, given.options, given.sums, given.name
    holdings, clocks, behind = Holdings(), Clocks(), Behind(name)
    attempt_log, teller = AttemptLog(name), Teller(registry.name, name)
    meter = Meter(sums, registry.name, given.types, clocks.ms) if given.metered else None
    tally = Tally(registry.name, options.heartbeat)
    servers = Incarnations(given, holdings, lambda held: control.fenced(held))  # noqa: PLW0108 - made below
    settler = Settler(
        given, holdings, servers, attempt_log,
        freed=lambda: control.freed(), settled=lambda ended: control.settled(ended),  # noqa: PLW0108
    )  # fmt: skip
    ours = [tally, *([] if meter is None else [meter]), teller, attempt_log]
    observers = Observers([*ours, *registry.hooks.all], clocks, settler.put, name)
    runner = Runner(
        registry, name, options.concurrency,
        Executors.of(options, registry.tracer, apart=given.exclusive), clocks, sums, observers,
        hungry=lambda: crew.freed(), closing=lambda: main is not None and main.cancelling() > 0,  # noqa: PLW0108
    )  # fmt: skip

    def closed(keys: TypeKeys) -> bool:
        """Whether what was fetched is to be handed back: its type was paused meanwhile, or we are to stop."""
        return given.stop.asked.is_set() or crew.is_paused(keys)

    intake = Intake(name, holdings, runner, settler, closed, behind)

    def fetcher(shard: int) -> Fetcher:
        return Fetcher(shard, given, runner, holdings, servers, intake.deliver, intake.recovered)

    def beat(shard: int) -> bytes:
        return vitals.heartbeat(shard, draining=given.stop.asked.is_set())

    crew = Crew(given, fetcher, beat)
    control = Control(given, holdings, runner, crew, observers, teller, attempt_log)
    vitals = Vitals(
        given, runner, crew, holdings, behind, lambda: leases.lease_ms, lambda: leases.away_since,
        meter.adapt if meter else lambda: None,
    )  # fmt: skip

    def watch() -> None:
        if not control.watch():
            leases.stop()

    events, sources = _lease_events(control, clocks, sums), LeaseSources(beat, watch, observers.drain)
    leases = LeaseKeeper(given, shards, holdings, events, sources)
    return Parts(holdings, runner, settler, crew, leases, vitals, control, observers, teller)


def _lease_events(control: Control, clocks: Clocks, sums: Sums) -> LeaseEvents:
    """What the lease thread learns, told in the event loop that runs now."""
    tell = partial(_in_loop, asyncio.get_running_loop())
    return LeaseEvents(
        fenced=partial(tell, control.fenced),
        cancel=partial(tell, control.cancel),
        clock=partial(tell, clocks.set),
        orders=partial(tell, control.ordered),
        shards=partial(tell, control.serve),
        sums=sums,
    )


def _in_loop(loop: asyncio.AbstractEventLoop, function: Any, *args: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *args)

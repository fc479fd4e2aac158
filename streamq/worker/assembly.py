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
from streamq.telemetry.counters import Counters
from streamq.worker.attempt_log import AttemptLog
from streamq.worker.attempt_metrics import AttemptMetrics
from streamq.worker.config import WorkerConfig
from streamq.worker.control import Control
from streamq.worker.event_publisher import EventPublisher
from streamq.worker.executors import Executors
from streamq.worker.fetcher import Fetcher
from streamq.worker.in_flight import InFlight
from streamq.worker.latency_sampler import LatencySampler
from streamq.worker.leases import LeaseEvents, LeaseKeeper, LeaseSources
from streamq.worker.observers import Observers
from streamq.worker.receiver import Receiver
from streamq.worker.runner import Runner
from streamq.worker.server_clocks import ServerClocks
from streamq.worker.server_epochs import ServerEpochs
from streamq.worker.settler import Settler
from streamq.worker.shard_fetchers import ShardFetchers
from streamq.worker.status import WorkerStatus
from streamq.worker.too_new import TooNewTasks


@dataclass(frozen=True, slots=True)
class Parts:
    """A worker that has met its server."""

    in_flight: InFlight
    runner: Runner
    settler: Settler
    shard_fetchers: ShardFetchers
    leases: LeaseKeeper
    status: WorkerStatus
    control: Control
    observers: Observers
    event_publisher: EventPublisher


def assemble(given: WorkerConfig, shards: int, main: asyncio.Task[Any] | None) -> Parts:
    """Make the parts of a worker for so many shards. `main`: the asyncio task that serves."""
    registry, options, counters, name = given.registry, given.options, given.counters, given.name
    in_flight, clocks, behind = InFlight(), ServerClocks(), TooNewTasks(name)
    attempt_log, event_publisher = AttemptLog(name), EventPublisher(registry.name, name)
    meter = AttemptMetrics(counters, registry.name, given.types, clocks.ms) if given.metered else None
    tally = LatencySampler(registry.name, options.heartbeat)
    servers = ServerEpochs(given, in_flight, lambda held: control.fenced(held))  # noqa: PLW0108 - made below
    settler = Settler(
        given, in_flight, servers, attempt_log,
        freed=lambda: control.freed(), settled=lambda ended: control.settled(ended),  # noqa: PLW0108
    )  # fmt: skip
    ours = [tally, *([] if meter is None else [meter]), event_publisher, attempt_log]
    observers = Observers([*ours, *registry.hooks.all], clocks, settler.put, name)
    runner = Runner(
        registry, name, options.concurrency,
        Executors.of(options, registry.tracer, apart=given.exclusive), clocks, counters, observers,
        hungry=lambda: shard_fetchers.freed(), closing=lambda: main is not None and main.cancelling() > 0,  # noqa: PLW0108
    )  # fmt: skip

    def closed(keys: TypeKeys) -> bool:
        """Whether what was fetched is to be handed back: its type was paused meanwhile, or we are to stop."""
        return given.stop.asked.is_set() or shard_fetchers.is_paused(keys)

    receiver = Receiver(name, in_flight, runner, settler, closed, behind)

    def fetcher(shard: int) -> Fetcher:
        return Fetcher(shard, given, runner, in_flight, servers, receiver.deliver, receiver.recovered)

    def beat(shard: int) -> bytes:
        return status.heartbeat(shard, draining=given.stop.asked.is_set())

    shard_fetchers = ShardFetchers(given, fetcher, beat)
    control = Control(given, in_flight, runner, shard_fetchers, observers, event_publisher, attempt_log)
    status = WorkerStatus(
        given, runner, shard_fetchers, in_flight, behind, lambda: leases.lease_ms, lambda: leases.away_since,
        meter.adapt if meter else lambda: None,
    )  # fmt: skip

    def watch() -> None:
        if not control.watch():
            leases.stop()

    events, sources = _lease_events(control, clocks, counters), LeaseSources(beat, watch, observers.drain)
    leases = LeaseKeeper(given, shards, in_flight, events, sources)
    return Parts(
        in_flight, runner, settler, shard_fetchers, leases, status, control, observers, event_publisher
    )


def _lease_events(control: Control, clocks: ServerClocks, counters: Counters) -> LeaseEvents:
    """What the lease thread learns, told in the event loop that runs now."""
    tell = partial(_in_loop, asyncio.get_running_loop())
    return LeaseEvents(
        fenced=partial(tell, control.fenced),
        cancel=partial(tell, control.cancel),
        clock=partial(tell, clocks.set),
        orders=partial(tell, control.ordered),
        shards=partial(tell, control.serve),
        counters=counters,
    )


def _in_loop(loop: asyncio.AbstractEventLoop, function: Any, *args: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *args)

"""Builds the parts of a worker and connects them.

Owns the wiring. If two parts need each other, one of them gets a function that is bound to the other, here
and nowhere else. Must not start anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from streamq.keys import TypeKeys
from streamq.worker.attempt_log import AttemptLog
from streamq.worker.attempt_metrics import AttemptMetrics
from streamq.worker.config import WorkerConfig
from streamq.worker.control import Control
from streamq.worker.event_publisher import EventPublisher
from streamq.worker.executors import Executors
from streamq.worker.fetcher import Fetcher
from streamq.worker.flow_nodes import FlowNodes
from streamq.worker.in_flight import InFlight
from streamq.worker.latency_sampler import LatencySampler
from streamq.worker.leases import LeaseEvents, LeaseKeeper, LeaseSources
from streamq.worker.listeners import Listeners
from streamq.worker.local_limits import LocalLimits
from streamq.worker.newer_versions import NewerVersions
from streamq.worker.observers import Observers
from streamq.worker.receiver import Receiver
from streamq.worker.runner import Runner
from streamq.worker.self_stop import Recycling
from streamq.worker.server_clocks import ServerClocks
from streamq.worker.server_epochs import ServerEpochs
from streamq.worker.settler import Settler
from streamq.worker.shard_fetchers import ShardFetchers
from streamq.worker.status import WorkerStatus


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a worker that has registered with Redis."""

    in_flight: InFlight
    runner: Runner
    settler: Settler
    shard_fetchers: ShardFetchers
    leases: LeaseKeeper
    status: WorkerStatus
    control: Control
    observers: Observers
    event_publisher: EventPublisher
    flow_nodes: FlowNodes
    listeners: Listeners | None
    recycling: Recycling | None


def assemble(config: WorkerConfig, shards: int, main: asyncio.Task[None] | None) -> Parts:
    """Build the parts of a worker that serves `shards` shards. `main`: the asyncio task that serves."""
    in_flight, clocks = InFlight(), ServerClocks()
    watching = _watching(config, clocks)
    attempt_log, event_publisher, metrics = watching.attempt_log, watching.event_publisher, watching.metrics
    flow_nodes = FlowNodes(config)
    servers = ServerEpochs(config, in_flight, lambda held: control.fenced(held))  # noqa: PLW0108 - built below
    settler = Settler(
        config, in_flight, servers, attempt_log,
        freed=lambda: control.freed(), settled=lambda ended: control.settled(ended),  # noqa: PLW0108
    )  # fmt: skip
    observers = Observers([*watching.own(), *config.registry.hooks.all], clocks, settler.put, config.name)
    runner = _runner(config, clocks, observers, flow_nodes, lambda: shard_fetchers.freed(), main)  # noqa: PLW0108
    receiver = _receiver(config, in_flight, runner, settler, lambda: shard_fetchers)

    def fetcher(shard: int) -> Fetcher:
        return Fetcher(shard, config, runner, in_flight, servers, receiver.deliver, receiver.recovered)

    def beat(shard: int) -> bytes:
        return status.heartbeat(shard, draining=config.stop.requested.is_set())

    shard_fetchers = ShardFetchers(config, fetcher, beat)
    control = Control(
        config, in_flight, runner, shard_fetchers, observers, event_publisher, attempt_log, flow_nodes
    )
    status = WorkerStatus(
        config, runner, shard_fetchers, in_flight, runner.attempts.too_new,
        lambda: leases.lease_ms, lambda: leases.unreachable_since, metrics.adapt if metrics else lambda: None,
    )  # fmt: skip

    def watch() -> None:
        if not control.watch():
            leases.stop()

    sources = LeaseSources(beat, watch, observers.drain)
    leases = LeaseKeeper(config, shards, in_flight, _lease_events(control, runner), sources)
    return Parts(
        in_flight, runner, settler, shard_fetchers, leases, status, control, observers, event_publisher,
        flow_nodes, watching.listeners, watching.recycling,
    )  # fmt: skip


def _receiver(
    config: WorkerConfig, in_flight: InFlight, runner: Runner, settler: Settler,
    fetchers: Callable[[], ShardFetchers],
) -> Receiver:  # fmt: skip
    def is_closed(keys: TypeKeys) -> bool:
        """Return whether fetched tasks are handed back: the type was paused, or the worker stops."""
        return config.stop.requested.is_set() or fetchers().is_paused(keys)

    newer = NewerVersions(config, lambda types: fetchers().leave_alone(types))
    too_new = runner.attempts.too_new
    return Receiver(config.name, in_flight, runner, settler, is_closed, too_new, newer.is_newer)


class _Watching(NamedTuple):
    """The worker's own observers of attempts; None for what it was not asked for."""

    latencies: LatencySampler
    metrics: AttemptMetrics | None
    event_publisher: EventPublisher
    attempt_log: AttemptLog
    listeners: Listeners | None
    recycling: Recycling | None

    def own(self) -> list[object]:
        """Return those that there are, in the order in which they are called."""
        return [one for one in self if one is not None]


def _watching(config: WorkerConfig, clocks: ServerClocks) -> _Watching:
    registry, options, name = config.registry, config.options, config.name
    metered = config.metered
    return _Watching(
        LatencySampler(registry.name, options.heartbeat),
        AttemptMetrics(config.counters, registry.name, config.types, clocks.ms) if metered else None,
        EventPublisher(registry.name, name),
        AttemptLog(name),
        Listeners(registry.hooks.listeners, name) if registry.hooks.listeners else None,
        Recycling(config, config.stop.recycle) if options.recycles else None,
    )


def _runner(
    config: WorkerConfig,
    clocks: ServerClocks,
    observers: Observers,
    flow_nodes: FlowNodes,
    on_idle: Callable[[], None],
    main: asyncio.Task[None] | None,
) -> Runner:
    registry, options, opened = config.registry, config.options, config.opened
    executors = Executors.of(
        options, registry.tracer, isolate_suspects=config.exclusive, lasting=opened.lasts
    )
    served = {one: registry.handlers[one] for one in config.types}
    limits = LocalLimits(options.concurrency, served, options.resources)
    return Runner(
        registry, config.name, limits, executors, clocks, config.counters, observers, on_idle=on_idle,
        opened=opened, closing=lambda: main is not None and main.cancelling() > 0, types=config.types,
        inputs=flow_nodes.payload,
    )  # fmt: skip


def _lease_events(control: Control, runner: Runner) -> LeaseEvents:
    """Return the callbacks of the lease thread, each of which runs its function in the current event loop."""
    loop = asyncio.get_running_loop()
    return LeaseEvents(
        fenced=partial(_call_in, loop, control.fenced),
        cancel=partial(_call_in, loop, control.cancel),
        clock=partial(_call_in, loop, runner.clocks.set),
        orders=partial(_call_in, loop, control.apply_orders),
        shards=partial(_call_in, loop, control.serve),
        renewed=partial(runner.attempts.renewals.renewed, loop=loop),
        counters=runner.counters,
    )


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: object) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *args)

"""Applies events to a running worker: from its lease thread, from operators and from its settler.

Owns the effect of each event on the worker's parts. Runs in the event loop, except `watch`.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

from streamq import exit_codes
from streamq.model.reply import Orders
from streamq.telemetry import logs
from streamq.worker.attempt_log import AttemptLog
from streamq.worker.config import WorkerConfig
from streamq.worker.event_publisher import EventPublisher
from streamq.worker.flow_nodes import FlowNodes
from streamq.worker.in_flight import Held, InFlight
from streamq.worker.observers import Observers
from streamq.worker.runner import Runner
from streamq.worker.running_attempts import GRACE
from streamq.worker.settler import Ended
from streamq.worker.shard_fetchers import ShardFetchers

WEDGED_AFTER: Final = 2 * GRACE
"""Seconds past its timeout after which a running attempt proves that the event loop is blocked."""


class Control:
    """The event handlers of one worker."""

    def __init__(
        self,
        config: WorkerConfig,
        in_flight: InFlight,
        runner: Runner,
        shard_fetchers: ShardFetchers,
        observers: Observers,
        event_publisher: EventPublisher,
        attempt_log: AttemptLog,
        flow_nodes: FlowNodes,
    ) -> None:
        self._config, self._stop = config, config.stop
        self._in_flight, self._runner, self._shard_fetchers = in_flight, runner, shard_fetchers
        self._observers, self._event_publisher, self._attempt_log = observers, event_publisher, attempt_log
        self._flow_nodes = flow_nodes
        self._loop = asyncio.get_running_loop()
        self._log = logs.get_logger(worker=config.name)

    # -- from the lease thread and from ServerEpochs -----------------------------------------------------

    def fenced(self, held: list[Held]) -> None:
        """Stop the attempts at deliveries that Redis no longer assigns to this worker."""
        for one in held:
            if not one.done:
                self._log.warning("task.fenced", task=str(one.delivery.id))
                self._config.counters.count(
                    "streamq_leases_lost_total", self._config.registry.name, one.delivery.type
                )
                self._runner.fence(one)
            if one.fenced:
                self._in_flight.discard(one)

    def cancel(self, held: list[Held]) -> None:
        """Cancel these tasks."""
        for one in held:
            self._runner.cancel(one)

    def apply_orders(self, shard: int, orders: Orders) -> None:
        """Apply operators' orders: paused types, live events on or off, and a drain of this worker."""
        self._shard_fetchers.pause(shard, orders.paused)
        if shard == 0 and self._event_publisher.active != orders.tell:
            self._event_publisher.active = orders.tell
            self._observers.compile()
        self._runner.hand_back_queued(lambda one: one.shard == shard and one.type in orders.paused)
        if orders.drain and not self._stop.requested.is_set():
            self._log.info("worker.drain_requested")
            self._stop.drained = True
            self._stop.requested.set()

    def serve(self, shards: int) -> None:
        """Serve `shards` shards from now on."""
        if not self._shard_fetchers.serves(shards):
            self._config.transport.spawn(self._shard_fetchers.serve(shards))

    def watch(self) -> bool:
        """Kill the process if its event loop is blocked: the loop cannot detect that itself, and its tasks
        would be held forever. Called in the lease thread. Return False if the loop is closed: then no lease
        may be renewed."""
        if self._config.exclusive:
            now = time.monotonic()
            for attempt in self._runner.running():
                late = attempt.deadline is not None and now > attempt.deadline + WEDGED_AFTER
                if late and attempt.stop is None:
                    task = str(attempt.held.delivery.id)
                    fix = "a handler blocks the event loop: make it a plain def, or use executor='process'"
                    self._log.critical("worker.wedged", task=task, fix=fix)
                    os._exit(exit_codes.WEDGED)
        return not self._loop.is_closed()

    # -- from the settler --------------------------------------------------------------------------------

    def settled(self, ended: list[Ended]) -> None:
        """Log and publish outcomes, now that Redis has stored them; let flows go on."""
        observed = self._observers.stored is not None
        for held, outcome in ended:
            if held.delivery.node:
                self._flow_nodes.settled(held, outcome)
            if held.failed is not None:
                self._attempt_log.failed(held, outcome)
            if observed:
                self._observers.attempt_stored(held, outcome)

    def freed(self) -> None:
        """Fetch more after deliveries were settled; stop the worker if too many handlers are stuck."""
        self._shard_fetchers.freed()
        if self._runner.worn_out and not self._stop.worn_out:
            self._stop.worn_out = True
            self._log.error("worker.worn_out", fix="handlers ignore their timeouts: use executor='process'")
            self._stop.requested.set()

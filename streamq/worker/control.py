"""What a worker is told while it runs: by its lease thread, by operators, by its settler.

Owns what each of these means for the parts of the worker. Runs in the event loop, but for `watch`.
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
from streamq.worker.in_flight import Held, InFlight
from streamq.worker.observers import Observers
from streamq.worker.runner import Runner
from streamq.worker.running_attempts import GRACE
from streamq.worker.settler import Ended
from streamq.worker.shard_fetchers import ShardFetchers

WEDGED_AFTER: Final = 2 * GRACE
"""Seconds past its timeout after which a task that still runs shows that the event loop is blocked."""


class Control:
    """Of one worker."""

    def __init__(
        self,
        given: WorkerConfig,
        in_flight: InFlight,
        runner: Runner,
        shard_fetchers: ShardFetchers,
        observers: Observers,
        event_publisher: EventPublisher,
        attempt_log: AttemptLog,
    ) -> None:
        self._given, self._stop = given, given.stop
        self._in_flight, self._runner, self._shard_fetchers = in_flight, runner, shard_fetchers
        self._observers, self._event_publisher, self._attempt_log = observers, event_publisher, attempt_log
        self._loop = asyncio.get_running_loop()
        self._log = logs.get_logger(worker=given.name)

    # -- by the lease thread, and by whoever knows the server's incarnation ------------------------------

    def fenced(self, held: list[Held]) -> None:
        """The server does not know these deliveries any more, as ours."""
        for one in held:
            if not one.done:
                self._log.warning("task.lease_lost", task=str(one.delivery.id))
                self._given.counters.count(
                    "streamq_leases_lost_total", self._given.registry.name, one.delivery.type
                )
                self._runner.fence(one)
            if one.fenced:
                self._in_flight.discard(one)

    def cancel(self, held: list[Held]) -> None:
        """Somebody asked for the end of these tasks."""
        for one in held:
            self._runner.cancel(one)

    def ordered(self, shard: int, orders: Orders) -> None:
        """What operators want: types left alone, this worker drained, what happens told."""
        self._shard_fetchers.pause(shard, orders.paused)
        if shard == 0 and self._event_publisher.active != orders.tell:
            self._event_publisher.active = orders.tell
            self._observers.compile()
        self._runner.hand_back_queued(lambda one: one.shard == shard and one.type in orders.paused)
        if orders.drain and not self._stop.asked.is_set():
            self._log.info("worker.drain_requested")
            self._stop.drained = True
            self._stop.asked.set()

    def serve(self, known: int) -> None:
        """The app has so many shards."""
        if not self._shard_fetchers.serves(known):
            self._given.transport.spawn(self._shard_fetchers.serve(known))

    def watch(self) -> bool:
        """Notice a blocked event loop: nothing in it can, and its tasks would be held for ever. Called in the
        lease thread. Return whether the loop is still there: nothing is renewed for one that was closed."""
        if self._given.exclusive:
            now = time.monotonic()
            for attempt in self._runner.running():
                late = attempt.deadline is not None and now > attempt.deadline + WEDGED_AFTER
                if late and attempt.stop is None:
                    task = str(attempt.held.delivery.id)
                    self._log.critical("worker.wedged", task=task, fix="a handler blocks the event loop")
                    os._exit(exit_codes.WEDGED)
        return not self._loop.is_closed()

    # -- by the settler ----------------------------------------------------------------------------------

    def settled(self, ended: list[Ended]) -> None:
        """The server has stored these ends: now they are true, and may be told."""
        observed = self._observers.stored is not None
        for held, outcome in ended:
            if held.report is not None:
                self._attempt_log.failed(held, outcome)
            if observed:
                self._observers.tell_stored(held, outcome)

    def freed(self) -> None:
        """Deliveries have left the book."""
        self._shard_fetchers.freed()
        if self._runner.worn_out and not self._stop.worn_out:
            self._stop.worn_out = True
            self._log.error("worker.worn_out", fix="handlers ignore their timeouts; use executor='process'")
            self._stop.asked.set()

"""The lease thread: renews leases and sends heartbeats, on its own connections.

Owns that thread, so that a handler that blocks the event loop does not lose its lease. While it waits, it
listens on the control channel, so cancel requests arrive at once. It passes what it learns to the event loop.
Must not write an outcome.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import AnyCall
from streamq.errors import AuthenticationFailed, InvalidTaskId, RedisError, RedisUnavailable, ServerError
from streamq.keys import shard_keys, type_keys
from streamq.model.reply import Orders
from streamq.model.task import TaskId
from streamq.telemetry import logs
from streamq.telemetry.counters import Counters
from streamq.transport.subscription import Subscription
from streamq.transport.sync_transport import SyncTransport
from streamq.worker.config import WorkerConfig
from streamq.worker.daemon_watch import DaemonWatch
from streamq.worker.in_flight import Held, InFlight, TypeShard, chunks

CHUNK: Final = 50
"""Deliveries that one call renews: about 1 ms of the server's time; four times as many take 3 to 5 ms."""
SHARDS_EVERY: Final = 3
"""Heartbeats between two reads of the number of shards: changes are also sent on the control channel."""
LOG_INTERVAL: Final = 10.0
"""Seconds after which an outage is logged again."""
SLICE: Final = 0.25
"""Seconds between two checks whether the thread should stop; a check costs no command."""

RETRY_DELAY: Final = 0.5
"""Seconds after which leases that could not be renewed are tried again."""
LONGEST_PAUSE: Final = 1.0
"""Seconds between two calls to an unreachable server, or a quarter of the interval if that is less: each call
may try every node of a cluster."""


@dataclass(frozen=True, slots=True)
class LeaseEvents:
    """Callbacks for what the lease thread learns, called in the lease thread; and its counters. renewed: with
    the time (monotonic) until which no lease can have ended unnoticed."""

    fenced: Callable[[list[Held]], None]
    cancel: Callable[[list[Held]], None]
    clock: Callable[[int, int], None]
    orders: Callable[[int, Orders], None]
    shards: Callable[[int], None]
    renewed: Callable[[float], None]
    counters: Counters


@dataclass(frozen=True, slots=True)
class LeaseSources:
    """Callbacks that the lease thread invokes: `beat` (the heartbeat's payload for a shard), `watch` (a check
    of the event loop, every iteration), `drain` (calls to send, every iteration)."""

    beat: Callable[[int], bytes]
    watch: Callable[[], None]
    drain: Callable[[], Sequence[AnyCall]]


class LeaseKeeper(threading.Thread):
    """Renews leases until stopped."""

    def __init__(
        self,
        config: WorkerConfig,
        shards: int,
        in_flight: InFlight,
        events: LeaseEvents,
        sources: LeaseSources,
    ) -> None:
        super().__init__(name="streamq-leases", daemon=True)
        registry = config.registry
        self._transport = SyncTransport(config.address)
        self._registry, self._app, self._shards = registry, registry.name, shards
        self._worker = config.name
        self._in_flight = in_flight
        self._events = events
        self._interval = min(registry.handlers[name].options.lease for name in config.types) / 3
        self._heartbeat = config.options.heartbeat
        self._sources = sources
        self.unreachable_since: float = 0.0
        self._daemon_watch = DaemonWatch(self._transport, registry.name, config.types, config.name)
        self._control = self._subscription()
        self._polling = False
        self._stopped = threading.Event()
        self._listen_until = 0.0
        self._retry_renewal = False
        self._logged_at: dict[str, float] = {}
        self._log = logs.get_logger(worker=config.name)

    def _subscription(self) -> Subscription:
        """Return a subscription to the control channels of all served shards."""
        return Subscription(self._transport, *(shard_keys(self._app, n).control for n in range(self._shards)))

    def stop(self) -> None:
        """Stop the thread soon, without further calls."""
        self._stopped.set()

    @property
    def lease_ms(self) -> int:
        """Return the lease under which all deliveries in flight are renewed. It never grows: a reader of the
        heartbeat may rely on it until a shorter one is announced."""
        return math.ceil(self._interval * 3000)

    def run(self) -> None:
        """Renew, send heartbeats and listen until stopped."""
        next_renewal = next_beat = time.monotonic()
        beats, renewed = 0, True
        while not self._stopped.is_set():
            now = time.monotonic()
            if now >= next_renewal:
                renewed = self._safely("renew", self.renew_all)
                next_renewal = now + self._interval  # the renewal may have shortened it
                if self._retry_renewal:
                    next_renewal, self._retry_renewal = now + min(self._interval, RETRY_DELAY), False
            if renewed:
                self._events.renewed(now + 3 * self._interval)
            if now >= next_beat:
                next_beat, beats = now + self._heartbeat, beats + 1
                self._beat(beats)
            self._sources.watch()
            self._listen_until = min(next_renewal, next_beat)
            self._safely("listen", self._listen)
            self._safely("publish", lambda: self._send(self._sources.drain()))
        self._control.close()
        self._transport.close()

    def _beat(self, number: int) -> None:
        """Send heartbeats, and read what may have changed since the last."""
        self._safely("heartbeat", self._send_beats)
        if number % SHARDS_EVERY == 1:
            self._safely("shards", self._refresh_shards)
            self._safely("daemons", lambda: self._daemon_watch.check(self._shards))
        self._safely("orders", self._read_orders)

    def _safely(self, doing: str, step: Callable[[], None]) -> bool:
        """Take a step, and return whether it did not fail."""
        try:
            step()
        except RedisError as error:
            if time.monotonic() - self._logged_at.get(doing, float("-inf")) >= LOG_INTERVAL:
                self._logged_at[doing] = time.monotonic()
                self._log.warning("redis.unavailable", doing=doing, error=str(error))
            self._events.counters.count("streamq_redis_errors_total", doing)
            self.unreachable_since = self.unreachable_since or time.monotonic()
            self._stopped.wait(min(LONGEST_PAUSE, self._interval / 4) * random.uniform(0.8, 1.2))
        except Exception as error:  # noqa: BLE001 - a thread that dies silently loses every lease
            self._log.exception("leases.failed", doing=doing, error=repr(error))
            self._stopped.wait(SLICE)
        else:
            return True
        return False

    def renew_all(self) -> None:
        """Renew all deliveries in flight, and report those that are fenced or cancelled. Neither an
        unreachable shard nor a type with damaged keys affects the others."""
        failed: dict[int | TypeShard, RedisError] = {}
        for type_shard in self._in_flight.type_shards():
            for chunk in chunks(self._in_flight.snapshot(type_shard), CHUNK):
                if type_shard not in failed and type_shard[1] not in failed:
                    try:
                        self._renew(type_shard, chunk)
                    except RedisUnavailable as error:
                        failed[type_shard[1]] = error
                    except RedisError as error:
                        failed[type_shard] = error
        if failed:
            self._retry_renewal = True
            raise next(iter(failed.values()))

    def _renew(self, type_shard: TypeShard, held: list[Held]) -> None:
        task_type, shard = type_shard
        keys = type_keys(self._app, shard, task_type)
        pairs = [(one.delivery.place, one.delivery.local) for one in held]
        renewal = self._transport.run(worker_calls.renew(keys, self._worker, pairs), patience=0)
        # The lease in Redis is authoritative: another release may have registered a shorter one.
        self._interval = min(self._interval, max(0.05, renewal.lease_ms / 3000))
        self._events.clock(shard, renewal.now_ms)
        fenced, cancelled = set(renewal.fenced), set(renewal.cancelled)
        if fenced:
            self._events.fenced([one for one in held if one.delivery.place in fenced])
        if cancelled:
            self._events.cancel([one for one in held if one.delivery.local in cancelled])

    def _send_beats(self) -> None:
        """Send a heartbeat to every shard, where the daemon reads the lease of its deliveries. An unreachable
        shard does not affect the others."""
        failed: RedisError | None = None
        for shard in range(self._shards):
            call = worker_calls.beat(shard_keys(self._app, shard), self._worker, self._sources.beat(shard))
            try:
                self._events.clock(shard, self._transport.run(call, patience=0))
            except RedisError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        if self.unreachable_since:
            self.unreachable_since = 0.0
            self._events.counters.count("streamq_redis_reconnects_total", "heartbeat")

    def _read_orders(self) -> None:
        """Read the operators' orders: a message on the control channel may have been missed.

        A type that is paused in the first shard is paused in all, because shards may have been added since.
        """
        everywhere: frozenset[str] = frozenset()
        failed: RedisError | None = None
        for shard in range(self._shards):
            call = worker_calls.orders(shard_keys(self._app, shard), self._worker)
            try:
                orders = self._transport.run(call, patience=0)
            except RedisError as error:  # affects this shard only
                failed = failed or error
                continue
            everywhere = orders.paused if shard == 0 else everywhere
            self._events.orders(shard, orders._replace(paused=orders.paused | everywhere))
        if failed is not None:
            raise failed

    def _send(self, drained: Sequence[AnyCall]) -> None:
        for call in drained:
            self._transport.run(call, patience=0)

    def _refresh_shards(self) -> None:
        """Read the number of shards to serve, and report it."""
        record = self._transport.run(producer_calls.app_record(self._app), patience=0)
        if record is None or (record.known < self._registry.shards and not self._is_retired(record.known)):
            # The server was emptied, or a failover lost the announcement.
            announce = producer_calls.announce(self._app, self._registry.shards, lead=False)
            record = self._transport.run(announce, patience=0)
        if record.known != self._shards:
            self._log.info("worker.shards", shards=record.known)
            self._shards = record.known
            self._control.close()
            self._control = self._subscription()
        self._events.shards(record.known)  # every time: a shard that could not be prepared is tried again

    def _is_retired(self, shard: int) -> bool:
        """Return whether the shard is unknown because a newer release of the app has retired it."""
        return self._transport.run(producer_calls.is_closed(shard_keys(self._app, shard)), patience=0)

    def _listen(self) -> None:
        seconds = max(0.0, min(self._listen_until - time.monotonic(), SLICE))
        while not self._control.connected and not self._polling:
            self._subscribe()
            self.renew_all()  # renewals and orders contain what earlier messages announced
            self._read_orders()
            self._refresh_shards()  # if their number has changed, the loop subscribes again
        if self._polling:
            self._stopped.wait(seconds)
            return
        try:
            message = self._control.next(seconds)
        except RedisUnavailable as error:
            # Perhaps closed for being idle: the next iteration subscribes again, or reports the outage.
            self._log.debug("control.closed", error=str(error))
            return
        if message is not None:
            self._handle_message(message[1])

    def _subscribe(self) -> None:
        """Subscribe to the control channels. If that is refused, read the orders with every heartbeat."""
        try:
            self._control.open()
        except (AuthenticationFailed, ServerError) as error:
            self._polling = True
            fix = "allow SUBSCRIBE; until then, orders are read with each heartbeat"
            self._log.warning("control.refused", error=str(error), fix=fix)

    def _handle_message(self, text: str) -> None:
        verb, _, rest = text.partition(" ")
        if verb == "orders":
            self._read_orders()
        if verb == "shards":
            self._refresh_shards()
        if verb != "cancel":
            return  # a newer release may send other verbs
        try:
            task = TaskId.parse(rest)
        except InvalidTaskId:
            return
        type_shard = task.type, task.shard
        held = self._in_flight.find(type_shard, task.local)
        if held is not None:
            self._renew(type_shard, [held])  # any client may send it: Redis knows whether it is true

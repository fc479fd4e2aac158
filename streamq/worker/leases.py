"""Keeps deliveries ours: renewal and heartbeat in a thread of their own, on connections of their own.

Owns that thread. A handler that blocks the event loop loses no lease. It listens on the control channel
while it waits, so a cancel request arrives at once. What it learns it tells the event loop; it writes
no outcome.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
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
from streamq.worker.in_flight import Held, InFlight, Line, chunks

CHUNK: Final = 50
"""Deliveries that one call renews: about 1 ms of the server's time; four times as many take 3 to 5 ms."""
SELDOM: Final = 3
"""Heartbeats from one look at the number of shards to the next: a change is told on the control channel."""
SAY_AGAIN: Final = 10.0
"""Seconds after which an outage is logged again."""
SLICE: Final = 0.25
"""Seconds after which the thread looks whether it is to stop; costs no command."""

AGAIN: Final = 0.5
"""Seconds after which leases that could not be renewed are tried again."""
LONGEST_PAUSE: Final = 1.0
"""Seconds until a server that is away is asked again, or a quarter of the interval where that is less: each
time every node of a cluster may be tried."""


@dataclass(frozen=True, slots=True)
class LeaseEvents:
    """What the lease thread tells the event loop, each called in the lease thread; and where it counts."""

    fenced: Callable[[list[Held]], None]
    cancel: Callable[[list[Held]], None]
    clock: Callable[[int, int], None]
    orders: Callable[[int, Orders], None]
    shards: Callable[[int], None]
    counters: Counters


@dataclass(frozen=True, slots=True)
class LeaseSources:
    """Callbacks that the lease thread invokes: `beat` (the heartbeat's payload in a shard), `watch` (a look
    at the process, every turn), `drain` (calls to send, every turn)."""

    beat: Callable[[int], bytes]
    watch: Callable[[], None]
    drain: Callable[[], Sequence[Call[Any]]]


class LeaseKeeper(threading.Thread):
    """Renews until stopped."""

    def __init__(
        self,
        given: WorkerConfig,
        shards: int,
        in_flight: InFlight,
        events: LeaseEvents,
        sources: LeaseSources,
    ) -> None:
        super().__init__(name="streamq-leases", daemon=True)
        registry = given.registry
        self._transport = SyncTransport(given.address)
        self._registry, self._app, self._shards = registry, registry.name, shards
        self._worker = given.name
        self._in_flight = in_flight
        self._events = events
        self._interval = min(registry.handlers[name].options.lease for name in given.types) / 3
        self._heartbeat = given.options.heartbeat
        self._sources = sources
        self.away_since: float = 0.0
        self._daemons = DaemonWatch(self._transport, registry.name, given.types, given.name)
        self._control = self._subscription()
        self._deaf = False
        self._stopped = threading.Event()
        self._until = 0.0
        self._again = False
        self._said: dict[str, float] = {}
        self._log = logs.get_logger(worker=given.name)

    def _subscription(self) -> Subscription:
        """To the control channels of all shards that we serve."""
        return Subscription(self._transport, *(shard_keys(self._app, n).control for n in range(self._shards)))

    def stop(self) -> None:
        """End soon; the thread sends no more."""
        self._stopped.set()

    @property
    def lease_ms(self) -> int:
        """The lease under which everything in hand is renewed. It never grows: who is told of it may rely
        on it until told of a shorter one."""
        return math.ceil(self._interval * 3000)

    def run(self) -> None:
        next_renewal = next_beat = time.monotonic()
        beats = 0
        while not self._stopped.is_set():
            now = time.monotonic()
            if now >= next_renewal:
                self._safely("renew", self.renew_all)
                next_renewal = now + self._interval  # which may have become shorter
                if self._again:
                    next_renewal, self._again = now + min(self._interval, AGAIN), False
            if now >= next_beat:
                next_beat = now + self._heartbeat
                self._safely("heartbeat", self._send_beats)
                beats += 1
                if beats % SELDOM == 1:
                    self._safely("shards", self._look_at_shards)
                    self._safely("daemons", lambda: self._daemons.look(self._shards))
                self._safely("orders", self.take_orders)
            self._sources.watch()
            self._until = min(next_renewal, next_beat)
            self._safely("listen", self._listen)
            self._safely("tell", lambda: self._send(self._sources.drain()))
        self._control.close()
        self._transport.close()

    def _safely(self, doing: str, step: Callable[[], None]) -> None:
        try:
            step()
        except RedisError as error:
            if time.monotonic() - self._said.get(doing, float("-inf")) >= SAY_AGAIN:
                self._said[doing] = time.monotonic()
                self._log.warning("redis.unavailable", doing=doing, error=str(error))
            self._events.counters.count("streamq_redis_errors_total", doing)
            self.away_since = self.away_since or time.monotonic()
            self._stopped.wait(min(LONGEST_PAUSE, self._interval / 4) * random.uniform(0.8, 1.2))
        except Exception as error:  # noqa: BLE001 - a thread that dies silently loses every lease
            self._log.exception("leases.failed", doing=doing, error=repr(error))
            self._stopped.wait(SLICE)

    def renew_all(self) -> None:
        """Renew everything in hand; tell what is fenced and what is to be cancelled. A shard whose server
        is away keeps no other from being renewed, nor does a type whose keys are wrong."""
        failed: dict[int | Line, RedisError] = {}
        for line in self._in_flight.lines():
            for chunk in chunks(self._in_flight.snapshot(line), CHUNK):
                if line not in failed and line[1] not in failed:
                    try:
                        self._renew(line, chunk)
                    except RedisUnavailable as error:
                        failed[line[1]] = error
                    except RedisError as error:
                        failed[line] = error
        if failed:
            self._again = True
            raise next(iter(failed.values()))

    def _renew(self, line: Line, held: list[Held]) -> None:
        task_type, shard = line
        keys = type_keys(self._app, shard, task_type)
        pairs = [(one.delivery.place, one.delivery.local) for one in held]
        renewal = self._transport.run(worker_calls.renew(keys, self._worker, pairs), patience=0)
        # The lease that counts is the one in Redis: another release may have registered a shorter one.
        self._interval = min(self._interval, max(0.05, renewal.lease_ms / 3000))
        self._events.clock(shard, renewal.now_ms)
        fenced, cancelled = set(renewal.fenced), set(renewal.cancelled)
        if fenced:
            self._events.fenced([one for one in held if one.delivery.place in fenced])
        if cancelled:
            self._events.cancel([one for one in held if one.delivery.local in cancelled])

    def _send_beats(self) -> None:
        """In every shard: the daemon looks there under which lease its deliveries are renewed. A shard whose
        server is away keeps no other from hearing of us."""
        away: RedisError | None = None
        for shard in range(self._shards):
            call = worker_calls.beat(shard_keys(self._app, shard), self._worker, self._sources.beat(shard))
            try:
                self._events.clock(shard, self._transport.run(call, patience=0))
            except RedisError as error:
                away = away or error
        if away is not None:
            raise away
        if self.away_since:
            self.away_since = 0.0
            self._events.counters.count("streamq_redis_reconnects_total", "heartbeat")

    def take_orders(self) -> None:
        """Look what we are asked to do: what was said on the control channel may have been missed.

        What is paused in the first shard is paused in all: one may have come since.
        """
        everywhere: frozenset[str] = frozenset()
        failed: RedisError | None = None
        for shard in range(self._shards):
            call = worker_calls.orders(shard_keys(self._app, shard), self._worker)
            try:
                orders = self._transport.run(call, patience=0)
            except RedisError as error:  # of this shard only
                failed = failed or error
                continue
            everywhere = orders.paused if shard == 0 else everywhere
            self._events.orders(shard, orders._replace(paused=orders.paused | everywhere))
        if failed is not None:
            raise failed

    def _send(self, drained: Sequence[Call[Any]]) -> None:
        for call in drained:
            self._transport.run(call, patience=0)

    def _look_at_shards(self) -> None:
        """Notice that there are more shards to serve than we knew, or fewer."""
        record = self._transport.run(producer_calls.app_record(self._app), patience=0)
        if record is None or (record.known < self._registry.shards and not self._given_up(record.known)):
            # Somebody emptied the server, or a failover lost what we had said.
            told = producer_calls.announce(self._app, self._registry.shards, lead=False)
            record = self._transport.run(told, patience=0)
        if record.known != self._shards:
            self._log.info("worker.shards", shards=record.known)
            self._shards = record.known
            self._control.close()
            self._control = self._subscription()
        self._events.shards(record.known)  # each time: one that could not be made ready is tried again

    def _given_up(self, shard: int) -> bool:
        """Whether this shard is known no more because it was given up. Our release is the older one."""
        return self._transport.run(producer_calls.is_closed(shard_keys(self._app, shard)), patience=0)

    def _listen(self) -> None:
        seconds = max(0.0, min(self._until - time.monotonic(), SLICE))
        while not self._control.connected and not self._deaf:
            self._open()
            self.renew_all()  # what was said before is answered by renew and by the orders
            self.take_orders()
            self._look_at_shards()  # where they are others now, we listen anew
        if self._deaf:
            self._stopped.wait(seconds)
            return
        try:
            message = self._control.next(seconds)
        except (
            RedisUnavailable
        ) as error:  # closed as it was idle, perhaps: the next turn listens anew, or tells
            self._log.debug("control.closed", error=str(error))
            return
        if message is not None:
            self._heed(message[1])

    def _open(self) -> None:
        """Listen; where that cannot be had, every heartbeat asks for what is to be heard."""
        try:
            self._control.open()
        except (AuthenticationFailed, ServerError) as error:
            self._deaf = True
            self._log.warning(
                "control.refused", error=str(error), fix="orders are heard with heartbeats only"
            )

    def _heed(self, text: str) -> None:
        verb, _, rest = text.partition(" ")
        if verb == "orders":
            self.take_orders()
        if verb == "shards":
            self._look_at_shards()
        if verb != "cancel":
            return  # a newer release may say more
        try:
            task = TaskId.parse(rest)
        except InvalidTaskId:
            return
        line = task.type, task.shard
        held = self._in_flight.find(line, task.local)
        if held is not None:
            self._renew(line, [held])  # anybody may say it: what is true is in Redis

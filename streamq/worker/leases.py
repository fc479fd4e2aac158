"""Keeps deliveries ours: renewal and heartbeat in a thread of their own, on connections of their own.

Owns that thread. A handler that blocks the event loop loses no lease. It listens on the control channel
while it waits, so a cancel request arrives at once. What it learns it tells the event loop; it writes
no outcome.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streamq import calls, telemetry
from streamq.errors import InvalidTaskId, RedisError
from streamq.keys import shard_keys, type_keys
from streamq.model import TaskId
from streamq.telemetry.tally import Tally
from streamq.transport import Subscription, SyncTransport
from streamq.worker.holdings import Held, Holdings, Line, chunks

CHUNK: Final = 200
SLICE: Final = 0.25
"""Seconds after which the thread looks whether it is to stop; costs no command."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the lease thread tells the event loop, each called in the lease thread; and where it counts."""

    lost: Callable[[list[Held]], None]
    cancel: Callable[[list[Held]], None]
    clock: Callable[[int], None]
    tally: Tally


class LeaseKeeper(threading.Thread):
    """Renews until stopped. `beat` makes the heartbeat's details; `watch` is called at every look."""

    def __init__(
        self,
        transport: SyncTransport,
        app: str,
        shards: int,
        worker: str,
        holdings: Holdings,
        told: Told,
        *,
        lease: float,
        heartbeat: float,
        beat: Callable[[], bytes],
        watch: Callable[[], None],
    ) -> None:
        super().__init__(name="streamq-leases", daemon=True)
        self._transport = transport
        self._app, self._shards = app, shards
        self._worker = worker
        self._holdings = holdings
        self._told = told
        self._interval = lease / 3
        self._heartbeat = heartbeat
        self._beat = beat
        self._watch = watch
        self.away_since = 0.0
        self._control = Subscription(transport, *(shard_keys(app, n).control for n in range(shards)))
        self._stopped = threading.Event()
        self._until = 0.0
        self._log = telemetry.get_logger(worker=worker)

    def stop(self) -> None:
        """End soon; the thread sends no more."""
        self._stopped.set()

    def run(self) -> None:
        next_renewal = next_beat = time.monotonic()
        while not self._stopped.is_set():
            now = time.monotonic()
            if now >= next_renewal:
                next_renewal = now + self._interval
                self._safely("renew", self.renew_all)
            if now >= next_beat:
                next_beat = now + self._heartbeat
                self._safely("heartbeat", self._send_beat)
            self._watch()
            self._until = min(next_renewal, next_beat)
            self._safely("listen", self._listen)
        self._control.close()
        self._transport.close()

    def _safely(self, doing: str, step: Callable[[], None]) -> None:
        try:
            step()
        except RedisError as error:
            self._log.warning("redis.unavailable", doing=doing, error=str(error))
            self._told.tally.count("streamq_redis_errors_total", doing)
            self.away_since = self.away_since or time.monotonic()
            self._stopped.wait(min(0.5, self._interval / 4))
        except Exception as error:  # noqa: BLE001 - a thread that dies silently loses every lease
            self._log.exception("leases.failed", doing=doing, error=repr(error))
            self._stopped.wait(SLICE)

    def renew_all(self) -> None:
        """Renew everything in hand; tell what is lost and what is to be cancelled."""
        for line in self._holdings.lines():
            for chunk in chunks(self._holdings.snapshot(line), CHUNK):
                self._renew(line, chunk)

    def _renew(self, line: Line, held: list[Held]) -> None:
        task_type, shard = line
        keys = type_keys(self._app, shard, task_type)
        pairs = [(one.delivery.place, one.delivery.local) for one in held]
        renewal = self._transport.run(calls.renew(keys, self._worker, pairs), patience=self._interval)
        # The lease that counts is the one in Redis: another release may have registered a shorter one.
        self._interval = min(self._interval, max(0.05, renewal.lease_ms / 3000))
        self._told.clock(renewal.now_ms)
        lost, cancelled = set(renewal.lost), set(renewal.cancelled)
        if lost:
            self._told.lost([one for one in held if one.delivery.place in lost])
        if cancelled:
            self._told.cancel([one for one in held if one.delivery.local in cancelled])

    def _send_beat(self) -> None:
        self._told.clock(
            self._transport.run(calls.beat(shard_keys(self._app, 0), self._worker, self._beat()), patience=0)
        )
        if self.away_since:
            self.away_since = 0.0
            self._told.tally.count("streamq_redis_reconnects_total", "heartbeat")

    def _listen(self) -> None:
        seconds = self._until - time.monotonic()
        if not self._control.connected:
            self._control.open()
            self.renew_all()  # what was said before is answered by renew
        message = self._control.next(max(0.0, min(seconds, SLICE)))
        if message is not None:
            self._heed(message[1])

    def _heed(self, text: str) -> None:
        verb, _, rest = text.partition(" ")
        if verb != "cancel":
            return  # a newer release may say more
        try:
            task = TaskId.parse(rest)
        except InvalidTaskId:
            return
        held = self._holdings.find((task.type, task.shard), task.local)
        if held is not None:
            self._told.cancel([held])

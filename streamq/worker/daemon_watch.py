"""Checks that a daemon runs: without one, delayed tasks, retries and lost deliveries are stuck.

Owns the check and its log lines: a warning at the first check if tasks wait for a daemon, otherwise at the
second, then repeated. Used by the lease thread; must not write to Redis.
"""

from __future__ import annotations

import time
from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.control.heartbeats import daemons
from streamq.errors import RedisError, RedisUnavailable
from streamq.flow import drive
from streamq.keys import type_keys
from streamq.telemetry import logs
from streamq.transport.sync_transport import SyncTransport

LOG_INTERVAL: Final = 60.0
"""Seconds between two warnings."""
TYPES_AT_ONCE: Final = 50
_FIX: Final = "start one: streamq daemon --url <this server>; for details run streamq doctor"


class DaemonWatch:
    """The check of one worker, which serves these types."""

    def __init__(self, transport: SyncTransport, app: str, types: list[str], worker: str) -> None:
        self._transport = transport
        self._namespace = transport.address.namespace
        self._app, self._types = app, types
        self._missed = 0
        self._warned_at = float("-inf")
        self._log = logs.get_logger(worker=worker)

    def check(self, shards: int) -> None:
        """Log a warning if no daemon serves the app. Raise RedisError."""
        try:
            alive = [one for one in drive(self._transport, daemons(self._namespace)) if one.alive]
        except RedisUnavailable:
            raise
        except RedisError as error:  # a Redis user set up for an older release may not read heartbeats
            self._log.debug("daemon.unknown", error=str(error))
            return
        if any(one.details.get("only") in (None, self._app) for one in alive):
            self._found()
            return
        self._missed += 1
        waiting, overdue = self._waiting(shards)
        if (waiting or self._missed > 1) and time.monotonic() - self._warned_at >= LOG_INTERVAL:
            self._warned_at = time.monotonic()
            self._log.warning(
                "daemon.missing",
                waiting_types=waiting,
                overdue=f"{overdue:.0f} s",
                consequence="delayed tasks, retries and the tasks of dead workers are stuck",
                fix=_FIX,
            )

    def _found(self) -> None:
        if self._warned_at > float("-inf"):
            self._log.info("daemon.found")
        self._missed, self._warned_at = 0, float("-inf")

    def _waiting(self, shards: int) -> tuple[int, float]:
        """Return the number of types that wait for a daemon, and how many seconds the oldest is overdue."""
        left: list[float] = []
        for shard in range(shards):
            keys = [type_keys(self._app, shard, name) for name in self._types]
            for n in range(0, len(keys), TYPES_AT_ONCE):
                call = daemon_calls.next_promotion(keys[n : n + TYPES_AT_ONCE])
                found, _ = self._transport.run(call, patience=0)
                left += [one for one in found if one is not None]
        return len(left), max(0.0, -min(left, default=0.0)) / 1000

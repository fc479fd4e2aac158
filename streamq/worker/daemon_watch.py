"""Whether a daemon is there: without one nothing that is delayed or retried, and nothing lost, goes on.

Owns that look, and what is said of it: at the first look where tasks wait for a daemon, else when it has been
missed twice, and again as long as it lasts. Used by the lease thread; writes nothing.
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

SAY_AGAIN: Final = 60.0
"""Seconds after which it is said again."""
TYPES_AT_ONCE: Final = 50
_FIX: Final = "start one: streamq daemon --url <this server>; streamq doctor tells more"


class DaemonWatch:
    """Of one worker, which serves these types."""

    def __init__(self, transport: SyncTransport, app: str, types: list[str], worker: str) -> None:
        self._transport = transport
        self._namespace = transport.address.namespace
        self._app, self._types = app, types
        self._missed = 0
        self._said = float("-inf")
        self._log = logs.get_logger(worker=worker)

    def look(self, shards: int) -> None:
        """Warn where no daemon serves the app. Raises RedisErrors."""
        try:
            alive = [one for one in drive(self._transport, daemons(self._namespace)) if one.alive]
        except RedisUnavailable:
            raise
        except RedisError as error:  # an older user of ours has no right to look
            self._log.debug("daemon.unknown", error=str(error))
            return
        if any(one.details.get("only") in (None, self._app) for one in alive):
            self._found()
            return
        self._missed += 1
        waiting, overdue = self._waiting(shards)
        if (waiting or self._missed > 1) and time.monotonic() - self._said >= SAY_AGAIN:
            self._said = time.monotonic()
            self._log.warning(
                "daemon.missing",
                waiting_types=waiting,
                overdue=f"{overdue:.0f} s",
                consequence="delayed tasks, retries and the tasks of dead workers wait",
                fix=_FIX,
            )

    def _found(self) -> None:
        if self._said > float("-inf"):
            self._log.info("daemon.found")
        self._missed, self._said = 0, float("-inf")

    def _waiting(self, shards: int) -> tuple[int, float]:
        """How many of our types wait for a daemon, and by how many seconds it is overdue."""
        left: list[float] = []
        for shard in range(shards):
            keys = [type_keys(self._app, shard, name) for name in self._types]
            for n in range(0, len(keys), TYPES_AT_ONCE):
                call = daemon_calls.next_promotion(keys[n : n + TYPES_AT_ONCE])
                found, _ = self._transport.run(call, patience=0)
                left += [one for one in found if one is not None]
        return len(left), max(0.0, -min(left, default=0.0)) / 1000

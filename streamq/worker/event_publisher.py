"""Publishes live events of tasks: an observer that costs nothing while there are no listeners.

Owns the events of one worker process: collected by the event loop, sent by the lease thread, a bounded number
at a time. Further events are dropped and counted. Events may be lost, so nothing may depend on them.
"""

from __future__ import annotations

from typing import Final

import orjson

from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.envelope import failures
from streamq.keys import shard_keys
from streamq.model.delivery import Delivery
from streamq.model.outcome import Died, Outcome, Retried, name_of
from streamq.namespace import namespace_of

LONGEST_ERROR: Final = 200
MAX_EVENTS: Final = 200
"""The most events between two publications (a quarter of a second apart)."""


class EventPublisher:
    """Collects events while it is `active`."""

    def __init__(self, app: str, worker: str) -> None:
        self._channel = shard_keys(app, 0).events
        self._worker = worker
        self._database = namespace_of(app).database
        self._events: list[dict[str, object]] = []
        self._left_out = 0
        self.active = False

    def attempt_began(self, task: Delivery, at_ms: int) -> None:
        """Add an event: a handler was called."""
        self._add(task, "started", at_ms, None)

    def attempt_stored(self, task: Delivery, outcome: Outcome, seconds: float | None, at_ms: int) -> None:
        """Add an event: an outcome was stored. `seconds`: how long the handler ran."""
        self._add(task, name_of(outcome), at_ms, seconds, _error(outcome))

    def _add(self, task: Delivery, kind: str, at_ms: int, seconds: float | None, error: str = "") -> None:
        if len(self._events) >= MAX_EVENTS:
            self._left_out += 1
            return
        event: dict[str, object] = {
            "event": kind, "id": str(task.id), "attempt": task.attempt, "at_ms": at_ms,
        }  # fmt: skip
        if seconds is not None:
            event["seconds"] = round(seconds, 6)
        if error:
            event["error"] = error
        self._events.append(event)

    def drain(self, _now_ms: int) -> list[Call[int]]:
        """Return the calls that publish the collected events, and forget the events."""
        if not self._events:
            return []
        events, self._events = self._events, []
        left_out, self._left_out = self._left_out, 0
        message = {
            "worker": self._worker,
            "database": self._database,
            "events": events,
            "left_out": left_out,
        }
        return [worker_calls.publish(self._channel, orjson.dumps(message))]


def _error(outcome: Outcome) -> str:
    """Return the error of the latest attempt; without its message where that is sealed."""
    if not isinstance(outcome, Retried | Died):
        return ""
    last = (failures(outcome.failures) or [{}])[-1]
    message = "" if b'"sealed":' in outcome.failures else str(last.get("message", ""))
    parts = (str(last.get("error", "")), " ".join(message.split()))
    return ": ".join(filter(None, parts))[:LONGEST_ERROR]

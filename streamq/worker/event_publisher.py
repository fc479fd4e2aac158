"""Tells what happens to tasks while somebody listens: an observer, which costs nothing otherwise.

Owns the events of one worker process: gathered by the event loop, sent by the lease thread, so many at a
time at most. What is too much is left out and counted. An event is a help to those who watch, never the
truth: it may be lost.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.keys import shard_keys
from streamq.model.delivery import Delivery
from streamq.model.outcome import Outcome, name_of
from streamq.namespace import namespace_of

MOST: Final = 200
"""Events between two sendings (a quarter of a second)."""


class EventPublisher:
    """Gathers events while it is `active`."""

    def __init__(self, app: str, worker: str) -> None:
        self._channel = shard_keys(app, 0).events
        self._worker = worker
        self._database = namespace_of(app).database
        self._events: list[dict[str, Any]] = []
        self._left_out = 0
        self.active = False

    def attempt_began(self, task: Delivery, at_ms: int) -> None:
        """A handler was called."""
        self._add(task, "started", at_ms, None)

    def attempt_stored(self, task: Delivery, outcome: Outcome, seconds: float | None, at_ms: int) -> None:
        """A delivery came to its end; `seconds` in the handler."""
        self._add(task, name_of(outcome), at_ms, seconds)

    def _add(self, task: Delivery, kind: str, at_ms: int, seconds: float | None) -> None:
        if len(self._events) >= MOST:
            self._left_out += 1
            return
        told = {"event": kind, "id": str(task.id), "attempt": task.attempt, "at_ms": at_ms}
        self._events.append(told | ({} if seconds is None else {"seconds": round(seconds, 6)}))

    def drain(self, _now_ms: int) -> list[Call[int]]:
        """What to say now, and begin anew."""
        if not self._events:
            return []
        events, self._events = self._events, []
        left_out, self._left_out = self._left_out, 0
        said = {
            "worker": self._worker,
            "database": self._database,
            "events": events,
            "left_out": left_out,
        }
        return [worker_calls.publish(self._channel, orjson.dumps(said))]

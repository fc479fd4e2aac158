"""Live events: what handlers tell while they run, for those who watch their tasks.

Owns the events that have not been sent yet, and the thread that sends them: gathered for a tenth of a second.
Must not delay a handler, nor fail one because the server is slow.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Final

import orjson

from streamq.app.enqueuer import Enqueuer
from streamq.calls import live as live_calls
from streamq.convert.encoding import encode
from streamq.envelope import clean
from streamq.errors import RedisError
from streamq.flow import ask
from streamq.keys import type_keys
from streamq.model.delivery import Delivery
from streamq.payloads.stage import About
from streamq.registry.handler import sized
from streamq.registry.registry import Registry

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""The numbers of the standard library's levels."""
MOST_LOGS: Final = 100
"""Log records of an attempt that one call sends; of more the first are left out, and their number is told."""
LONGEST: Final = 2_000
"""Characters of a log record's message."""
INTERVAL: Final = 0.1
"""Seconds for which events are gathered."""
MOST_BYTES: Final = 65_536
"""The most bytes of one value."""
RENEWED: Final = live_calls.LIFE_MS / 3000
"""Seconds after which what an attempt told is renewed, while it says nothing more and still runs."""
PATIENCE: Final = 1.0
"""Seconds for which the last events of an attempt are sent before it ends without them."""


_Key = tuple[str, int, str]
"""Of an attempt: its task type, shard and place."""


class _Told:
    """What one attempt told since the last call."""

    def __init__(self, task: Delivery, worker: str, at: float = 0.0) -> None:
        self.task, self.worker, self.at = task, worker, at
        self.events: list[tuple[str, bytes]] = []
        self.logs: list[tuple[str, bytes]] = []
        self.left_out = 0

    def log(self, data: bytes) -> None:
        self.add("log", data)
        self.logs.append(self.events[-1])
        if len(self.logs) > MOST_LOGS:
            first = self.logs.pop(0)
            self.events = [one for one in self.events if one is not first]
            self.left_out += 1

    def add(self, kind: str, data: bytes) -> None:
        if kind == "progress" and self.events and self.events[-1][0] == kind:
            self.events[-1] = kind, data  # only the latest of several in a row is of use
            return
        self.events.append((kind, data))
        del self.events[: -live_calls.MOST]


class Live:
    """The live events of an app's handlers in this process. Safe to use in any thread."""

    def __init__(self, registry: Registry, enqueuer: Enqueuer) -> None:
        self._registry, self._enqueuer = registry, enqueuer
        self._told: dict[_Key, _Told] = {}
        self._alive: dict[_Key, _Told] = {}
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def progress(self, task: Delivery, worker: str, done: float, total: float | None, text: str) -> None:
        """Publish the progress of an attempt."""
        data = {
            "done": float(done),
            "total": None if total is None else float(total),
            "text": clean(text[:500]),
        }
        self._add(task, worker, "progress", self._stored(task, orjson.dumps(data)))

    def emit(self, task: Delivery, worker: str, value: object) -> None:
        """Publish a value. Raises PayloadError if it is not JSON, or too long."""
        raw = sized(encode(value, what="the emitted value"), MOST_BYTES, "the emitted value")
        self._add(task, worker, "value", self._stored(task, raw))

    def log(self, task: Delivery, worker: str, level: int, logger: str, message: str) -> bool:
        """Tell a log record, if the type shows records of this level; return whether it does."""
        handler = self._registry.handlers.get(task.type)
        wanted = None if handler is None else handler.options.logs
        if wanted is None or level < LEVELS[wanted]:
            return False
        name = next((name for name in reversed(LEVELS) if level >= LEVELS[name]), "debug")
        told = {"level": name, "logger": clean(logger[:200]), "message": clean(message[:LONGEST])}
        self._add(task, worker, "log", self._stored(task, orjson.dumps(told)))
        return True

    def _stored(self, task: Delivery, raw: bytes) -> bytes:
        pipeline, name = self._registry.pipeline, self._registry.name
        return raw if pipeline is None else pipeline.seal(raw, About(name, task.type, "event", str(task.id)))

    def flush(self, task: Delivery) -> None:
        """Send what an attempt told, before it ends: a delivery that is settled can tell nothing more."""
        with self._sending, self._lock:
            key = task.type, task.shard, task.place
            told = self._told.pop(key, None)
            self._alive.pop(key, None)
        if told is not None:
            self._send(told)

    def _add(self, task: Delivery, worker: str, kind: str, data: bytes) -> None:
        key = task.type, task.shard, task.place
        with self._lock:
            told = self._told.get(key)
            if told is None:
                told = self._told[key] = _Told(task, worker)
            if kind == "log":
                told.log(data)
            else:
                told.add(kind, data)
            if self._thread is None or not self._thread.is_alive():  # also after a fork
                self._thread = threading.Thread(target=self._serve, name="streamq-live", daemon=True)
                self._thread.start()
        self._wake.set()

    def _serve(self) -> None:
        while True:
            if self._wake.wait(RENEWED):
                time.sleep(INTERVAL)
                self._wake.clear()
            with self._sending:
                for one in self._taken():
                    self._send(one)

    def _taken(self) -> list[_Told]:
        """Take what was told, and an empty call for each attempt that has been silent for long."""
        now = time.monotonic()
        with self._lock:
            told, self._told = self._told, {}
            for key, one in told.items():
                self._alive[key] = _Told(one.task, one.worker, now)
            silent = [one for one in self._alive.values() if now - one.at >= RENEWED]
            for one in silent:
                one.at = now
        return [*told.values(), *silent]

    def _send(self, told: _Told) -> None:
        task = told.task
        keys = type_keys(self._registry.name, task.shard, task.type)
        events = told.events
        if told.left_out:
            words = f"{told.left_out:,} records before these are left out"
            first = orjson.dumps({"level": "warning", "logger": "streamq", "message": words})
            events = [("log", self._stored(task, first)), *events]
        call = live_calls.emit(keys, told.worker, task.place, task.local, task.attempt, events)
        with suppress(RedisError):  # nobody is owed an event: the task goes on without
            if not self._enqueuer.drive(ask(call, PATIENCE)):  # it is another worker's by now
                with self._lock:
                    self._alive.pop((task.type, task.shard, task.place), None)

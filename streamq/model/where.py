"""Define where a task is: one small value per state, with what the server knows about a task in it.

Owns their fields. Times are ms since the epoch by the server's clock; `stream` is the letter of a stream.
Asks no server.
"""

from __future__ import annotations

from typing import NamedTuple


class Scheduled(NamedTuple):
    """The task is due at `due_ms`, for the stream of its priority."""

    stream: str
    due_ms: int


class Parked(NamedTuple):
    """It waits in its lane, which is why: limit, rate, turn or order."""

    stream: str
    lane: str
    why: str


class Ready(NamedTuple):
    """The task waits for a worker."""

    stream: str
    entry: str

    @property
    def since_ms(self) -> int:
        """Return when it became ready; 0 if its entry id is not a time."""
        return _stamp(self.entry)


class Running(NamedTuple):
    """A worker has the task, and renewed its lease `lease_idle_ms` ago."""

    stream: str
    entry: str
    worker: str
    lease_idle_ms: int
    cancel_requested: bool

    @property
    def since_ms(self) -> int:
        """Return when it became ready, before it ran; 0 if its entry id is not a time."""
        return _stamp(self.entry)


class Buried(NamedTuple):
    """The task is a dead letter."""

    reason: str
    stream: str
    died_ms: int


class Ended(NamedTuple):
    """The task completed, was cancelled or has expired."""

    ended_ms: int


Where = Scheduled | Parked | Ready | Running | Buried | Ended
"""None instead of one of these: unknown, or a completed task whose result holds the time."""


def shown(where: Where | None) -> dict[str, str]:
    """Return the fields as text, for people and for JSON."""
    if where is None:
        return {}
    words = {True: "yes", False: "no"}
    found: dict[str, object] = where._asdict()
    return {name: words[value] if isinstance(value, bool) else str(value) for name, value in found.items()}


def _stamp(entry: str) -> int:
    number = entry.partition("-")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 17 else 0

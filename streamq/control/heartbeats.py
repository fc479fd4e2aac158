"""The workers and daemons of a queue, by their heartbeats.

Owns the reading of a heartbeat, and when its sender counts as alive. Must not write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.control.unreadable import Unreadable
from streamq.flow import Flow, ask
from streamq.keys import shard_keys
from streamq.namespace import Namespace
from streamq.stored import mapping, real

HEARTBEATS_MISSED: Final = 3
_LONGEST_BEAT: Final = 1e6
"""Seconds between two heartbeats at most."""
_UNREAD: Final[dict[str, bytes]] = {}
_KINDS: Final = {
    "types": list, "running": list, "problems": list, "concurrency": int, "running_count": int, "pid": int,
    "host": str, "version": str, "only": str, "speaks": list, "too_new": list, "schedules": list,
}  # fmt: skip
"""The details of a heartbeat, and the type of each."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker or daemon, by its last heartbeat. alive: that was at most three heartbeats ago."""

    name: str
    alive: bool
    last_beat_age: float
    details: dict[str, Any]
    """By name, as a worker of any release wrote them."""


def worker_info(name: str, age_ms: int, raw: bytes) -> WorkerInfo:
    """Return a worker by its heartbeat of so many ms ago, without damaged details."""
    details = mapping(raw)
    details = {name: value for name, value in details.items() if isinstance(value, _KINDS.get(name, object))}
    patience = HEARTBEATS_MISSED * min(max(0.0, real(details.get("heartbeat"), 5.0)), _LONGEST_BEAT)
    return WorkerInfo(name, age_ms <= patience * 1000, max(0, age_ms) / 1000, details)


def workers(app: str, unreadable: Unreadable | None = None) -> Flow[list[WorkerInfo]]:
    """Return the workers of an app that send heartbeats, or did recently. They are in the first shard.
    unreadable: notes faults of stored data, which are raised without it."""
    shard = shard_keys(app, 0)
    return _processes(question_calls.workers(shard), question_calls.heartbeats(shard), unreadable)


def daemons(namespace: Namespace, unreadable: Unreadable | None = None) -> Flow[list[WorkerInfo]]:
    """Return the daemons of a server that send heartbeats, or did recently. `details["only"]`: the one app
    that it serves; None for all. unreadable: as above."""
    return _processes(
        question_calls.daemons(namespace), question_calls.daemon_heartbeats(namespace), unreadable
    )


def _processes(
    beats: Call[list[tuple[str, int]]],
    details: Call[dict[str, bytes]],
    unreadable: Unreadable | None,
) -> Flow[list[WorkerInfo]]:
    listed = yield from (ask(beats) if unreadable is None else unreadable.ask(beats, list))
    # Read second: a process that starts in between is in neither list, one that leaves is in one only.
    raw = yield from (ask(details) if unreadable is None else unreadable.ask(details, lambda: _UNREAD))
    now = (yield from ask(question_calls.now())) if listed else 0
    # If the details cannot be read, only the time of the last heartbeat is known.
    return [
        worker_info(name, now - beat, raw.get(name, b"{}"))
        for name, beat in listed
        if name in raw or raw is _UNREAD
    ]

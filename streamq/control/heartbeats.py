"""Who works on a queue: its workers and the daemons, by what their heartbeats say.

Owns the reading of a heartbeat and when its sender counts as alive. Writes nothing.
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
_TOLD: Final = {
    "types": list, "running": list, "problems": list, "concurrency": int, "running_count": int, "pid": int,
    "host": str, "version": str, "only": str, "speaks": list, "too_new": list, "schedules": list,
}  # fmt: skip
"""What a heartbeat tells, and of what kind it is."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker or daemon by its last heartbeat. `alive`: it was not longer ago than three heartbeats."""

    name: str
    alive: bool
    last_beat_age: float
    details: dict[str, Any]


def worker_info(name: str, age_ms: int, raw: bytes) -> WorkerInfo:
    """Return a worker by its heartbeat of so many ms ago; damaged details count as none, each by itself."""
    details = mapping(raw)
    details = {name: value for name, value in details.items() if isinstance(value, _TOLD.get(name, object))}
    patience = HEARTBEATS_MISSED * min(max(0.0, real(details.get("heartbeat"), 5.0)), _LONGEST_BEAT)
    return WorkerInfo(name, age_ms <= patience * 1000, max(0, age_ms) / 1000, details)


def workers(app: str, look: Unreadable | None = None) -> Flow[list[WorkerInfo]]:
    """Return the workers of an app that send heartbeats, or did not long ago. A worker beats in the first
    shard. look: notes what cannot be read, which is raised without it."""
    shard = shard_keys(app, 0)
    return _processes(question_calls.workers(shard), question_calls.heartbeats(shard), look)


def daemons(namespace: Namespace, look: Unreadable | None = None) -> Flow[list[WorkerInfo]]:
    """Return the daemons of a server that send heartbeats, or did not long ago. `details["only"]`: the one
    app it serves, None for all. look: as above."""
    return _processes(question_calls.daemons(namespace), question_calls.daemon_heartbeats(namespace), look)


def _processes(
    beats: Call[list[tuple[str, int]]],
    details: Call[dict[str, bytes]],
    look: Unreadable | None,
) -> Flow[list[WorkerInfo]]:
    listed = yield from (ask(beats) if look is None else look.ask(beats, list))
    # Asked second: who has come meanwhile is in neither list, who has left is in one only.
    told = yield from (ask(details) if look is None else look.ask(details, lambda: _UNREAD))
    now = (yield from ask(question_calls.now())) if listed else 0
    # Where nobody can read what they told, all that is known of them is when they last did.
    return [
        worker_info(name, now - beat, told.get(name, b"{}"))
        for name, beat in listed
        if name in told or told is _UNREAD
    ]

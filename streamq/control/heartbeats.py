"""The workers and daemons of a queue, by their heartbeats.

Owns who is asked for, and what is returned where heartbeats cannot be read. Must not write.
"""

from __future__ import annotations

from typing import Final

from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.control.unreadable import Unreadable
from streamq.flow import Flow, ask
from streamq.heartbeat import WorkerInfo, worker_info
from streamq.keys import shard_keys
from streamq.namespace import Namespace

_UNREAD: Final[dict[str, bytes]] = {}


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

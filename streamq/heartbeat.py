"""A heartbeat of a worker or daemon: what it says, and when its sender counts as alive.

Owns the reading of its details, which a process of any release may have written. Does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from streamq.stored import mapping, real

HEARTBEATS_MISSED: Final = 3
_LONGEST_BEAT: Final = 1e6
"""Seconds between two heartbeats at most."""


class Detail(NamedTuple):
    """A detail of a heartbeat: its type, and under which name the page of workers shows it, if it does."""

    kind: type
    label: str = ""


DETAILS: Final = {
    "host": Detail(str, "Host"), "pid": Detail(int, "Process"), "version": Detail(str, "Version"),
    "types": Detail(list, "Types"), "running": Detail(list), "problems": Detail(list),
    "concurrency": Detail(int), "running_count": Detail(int), "only": Detail(str), "speaks": Detail(list),
    "too_new": Detail(list), "schedules": Detail(list),
}  # fmt: skip
"""By name. What is in no row is kept as it is."""
_ANY: Final = Detail(object)


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
    details = {name: one for name, one in details.items() if isinstance(one, DETAILS.get(name, _ANY).kind)}
    patience = HEARTBEATS_MISSED * min(max(0.0, real(details.get("heartbeat"), 5.0)), _LONGEST_BEAT)
    return WorkerInfo(name, age_ms <= patience * 1000, max(0, age_ms) / 1000, details)

"""Why a task has not ended yet, in one sentence: its state, since when, and which workers serve its type.

Owns the words. Does no I/O: it is given what was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from streamq.keys import SUCCESSOR_DUE_MS
from streamq.model.reply import Located
from streamq.model.task import TaskId
from streamq.model.where import Parked, Ready, Running, Scheduled
from streamq.stored import mapping, real

HEARTBEATS_MISSED: Final = 3
"""Heartbeats that a worker may miss and still count as alive."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a task's progress depends on: the workers that are alive, with the details of their heartbeats,
    and the paused task types."""

    workers: Mapping[str, Mapping[str, object]]
    paused: frozenset[str]

    @classmethod
    def of(
        cls,
        now_ms: int,
        beats: Sequence[tuple[str, int]],
        details: Mapping[str, bytes],
        paused: Sequence[str],
    ) -> Surroundings:
        """Return the surroundings from the workers' heartbeats and the times of these."""
        alive: dict[str, Mapping[str, object]] = {}
        for name, beat in beats:
            found = mapping(details.get(name, b""))
            patience = HEARTBEATS_MISSED * min(max(0.0, real(found.get("heartbeat", 5.0), 5.0)), 1e6)
            if now_ms - beat <= patience * 1000:
                alive[name] = found
        return cls(alive, frozenset(paused))

    def serving(self, task_type: str) -> int:
        """Return how many workers serve a type."""
        return sum(task_type in _listed(details.get("types")) for details in self.workers.values())


_PARKED: Final = {
    "limit": "its limit of running tasks is reached", "rate": "its rate allows the next start later",
    "turn": "other lanes have their turn first", "order": "a task before it has not ended",
}  # fmt: skip


def reason(task: TaskId, located: Located, around: Surroundings | None) -> str:
    """Return why a task has not ended; without its surroundings, nothing about workers."""
    parts = [_state(task, located, around)]
    if around is not None and located.state != "running":
        parts += _prospects(task.type, around)
    return f"task {task} has not ended yet: {', and '.join(parts)}; it goes on"


def _state(task: TaskId, located: Located, around: Surroundings | None) -> str:
    where, now = located.where, located.now_ms
    if isinstance(where, Scheduled):
        if where.due_ms == SUCCESSOR_DUE_MS:
            return "it waits for the end of the task that holds its unique key"
        left = where.due_ms - now
        if left > 0:
            return f"it is scheduled, due in {_span(left)}"
        return f"it is scheduled and has been due for {_span(-left)} (is a daemon running?)"
    if isinstance(where, Running):
        return _running(task, where, now, around)
    if isinstance(where, Parked):
        lane = "the lane of tasks without a key" if where.lane == "\x01" else f"lane {where.lane!r}"
        return f"it is parked in {lane}: {_PARKED.get(where.why, where.why)}"
    since = where.since_ms if isinstance(where, Ready) else 0
    return f"it has been {located.state} for {_span(now - since)}" if since else f"it is {located.state}"


def _running(task: TaskId, where: Running, now: int, around: Surroundings | None) -> str:
    worker = where.worker
    text = "it is running"
    if around is not None and worker not in around.workers:
        text += f" on worker {worker}, which is silent (the task is reclaimed when its lease is over)"
    else:
        rows = _listed(around.workers[worker].get("running")) if around is not None else []
        since = [row.get("since_ms") for row in rows if isinstance(row, dict) and row.get("id") == str(task)]
        if since and isinstance(since[0], int):
            text = f"it has been running for {_span(now - since[0])}"
        text += f" on worker {worker}"
    return f"{text}, and was asked to stop" if where.cancel_requested else text


def _prospects(task_type: str, around: Surroundings) -> list[str]:
    parts: list[str] = []
    if task_type in around.paused:
        parts.append(f"{task_type} is paused (streamq resume {task_type})")
    serving = around.serving(task_type)
    if not serving:
        others = f": {len(around.workers)} alive, of other types" if around.workers else ""
        parts.append(f"no worker that serves {task_type} is alive{others}")
    else:
        parts.append(f"{serving} worker{' serves' if serving == 1 else 's serve'} {task_type}")
    return parts


def _span(ms: float) -> str:
    seconds = max(0.0, ms / 1000)
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []

"""Why a task has not ended yet, in one sentence: its state, since when, and who would work on it.

Owns the words. Asks nobody: it is given what was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streamq.model.reply import Located
from streamq.model.task import TaskId
from streamq.model.where import Parked, Ready, Running, Scheduled
from streamq.stored import mapping, real

MISSED: Final = 3
"""A worker that has missed so many heartbeats does not count as alive."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is around a task: the workers that are alive with what they say, and the types that are
    paused."""

    workers: Mapping[str, Mapping[str, Any]]
    paused: frozenset[str]

    @classmethod
    def of(
        cls, now_ms: int, beats: Sequence[tuple[str, int]], told: Mapping[str, bytes], paused: Sequence[str]
    ) -> Scene:
        """From the heartbeats and their moments."""
        found: dict[str, Mapping[str, Any]] = {}
        for name, beat in beats:
            details = mapping(told.get(name, b""))
            interval = details.get("heartbeat", 5.0)
            patience = MISSED * min(max(0.0, real(interval, 5.0)), 1e6)
            if now_ms - beat <= patience * 1000:
                found[name] = details
        return cls(found, frozenset(paused))

    def serving(self, task_type: str) -> int:
        """How many workers serve a type."""
        return sum(task_type in _listed(details.get("types")) for details in self.workers.values())


_PARKED: Final = {
    "limit": "as many run as may", "rate": "its rate lets the next start later",
    "turn": "others are before it", "order": "one before it has not ended",
}  # fmt: skip


def why(task: TaskId, located: Located, scene: Scene | None) -> str:
    """What is to be said of a task that has not ended; without a scene nothing of workers."""
    said = [_state(task, located, scene)]
    if scene is not None and located.state != "running":
        said += _prospects(task.type, scene)
    return f"task {task} has not ended yet: {', and '.join(said)}; it goes on"


def _state(task: TaskId, located: Located, scene: Scene | None) -> str:
    where, now = located.where, located.now_ms
    if isinstance(where, Scheduled):
        left = where.due_ms - now
        if left > 0:
            return f"it is scheduled, due in {_span(left)}"
        return f"it is scheduled and has been due for {_span(-left)} (is a daemon running?)"
    if isinstance(where, Running):
        return _running(task, where, now, scene)
    if isinstance(where, Parked):
        lane = "the lane of those that name none" if where.lane == "\x01" else f"lane {where.lane!r}"
        return f"it is parked in {lane}: {_PARKED.get(where.why, where.why)}"
    since = where.since_ms if isinstance(where, Ready) else 0
    return f"it has been {located.state} for {_span(now - since)}" if since else f"it is {located.state}"


def _running(task: TaskId, where: Running, now: int, scene: Scene | None) -> str:
    worker = where.worker
    said = "it is running"
    if scene is not None and worker not in scene.workers:
        said += f" on worker {worker}, which is silent (its task is taken back when the lease is over)"
    else:
        rows = _listed(scene.workers[worker].get("running")) if scene is not None else []
        since = [row.get("since_ms") for row in rows if isinstance(row, dict) and row.get("id") == str(task)]
        if since and isinstance(since[0], int):
            said = f"it has been running for {_span(now - since[0])}"
        said += f" on worker {worker}"
    return f"{said}, and was asked to stop" if where.cancel_requested else said


def _prospects(task_type: str, scene: Scene) -> list[str]:
    said: list[str] = []
    if task_type in scene.paused:
        said.append(f"{task_type} is paused (streamq resume {task_type})")
    serving = scene.serving(task_type)
    if not serving:
        others = f": {len(scene.workers)} alive, of other types" if scene.workers else ""
        said.append(f"no worker that serves {task_type} is alive{others}")
    else:
        said.append(f"{serving} worker{' serves' if serving == 1 else 's serve'} {task_type}")
    return said


def _span(ms: float) -> str:
    seconds = max(0.0, ms / 1000)
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []

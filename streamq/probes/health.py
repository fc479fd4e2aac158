"""The verdicts "alive" and "ready", computed from plain facts.

Owns the limits. Must not read a clock or do I/O. Not alive means that a restart would help. Redis being
unreachable does not count: it is no reason to restart a fleet. Ready means that this process would work on
new tasks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

REPORT_TIMEOUT: Final = 10.0
"""Seconds without a report after which a process counts as dead or stopped."""
LOOP_BLOCKED: Final = 60.0
"""Seconds of a blocked event loop after which the process is not alive. Until then it is only not ready."""
LOOP_BUSY: Final = 15.0
"""Seconds of a busy event loop after which the process is not ready."""
NOT_READING: Final = 15.0
"""Seconds that a worker with free slots may go without completing a read, beyond a read's own limit."""
REDIS_UNREACHABLE: Final = 15.0
"""Seconds of unreachable Redis after which a process that depends on it is not ready."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The health of a process as it knows it. Durations are in seconds; 0 is healthy.

    started: it accepts work. loop_late: how late the event loop is for its next timer. not_reading: how long
    it could have read and did not, beyond a read's own limit. redis_unreachable: since the last reply.
    """

    name: str
    role: str = "worker"
    started: bool = True
    draining: bool = False
    loop_late: float = 0.0
    not_reading: float = 0.0
    redis_unreachable: float = 0.0
    overdue: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the facts as JSON types, which the constructor takes as keywords."""
        return asdict(self)


def not_alive(facts: Facts, age: float = 0.0) -> list[str]:
    """Return the reasons to restart; empty if there are none. `age`: of the facts, in seconds."""
    found: list[str] = []
    if age > REPORT_TIMEOUT:
        found.append(f"{facts.name} has sent no report for {age:.0f} s")
    elif facts.started and facts.loop_late > LOOP_BLOCKED:
        found.append(f"{facts.name}: the event loop has been blocked for {facts.loop_late:.0f} s")
    return found


def not_ready(facts: Facts, age: float = 0.0) -> list[str]:
    """Return the reasons why new tasks would not be worked on; empty if they would."""
    if dead := not_alive(facts, age):
        return dead
    problems = {
        "has not started yet": not facts.started,
        "is draining": facts.draining,
        f"the event loop has been busy for {facts.loop_late:.0f} s": facts.loop_late > LOOP_BUSY,
        f"Redis has been unreachable for {facts.redis_unreachable:.0f} s": (
            facts.redis_unreachable > REDIS_UNREACHABLE
        ),
        f"has free slots but has not fetched for {facts.not_reading:.0f} s": facts.not_reading > NOT_READING,
        f"chores are overdue: {facts.overdue}": bool(facts.overdue),
    }
    return [f"{facts.name}: {problem}" for problem, present in problems.items() if present]


def probe_response(problems: Iterable[str], **more: object) -> tuple[int, dict[str, object]]:
    """Return the HTTP status and the JSON of a probe."""
    listed = list(problems)
    return (503 if listed else 200), {"ok": not listed, "problems": listed, **more}

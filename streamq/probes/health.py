"""Is it alive, is it ready? Verdicts over plain facts; reads no clock and asks nobody.

Owns the limits. Alive means that a restart would not help: an absent Redis is no reason to restart a fleet,
so it is never asked for that. Ready means that tasks given to this process would be worked on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

SILENT: Final = 10.0
"""Seconds without a report after which a process counts as dead or stopped."""
BLOCKED: Final = 60.0
"""Seconds for which a blocked event loop is only not ready; after them it is not alive either."""
BUSY: Final = 15.0
"""Seconds for which an event loop may be busy and still count as ready."""
DEAF: Final = 15.0
"""Seconds that a worker with free slots may go without a finished read, beyond what one read may take."""
AWAY: Final = 15.0
"""Seconds for which Redis may be away before what depends on it is not ready."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a process knows of itself. Durations are seconds; 0 is good.

    started: it has begun to work. loop_silent: since its event loop came to a timer. deaf: how long it
    could read and did not, beyond what a read may take. redis_away: since the server answered last.
    """

    name: str
    role: str = "worker"
    started: bool = True
    draining: bool = False
    loop_silent: float = 0.0
    deaf: float = 0.0
    redis_away: float = 0.0
    overdue: str = ""

    def plain(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Facts:
        return cls(**plain)


def not_alive(facts: Facts, age: float = 0.0) -> list[str]:
    """Why a restart is called for; empty where it is not. `age`: of the facts, in seconds."""
    found: list[str] = []
    if age > SILENT:
        found.append(f"{facts.name} has not been heard of for {age:.0f} s")
    elif facts.started and facts.loop_silent > BLOCKED:
        found.append(f"{facts.name}: the event loop is blocked for {facts.loop_silent:.0f} s")
    return found


def not_ready(facts: Facts, age: float = 0.0) -> list[str]:
    """Why tasks would not be worked on; empty where they would."""
    if dead := not_alive(facts, age):
        return dead
    wrong = {
        "has not started yet": not facts.started,
        "is draining": facts.draining,
        f"the event loop is busy for {facts.loop_silent:.0f} s": facts.loop_silent > BUSY,
        f"Redis is away for {facts.redis_away:.0f} s": facts.redis_away > AWAY,
        f"could take tasks but has not asked for {facts.deaf:.0f} s": facts.deaf > DEAF,
        f"chores are overdue: {facts.overdue}": bool(facts.overdue),
    }
    return [f"{facts.name}: {what}" for what, is_so in wrong.items() if is_so]


def answer(problems: Iterable[str], **more: object) -> tuple[int, dict[str, object]]:
    """HTTP status and JSON of a probe."""
    listed = list(problems)
    return (503 if listed else 200), {"ok": not listed, "problems": listed, **more}

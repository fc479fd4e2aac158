"""Compute the account of a demo: the ledger compared with the queue. Pure.

Owns how lost tasks and tasks settled twice are counted. Asks no server.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streamq.demo.ledger import Event
from streamq.model.task import State


@dataclass(frozen=True, slots=True)
class Account:
    """How the accepted tasks ended. `recovered`: deliveries taken back from a dead worker."""

    accepted: int
    completed: int
    retried: int
    dead: int
    recovered: int
    lost: int
    settled_twice: int
    seconds: float
    tasks_per_second: float
    wait_ms: dict[str, float]

    @property
    def right(self) -> bool:
        """Return whether every accepted task ended exactly once."""
        return self.accepted == self.completed + self.dead and self.lost == self.settled_twice == 0


def draw_up(
    events: Iterable[Event], states: dict[str, State], counters: dict[str, int], seconds: float
) -> Account:
    """Compute the account from the ledger's events, the queue's state of each accepted task, and its
    counters."""
    accepted: set[str] = set()
    done: set[str] = set()
    first: dict[str, tuple[float, float]] = {}
    for event in events:
        task = event["task"]
        if event["event"] == "accepted":
            accepted.add(task)
        elif event["event"] == "done":
            done.add(task)
        elif event["event"] == "start":
            begun = (event["at"], event["at"] - event["due"])
            first[task] = min(first.get(task, begun), begun)
    dead = {task for task in accepted if states.get(task) == "dead"}
    completed = {task for task in accepted & done if states.get(task) == "completed"}
    settled = counters.get("completed", 0) + counters.get("dead", 0) - counters.get("requeued", 0)
    waits = sorted(max(0.0, wait) * 1000 for _, wait in first.values())
    return Account(
        accepted=len(accepted),
        completed=len(completed),
        retried=counters.get("retried", 0),
        dead=len(dead),
        recovered=counters.get("reclaimed", 0),
        lost=len(accepted - completed - dead),
        settled_twice=max(0, settled - len(completed) - len(dead)),
        seconds=round(seconds, 3),
        tasks_per_second=round(len(accepted) / seconds, 1) if seconds else 0.0,
        wait_ms={f"p{p}": round(_percentile(waits, p), 2) for p in (50, 95, 99)},
    )


def _percentile(values: list[float], percent: int) -> float:
    if not values:
        return 0.0
    return values[min(len(values) - 1, len(values) * percent // 100)]

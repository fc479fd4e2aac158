"""The account of a run in figures: what was accepted, what came of it, how soon lost work came back. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.census import Tally
from tests.chaos.history import Event
from tests.chaos.journal import Life
from tests.chaos.record import Finding, History
from tests.chaos.recovery import recoveries, told
from tests.chaos.slots import Attempts

SHOWN: Final = 3
"""As many of the longest ways back are told."""


@dataclass
class Account:
    """accepted: tasks that exist, so also those whose producer was never told (`unknown_taken`).

    previous_ended: processes of the previous release that ended by themselves or otherwise than with 0.
    joined: calls that were told of a task that had their key. conflicts: those that were refused for that.
    runs: runs of schedules. zombies: attempts that ran on after their entry was taken from them.
    recovery_ms: from the death of a worker until a task that it was running is ready again, in a stream.
    restart_ms: until it starts again, which is also its turn among all that wait. longest: what befell those
    that took longest until they were ready, and until they started.
    """

    accepted: int = 0
    completed: int = 0
    dead: int = 0
    cancelled: int = 0
    expired: int = 0
    lost: int = 0
    settled_twice: int = 0
    executions: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    seed: int = 0
    seconds: float = 0.0
    topology: str = "single"
    previous: str | None = None
    unknown: int = 0
    unknown_taken: int = 0
    refused: int = 0
    joined: int = 0
    conflicts: int = 0
    runs: int = 0
    zombies: int = 0
    retried: int = 0
    reclaimed: int = 0
    handed_back: int = 0
    repaired: int = 0
    recovery_ms: dict[str, float] = field(default_factory=dict)
    restart_ms: dict[str, float] = field(default_factory=dict)
    longest: list[list[str]] = field(default_factory=list)
    previous_ended: int = 0
    findings: int = 0


def draw_up(
    events: Sequence[Event], final: Tally, findings: Sequence[Finding], lives: Mapping[str, Life]
) -> Account:
    """From the history, the census, the checker's findings and the servers' journals."""
    counts = Counter(event["event"] for event in events)
    ends = Counter(state for _, state in final.ended)
    acknowledged = {event["id"] for event in events if event["event"] in ("accepted", "joined")}
    existing = acknowledged | {task for task, _ in final.ended}
    back = recoveries(events, lives)
    longest = sorted(back, key=lambda one: -one.ready_ms)[:SHOWN]
    longest += [one for one in sorted(back, key=lambda one: -one.started_ms)[:SHOWN] if one not in longest]
    rules = Counter(finding.rule for finding in findings)
    counted = Counter[str]()
    for counters in final.counters.values():
        counted.update(counters)
    return Account(
        accepted=len(existing),
        completed=ends["completed"],
        dead=ends["dead"],
        cancelled=ends["cancelled"],
        expired=ends["expired"],
        lost=rules["lost"],
        settled_twice=rules["settled twice"],
        executions=counts["start"],
        faults=fault_counts(events),
        unknown=counts["invoke"] - counts["accepted"] - counts["joined"] - counts["refused"],
        unknown_taken=len(existing - acknowledged),
        refused=counts["refused"],
        joined=counts["joined"],
        conflicts=sum(event["event"] == "refused" and "holder" in event for event in events),
        runs=len({event["id"] for event in events if event["event"] == "start" and "run" in event}),
        zombies=Attempts(History.of(events), lives).zombies,
        retried=counted["retried"],
        reclaimed=counted["reclaimed"],
        handed_back=counted["handed_back"],
        repaired=counted["repaired"],
        recovery_ms=_summary([one.ready_ms for one in back]),
        restart_ms=_summary([one.started_ms for one in back]),
        longest=[told(one, lives, events) for one in longest],
        previous_ended=sum(e["event"] == "ended" and e["previous"] and e["code"] != 0 for e in events),
        findings=len(findings),
    )


def fault_counts(events: Sequence[Event]) -> dict[str, int]:
    """Faults that were injected, by kind; those that handlers brought about themselves included."""
    counts = Counter[str](event["kind"] for event in events if event["event"] == "fault")
    counts["handler_crashed"] = sum(event["event"] == "crash" for event in events)
    counts["loop_blocked"] = sum(_blocks(event) for event in events)
    return {kind: number for kind, number in sorted(counts.items()) if number}


def _blocks(event: Event) -> bool:
    if event["event"] != "start" or event["conduct"] != "block":
        return False
    return bool(event["id"].startswith(("mail:", "capped:")))


def _summary(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    return {"p50": round(ordered[len(ordered) // 2]), "max": round(ordered[-1]), "tasks": len(ordered)}

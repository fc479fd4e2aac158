"""What must hold of unique keys: one task at a time, and no call that was answered is lost. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from tests.chaos.promises import PROMISES, REPLACING
from tests.chaos.record import Asked, Finding, History
from tests.chaos.slots import Attempt, Attempts, above, entries, holds

_MS: Final = 1_000_000
_CERTAIN: Final = ("completed", "dead")
"""Ends that a task can only have come to from its last entry."""


def check(history: History, attempts: Attempts, states: dict[str, list[str]]) -> Iterator[Finding]:
    """Everything that is wrong with unique keys."""
    for name, promise in PROMISES.items():
        if not promise.lock:
            continue
        calls = [asked for asked in history.asked.values() if asked.type == name]
        for lock in sorted({asked.asked["lock"] for asked in calls}):
            mine = [asked for asked in calls if asked.asked["lock"] == lock]
            living = [one for one in attempts.living(name) if one.start["lock"] == lock]
            if promise.lock == "done":
                yield from _one_at_a_time(lock, living, mine, attempts)
            else:
                yield from _one_waits(lock, mine, attempts)
        yield from _joined(history, calls, attempts, states)
        yield from _arguments(history, calls, attempts.living(name))


def _one_at_a_time(
    lock: str, living: list[Attempt], calls: list[Asked], attempts: Attempts
) -> Iterator[Finding]:
    """Until it is done, nobody else of the key is ready or runs."""
    tasks = {one.id for one in living} | {asked.id for asked in calls if asked.id}
    for held, by in ((holds(living), "handlers"), (entries(tasks, attempts.lives), "journals")):
        if together := above(held, 1):
            yield Finding("two of a key", together[0], f"{lock}, by the {by}: {' and '.join(together)}")


def _one_waits(lock: str, calls: list[Asked], attempts: Attempts) -> Iterator[Finding]:
    """Until it is started, no other call of the key makes a task."""
    made = [asked for asked in calls if asked.told == "accepted"]
    for one in made:
        began = _given(str(one.id), attempts)
        for other in made:
            late = other.answered is not None and other.answered["wall"] < began
            if one is not other and one.precedes(other) and late:
                yield Finding("two of a key", str(one.id), f"{lock}: {other.id} was made while it waited")


def _given(task: str, attempts: Attempts) -> float:
    """When it was first given to a worker, by the server's clock in ms; never, where that is not known."""
    given = [entry.held[0][0] for entry in attempts.lives.get(task, [])[:1] if entry.held]
    return min(given, default=-math.inf)


def _joined(
    history: History, calls: list[Asked], attempts: Attempts, states: dict[str, list[str]]
) -> Iterator[Finding]:
    """Who joins a task, or is refused because of one, is told of one that exists and has not ended."""
    for asked in calls:
        task = asked.holder if asked.told == "refused" else asked.id if asked.told == "joined" else None
        if task is None:
            continue
        if task not in states:
            yield Finding("conflict lost", task, f"was named to {asked.asked['key']}, and is nowhere")
        elif _ended(task, states, attempts) < asked.asked["wall"]:
            yield Finding("conflict lost", task, f"was named to {asked.asked['key']}, and had ended before")


def _ended(task: str, states: dict[str, list[str]], attempts: Attempts) -> float:
    """When it had ended for sure, by the server's clock in ms."""
    life = attempts.lives.get(task, [])
    certain = life and states[task][0] in _CERTAIN and life[-1].gone is not None
    return float(life[-1].gone or 0) if certain else math.inf


def _arguments(history: History, calls: list[Asked], living: list[Attempt]) -> Iterator[Finding]:
    """A task runs with the arguments of the last call that gave it its own: of no call that was to change
    nothing, and of none that another one followed before the start. (A call that was to change the time alone
    gives its own where the holder has started.)"""
    by_task: dict[str, list[Asked]] = defaultdict(list)
    for asked in calls:
        if asked.told in ("accepted", "joined"):
            by_task[str(asked.id)].append(asked)
    for attempt in living:
        ran = history.asked.get(attempt.start["key"])
        if ran is None:
            continue
        if ran.told == "joined" and ran.asked["conflict"] == "return":
            yield Finding(
                "wrong arguments", attempt.id, f"ran with those of {ran.asked['key']}, which only joined"
            )
        for later in by_task[attempt.id]:
            told = later.answered
            replaces = later.told == "joined" and later.asked["conflict"] in REPLACING
            if replaces and told is not None and told["at"] < attempt.at and ran.precedes(later):
                yield Finding(
                    "conflict lost", attempt.id,
                    f"ran with the arguments of {ran.asked['key']}, and {later.asked['key']} was taken since",
                )  # fmt: skip

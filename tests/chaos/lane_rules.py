"""What must hold of lanes: limits, rates, fair shares, and order. Pure.

Each limit is looked at twice: by what handlers noted, outside Redis, and by the entries that the servers'
journals tell of, which also counts what was ready and never ran.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from tests.chaos.promises import PROMISES, Promise, Rate
from tests.chaos.record import Asked, Finding, History
from tests.chaos.slots import Attempt, Attempts, above, entries, holds

TURNS: Final = 3
"""How often another lane may be let in while one waits for its turn. Of lanes of equal weight it is two: the
turn that it had already, and one more at the same moment of virtual time. One more is left for times that are
whole ms."""


def check(history: History, attempts: Attempts) -> Iterator[Finding]:
    """Everything that is wrong with lanes."""
    for name, promise in PROMISES.items():
        if not promise.lanes:
            continue
        lanes = _lanes(history, name)
        whole = [task for tasks in lanes.values() for task in tasks]
        living = attempts.living(name)
        yield from _limit(name, promise.running, living, whole, attempts)
        yield from _rate(name, promise.rate, whole, attempts)
        if promise.fair:
            yield from _shares(history, name, lanes, attempts)
        for lane, tasks in lanes.items():
            mine = [attempt for attempt in living if attempt.start["lane"] == lane]
            yield from _limit(lane, promise.at_once, mine, tasks, attempts)
            yield from _rate(lane, promise.lane_rate, tasks, attempts)
            if promise.order:
                yield from _fences(lane, mine)
                yield from _overtaken(history, lane, tasks, mine, promise)


def _lanes(history: History, name: str) -> dict[str, list[str]]:
    """The tasks of a type by their lanes: as the handlers noted, or who asked for them."""
    found: dict[str, list[str]] = defaultdict(list)
    for task, events in history.by_id.items():
        if not task.startswith(f"{name}:"):
            continue
        lane = next((event["lane"] for event in events if "lane" in event), None)
        if lane is None and (key := history.accepted.get(task)) is not None:
            lane = history.asked[key].asked["lane"]
        if lane is not None:
            found[lane].append(task)
    return found


def _limit(
    name: str, limit: int | None, living: list[Attempt], tasks: list[str], attempts: Attempts
) -> Iterator[Finding]:
    if limit is None:
        return
    for held, by in ((holds(living), "handlers"), (entries(tasks, attempts.lives), "journals")):
        if together := above(held, limit):
            yield Finding(
                "above a limit", together[-1],
                f"{name} may have {limit} at once; by the {by} it had {len(together)}: {', '.join(together)}",
            )  # fmt: skip


def _rate(name: str, rate: Rate | None, tasks: Iterable[str], attempts: Attempts) -> Iterator[Finding]:
    """Each admission is an entry: the first of a task, or the first after a failed attempt. What is handed
    back or taken back keeps what it was given. The server's times are whole ms."""
    if rate is None:
        return
    arrival = 0.0
    for ms, task in _admissions(tasks, attempts):
        early = arrival - (rate.burst - 1) * rate.interval_ms - (ms + 1)
        if early > 0:
            yield Finding("above a rate", task, f"{name}: admitted {early:.1f} ms too early")
            return
        arrival = max(arrival, ms) + rate.interval_ms


def _admissions(tasks: Iterable[str], attempts: Attempts) -> list[tuple[int, str]]:
    """When each of the tasks was let in, in ms of the server, in order."""
    admitted: list[tuple[int, str]] = []
    for task in tasks:
        life = attempts.lives.get(task, [])
        admitted += [(entry.ready, task) for entry in life[:1]]
        admitted += [(entry.ready, task) for before, entry in pairwise(life) if entry.failed > before.failed]
    return sorted(admitted)


def _shares(
    history: History, name: str, lanes: dict[str, list[str]], attempts: Attempts
) -> Iterator[Finding]:
    """While a task of one lane waits, no other lane is let in again and again. Between two admissions of its
    own, a lane with a waiting task waits for its turn."""
    times = {lane: [ms for ms, _ in _admissions(tasks, attempts)] for lane, tasks in lanes.items()}
    for lane, tasks in lanes.items():
        for task in tasks:
            life, asked = attempts.lives.get(task, []), _asked(history, task)
            if not life or asked is None or asked.told != "accepted" or asked.answered is None:
                continue
            until, before = life[0].ready, bisect_left(times[lane], life[0].ready)
            since = max(int(asked.answered["wall"]), times[lane][before - 1] if before else 0)
            for other, theirs in times.items():
                often = bisect_left(theirs, until) - bisect_right(theirs, since)
                if other != lane and often > TURNS:
                    told = f"{lane} waited, and {other} was let in {often} times in {until - since} ms"
                    yield Finding("unfair share", task, f"{name}: {told}")
                    return


def _fences(lane: str, living: list[Attempt]) -> Iterator[Finding]:
    """A start from a later entry has a greater number, whoever's it is."""
    for before, after in pairwise(living):
        same = (before.id, before.start["place"]) == (after.id, after.start["place"])
        if before.start["fence"] >= after.start["fence"] + same or not after.start["fence"]:
            told = f"{before.start['fence']} of {before.id}, then {after.start['fence']}"
            yield Finding("fence fell", after.id, f"{lane}: {told}")


def _overtaken(
    history: History, lane: str, tasks: list[str], living: list[Attempt], promise: Promise
) -> Iterator[Finding]:
    """Nobody starts before all that was accepted ahead of it has ended: so none of that starts afterwards,
    nor is its dead letter there still, where that shuts the lane."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for attempt in living:
        first.setdefault(attempt.id, attempt.at)
        last[attempt.id] = attempt.at
    if promise.halt:
        for task in tasks:
            looked = [event["at"] for event in history.of_task(task, "requeue", "purge")]
            last[task] = max([last.get(task, 0), *looked])
    asked = {task: one for task in tasks if (one := _asked(history, task)) is not None}
    for task, at in first.items():
        for other, call in asked.items():
            if other == task or task not in asked or last.get(other, 0) <= at:
                continue
            if call.told == "accepted" and call.precedes(asked[task]):
                yield Finding(
                    "overtaken", other, f"{lane}: {task} was accepted later, and began before its end"
                )


def _asked(history: History, task: str) -> Asked | None:
    """The call that made a task: the one that was told so, or whose key it carries. Of a delayed one the
    time counts at which it was due, so it is left out."""
    key = history.accepted.get(task)
    if key is None:
        key = next((event["key"] for event in history.by_id[task] if "key" in event), None)
    asked = history.asked.get(key or "")
    return None if asked is None or "delay" in asked.asked else asked

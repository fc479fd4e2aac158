"""Who held a slot when: the attempts of handlers, each until it ended or its entry was gone. Pure.

A slot is a stream entry, and so is the right to run: an attempt whose entry was taken from it (a zombie)
holds nothing any more, however long it runs on. When an entry was gone, the servers' journals tell; where
there is none, the next start of the task from another entry does. Owns that reading. Knows no rule.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tests.chaos.history import Event
from tests.chaos.journal import Life
from tests.chaos.record import History

_MS: Final = 1_000_000
_WINDOW: Final = 10_000 * _MS
_UNSURE: Final = 1.5 * _MS
"""So much later than it is reckoned, an entry may be gone: the server's times, and ours, are whole ms."""
ENDS: Final = ("effect", "fail", "interrupted", "crash")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a handler. Times are ns of the machine's monotonic clock.

    ended: when it noted its end. gone: when its entry was gone, where that was before its end. Both are
    infinite where there is no such time.
    """

    start: Event
    ended: float
    gone: float

    @property
    def id(self) -> str:
        return str(self.start["id"])

    @property
    def at(self) -> int:
        return int(self.start["at"])

    @property
    def until(self) -> float:
        """Until when it held its entry and ran. One that died without a note holds until its entry goes."""
        return min(self.ended, self.gone)

    @property
    def fenced(self) -> bool:
        """Whether its entry was no longer its own when it began."""
        return self.gone <= self.at

    @property
    def zombie(self) -> bool:
        """Whether it ran on, or began, without its entry."""
        return self.gone < self.ended < math.inf


@dataclass(frozen=True, slots=True)
class Hold:
    """A task holds something for a time."""

    since: float
    until: float
    task: str


class Attempts:
    """All attempts, by task type, in the order of their starts."""

    def __init__(self, history: History, lives: Mapping[str, Life]) -> None:
        self.lives = lives
        self.by_type: dict[str, list[Attempt]] = defaultdict(list)
        clock = _Clock(event for events in history.by_id.values() for event in events)
        for task, events in history.by_id.items():
            self.by_type[task.partition(":")[0]] += _of_task(events, lives.get(task, []), clock)
        for attempts in self.by_type.values():
            attempts.sort(key=lambda attempt: attempt.at)

    def living(self, task_type: str) -> list[Attempt]:
        """The attempts of a type that had their entry when they began."""
        return [attempt for attempt in self.by_type.get(task_type, []) if not attempt.fenced]

    @property
    def zombies(self) -> int:
        return sum(attempt.zombie for attempts in self.by_type.values() for attempt in attempts)


class _Clock:
    """Which monotonic time a time of the server was. The two clocks are read one after the other for each
    event, so the closest readings of some seconds are right."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._apart: dict[int, int] = {}
        for event in events:
            apart, window = event["at"] - event["wall"] * _MS, event["at"] // _WINDOW
            self._apart[window] = min(apart, self._apart.get(window, apart))

    def monotonic(self, ms: int, near: Event) -> float:
        return ms * _MS + self._apart[near["at"] // _WINDOW]


def _of_task(events: list[Event], life: Life, clock: _Clock) -> Iterator[Attempt]:
    starts = [event for event in events if event["event"] == "start"]
    ends = {event["token"]: int(event["at"]) for event in reversed(events) if event["event"] in ENDS}
    for start in starts:
        ended, gone = ends.get(start["token"], math.inf), _gone(start, starts, life, clock)
        yield Attempt(start, ended, math.inf if ended <= gone + _UNSURE else gone)


def _gone(start: Event, starts: list[Event], life: Life, clock: _Clock) -> float:
    entry = next((entry for entry in life if entry.place == start["place"]), None)
    if entry is not None:
        return math.inf if entry.gone is None else clock.monotonic(entry.gone, start)
    later = [e["at"] for e in starts if e["at"] > start["at"] and e["place"] != start["place"]]
    return min(later, default=math.inf)


def holds(attempts: Iterable[Attempt]) -> list[Hold]:
    """What the attempts held, by the notes of their handlers."""
    return [Hold(one.at, one.until, one.id) for one in attempts if one.until > one.at]


def entries(tasks: Iterable[str], lives: Mapping[str, Life]) -> list[Hold]:
    """What the tasks held, by the servers' journals: each of their entries, in ms."""
    return [
        Hold(entry.ready, math.inf if entry.gone is None else entry.gone, task)
        for task in tasks
        for entry in lives.get(task, [])
    ]


def above(held: Iterable[Hold], limit: int) -> list[str] | None:
    """The tasks that hold at the first moment at which more than `limit` of them do. What ends with the
    moment in which another begins has ended."""
    ending: list[tuple[float, str]] = []
    holding: dict[str, int] = defaultdict(int)
    for hold in sorted(held, key=lambda hold: (hold.since, hold.until)):
        while ending and ending[0][0] <= hold.since:
            task = heapq.heappop(ending)[1]
            holding[task] -= 1
            if not holding[task]:
                del holding[task]
        holding[hold.task] += 1
        heapq.heappush(ending, (hold.until, hold.task))
        if len(holding) > limit:
            return sorted(holding)
    return None

"""How much time is left until tasks of a type should have started, by what its policy promises: `within`.

Owns the estimate, from the age of the last entry that a type had; Redis is not asked. Pure: takes the time as
an argument. Workers of an app without promises have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from streamq.calls.worker import FetchedByType, Source
from streamq.keys import TypeKeys


class Slack:
    """The slack of the types in one shard. within: seconds, of the types that promise something. fairness:
    seconds after which a type that promises nothing goes first once, so that none starves."""

    def __init__(self, within: Mapping[str, float], fairness: float, now: float) -> None:
        self._within, self._fairness, self._begun = within, fairness, now
        self._known: dict[str, tuple[float, float]] = {}
        """By type: the age of its oldest entry and when that was; 0 where it had none."""

    def left(self, task_type: str, now: float) -> float:
        """Return the seconds until the promise is broken, 0 where it is: types that are late take turns."""
        age, at = self._known.get(task_type, (0.0, self._begun))
        return max(0.0, self._within[task_type] - age - (now - at))

    def ordered(self, keys: Sequence[TypeKeys], now: float) -> list[TypeKeys]:
        """Return the types, the least slack first; those without a promise follow in their order."""
        promised = [one for one in keys if one.type in self._within]
        others = [one for one in keys if one.type not in self._within]
        starved = [one for one in others if now - self._fed(one.type) > self._fairness][:1]
        promised.sort(key=lambda one: self.left(one.type, now))
        return [*starved, *promised, *(one for one in others if one not in starved)]

    def limits(self, limits: Mapping[str, int], room: int, now: float) -> Mapping[str, int]:
        """Return how many tasks to take of each type: while one has used half of its time, those that promise
        nothing get a quarter of the room."""
        if not any(self.left(name, now) <= within / 2 for name, within in self._within.items()):
            return limits
        share = max(1, room // 4)
        return {name: limit if name in self._within else min(limit, share) for name, limit in limits.items()}

    def _fed(self, task_type: str) -> float:
        return self._known.get(task_type, (0.0, self._begun))[1]

    def fetched(self, asked: Sequence[Source], found: FetchedByType, room: int, now: float) -> None:
        """Note what a fetch tells: the age of what was taken, and which types have nothing."""
        now_ms, parts = found
        taken = sum(len(rows) for _, rows in parts)
        self._empty(asked, {source.stream for source, _ in parts}, taken < room, now)
        for source, rows in parts:
            since_ms = int(rows[0].entry.partition("-")[0])
            age = max(0.0, (now_ms - since_ms) / 1000) if now_ms else 0.0
            self._known[source.keys.type] = (age, now)

    def _empty(self, asked: Sequence[Source], found: Iterable[str], all_read: bool, now: float) -> None:
        """Note the types of which no stream had a task. all_read: none was left out for want of room."""
        had, read = set(found), len(asked)
        if not all_read:
            read = max((n for n, one in enumerate(asked) if one.stream in had), default=-1)
        full = {one.keys.type for one in asked if one.stream in had}
        unread = {one.keys.type for one in asked[read:]} if not all_read else set()
        for name in {one.keys.type for one in asked} - full - unread:
            self._known[name] = (0.0, now)

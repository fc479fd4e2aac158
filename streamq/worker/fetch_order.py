"""In which order a worker reads the streams of a shard, and how much of each.

Owns the promise between task types: within a priority the one that was served longest ago comes first, and
what there is room for is shared equally. Pure: knows no Redis, takes the time as an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from streamq.calls.worker import FetchedByType, Source
from streamq.keys import TypeKeys
from streamq.model.task import SUSPECT

SPARE: Final = 8
"""Streams of one priority that are named beyond as many as there is room for: some may be empty by then."""
RETURNED_AFTER: Final = 1.0
"""Seconds from one look for tasks that were handed back, while a suspect is in hand, to the next."""


class FetchOrder:
    """Of one shard in one worker process. `fairness`: seconds after which a lower priority has a turn."""

    def __init__(self, keys: Sequence[TypeKeys], fairness: float, now: float) -> None:
        self._fairness = fairness
        # Types that have nothing ready stay in front, where they are in nobody's way.
        self._keys: dict[str, TypeKeys] = {one.type: one for one in keys}
        self._last_turn = dict.fromkeys("nl", now)

    def served(self, taken: Iterable[tuple[str, int]]) -> None:
        """Types from which so many tasks were taken go to the end; who had most comes last."""
        counted: Counter[str] = Counter()
        for name, number in taken:
            counted[name] += number
        for name in sorted(counted, key=lambda name: counted[name]):
            self._keys[name] = self._keys.pop(name)

    def sources(self, room: int, limits: Mapping[str, int], now: float) -> tuple[list[Source], bool]:
        """The streams to read, at most `limits` of each type: returned tasks and suspects, a priority whose
        turn it is, then high to low. Answers also whether there is such a turn."""
        keys = [one for name, one in self._keys.items() if limits.get(name, 0) > 0]
        order = [Source(one, SUSPECT, limits[one.type]) for one in keys]
        patient = self._patient(now)
        if patient:
            share = max(1, room // 4)
            order += [Source(one, patient, min(share, limits[one.type])) for one in keys]
        order += [
            Source(one, letter, limits[one.type]) for letter in "hnl" if letter != patient for one in keys
        ]
        return order, patient is not None

    def ready_sources(
        self, listed: Iterable[tuple[TypeKeys, str]], room: int, limit_of: Callable[[str], int], now: float
    ) -> list[Source]:
        """The same of streams that are known to have tasks, in the order in which they are listed."""
        patient = self._patient(now)
        by_letter: dict[str, list[Source]] = {SUSPECT: [], **({patient: []} if patient else {})}
        by_letter |= {letter: [] for letter in "hnl" if letter != patient}
        for keys, letter in listed:
            limit = min(room, limit_of(keys.type))
            if limit > 0 and len(by_letter[letter]) < room + SPARE:
                share = max(1, room // 4) if letter == patient else room
                by_letter[letter].append(Source(keys, letter, min(limit, share)))
        return [source for sources in by_letter.values() for source in sources]

    def _patient(self, now: float) -> str | None:
        """The priority that has waited longest for a turn of its own, if that is too long."""
        letter = min(self._last_turn, key=lambda known: self._last_turn[known])
        if now - self._last_turn[letter] < self._fairness:
            return None
        self._last_turn[letter] = now
        return letter


class FetchPolicy:
    """What one fetcher reads next, of the types that are not paused and have room.

    room_for: the most to take of a type at once.
    """

    def __init__(
        self, keys: Sequence[TypeKeys], fairness: float, room_for: Callable[[str], int], now: float
    ) -> None:
        self._keys = keys
        self._order = FetchOrder(keys, fairness, now)
        self._room_for = room_for
        self._paused: frozenset[str] = frozenset()
        self._deep: tuple[TypeKeys, str] | None = None
        self._filled = 0
        self._next_returned = 0.0

    def is_paused(self, task_type: str) -> bool:
        return task_type in self._paused

    def pause(self, types: frozenset[str]) -> bool:
        """Leave these types alone from now on, and only these. Return whether that is another set."""
        if types == self._paused:
            return False
        self._paused, self._deep = types, None
        return True

    def limit(self, task_type: str) -> int:
        """The most to take of a type now; 0 if it is paused."""
        return 0 if task_type in self._paused else self._room_for(task_type)

    def sources(self, room: int, now: float) -> list[Source]:
        """The streams to read, in their order."""
        limits = {keys.type: min(room, self.limit(keys.type)) for keys in self._keys}
        sources, turn = self._order.sources(room, limits, now)
        if turn:
            self._deep = None
        return sources

    def ready_sources(
        self, listed: Sequence[tuple[TypeKeys, str]], room: int, now: float, *, suspects: bool
    ) -> list[Source]:
        """The same of streams that are known to have tasks. While a suspect is in hand, the streams of
        suspects are read now and then: what was handed back waits there too."""
        if suspects and now < self._next_returned:
            listed = [one for one in listed if one[1] != SUSPECT]
        else:
            self._next_returned = now + RETURNED_AFTER
        return self._order.ready_sources(listed, room, self.limit, now)

    def leaves_out(self, sources: Iterable[Source]) -> bool:
        """Whether a stream of a type that is not paused is not among these: it has no room now."""
        open_streams = sum(len(keys.streams) for keys in self._keys if keys.type not in self._paused)
        return len({source.stream for source in sources}) < open_streams

    def deep(self, sources: Sequence[Source]) -> tuple[Sequence[Source], Source] | None:
        """Return the stream that alone filled the last fetch, behind those that come before it, or None.

        At most twice what it filled is read: others may have as much by now, and get a part only.
        """
        for number, source in enumerate(sources):
            if source[:2] == self._deep:
                return sources[:number], source._replace(limit=min(source.limit, 2 * self._filled))
        return None

    def fetched(self, found: FetchedByType, room: int) -> None:
        """Learn from a fetch whether one stream alone filled it."""
        parts = found[1]
        filled = len(parts) == 1 and len(parts[0][1]) >= min(room, parts[0][0].limit)
        self._deep = parts[0][0][:2] if filled and parts[0][0].letter != SUSPECT else None
        self._filled = len(parts[0][1]) if filled else 0

    def served(self, found: FetchedByType) -> None:
        """Types from which tasks were taken go to the end of the order."""
        self._order.served((source.keys.type, len(entries)) for source, entries in found[1])

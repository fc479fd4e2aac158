"""In which order a worker reads the streams of a shard, and how much of each.

Owns the promise between task types: within a priority the one that was served longest ago comes first, and
what there is room for is shared equally. Pure: knows no Redis, takes the time as an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from streamq.calls import Source
from streamq.keys import TypeKeys
from streamq.model import SUSPECT

SPARE: Final = 8
"""Streams of one priority that are named beyond as many as there is room for: some may be empty by then."""


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

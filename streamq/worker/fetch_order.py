"""The order in which a worker reads the streams of a shard, and how many tasks it takes from each.

Owns the fairness between task types: within a priority, the type served longest ago comes first, and the room
is shared equally. Pure: must not use Redis, and takes the time as an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from streamq.calls.worker import FetchedByType, Source
from streamq.keys import TypeKeys
from streamq.model.task import SUSPECT
from streamq.worker.slack import Slack

SPARE: Final = 8
"""Streams of one priority to name beyond the room: some may be empty by the time they are read."""
RETURNED_INTERVAL: Final = 1.0
"""Seconds between two reads of the streams with handed-back tasks while a suspect is in flight."""


class FetchOrder:
    """The order of one shard in one worker process. `fairness`: seconds after which a lower priority has a
    turn."""

    def __init__(self, keys: Sequence[TypeKeys], fairness: float, now: float) -> None:
        self._fairness = fairness
        # Types without ready tasks stay in front, where they delay no other type.
        self._keys: dict[str, TypeKeys] = {one.type: one for one in keys}
        self._last_turn = dict.fromkeys("nl", now)

    def served(self, taken: Iterable[tuple[str, int]]) -> None:
        """Move the types from which tasks were taken to the end, the one with the most tasks last."""
        counted: Counter[str] = Counter()
        for name, number in taken:
            counted[name] += number
        for name in sorted(counted, key=lambda name: counted[name]):
            self._keys[name] = self._keys.pop(name)

    def sources(
        self, room: int, limits: Mapping[str, int], now: float, slack: Slack | None = None
    ) -> tuple[list[Source], bool]:
        """Return the streams to read, with at most `limits` tasks of each type: handed-back tasks and
        suspects, then a priority that has its turn, then high to low; and whether one has its turn."""
        keys = [one for name, one in self._keys.items() if limits.get(name, 0) > 0]
        if slack is not None:
            keys, limits = slack.ordered(keys, now), slack.limits(limits, room, now)
        order = [Source(one, SUSPECT, limits[one.type]) for one in keys]
        turn = self._next_turn(now)
        if turn:
            share = max(1, room // 4)
            order += [Source(one, turn, min(share, limits[one.type])) for one in keys]
        order += [Source(one, letter, limits[one.type]) for letter in "hnl" if letter != turn for one in keys]
        return order, turn is not None

    def ready_sources(
        self, listed: Iterable[tuple[TypeKeys, str]], room: int, limit_of: Callable[[str], int], now: float
    ) -> list[Source]:
        """Return the streams to read of those that are known to have tasks, in the listed order."""
        turn = self._next_turn(now)
        by_letter: dict[str, list[Source]] = {SUSPECT: [], **({turn: []} if turn else {})}
        by_letter |= {letter: [] for letter in "hnl" if letter != turn}
        for keys, letter in listed:
            limit = min(room, limit_of(keys.type))
            if limit > 0 and len(by_letter[letter]) < room + SPARE:
                share = max(1, room // 4) if letter == turn else room
                by_letter[letter].append(Source(keys, letter, min(limit, share)))
        return [source for sources in by_letter.values() for source in sources]

    def _next_turn(self, now: float) -> str | None:
        """Return the priority that has waited longest for its turn, if that exceeds `fairness`."""
        letter = min(self._last_turn, key=lambda known: self._last_turn[known])
        if now - self._last_turn[letter] < self._fairness:
            return None
        self._last_turn[letter] = now
        return letter


class FetchPolicy:
    """Decides what one fetcher reads next, among the types that are not paused and have room.

    room_for: returns the most tasks to take of a type at once. within: seconds, of the types that promise
    when their tasks start.
    """

    def __init__(
        self,
        keys: Sequence[TypeKeys],
        fairness: float,
        room_for: Callable[[str], int],
        now: float,
        within: Mapping[str, float] | None = None,
    ) -> None:
        self._slack = Slack(within, fairness, now) if within else None
        self._asked: Sequence[Source] = ()
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
        """Set the paused types. Return whether they have changed."""
        if types == self._paused:
            return False
        self._paused, self._deep = types, None
        return True

    def limit(self, task_type: str) -> int:
        """Return the most tasks to take of a type now; 0 if it is paused."""
        return 0 if task_type in self._paused else self._room_for(task_type)

    def sources(self, room: int, now: float) -> list[Source]:
        """Return the streams to read, in order."""
        limits = {keys.type: min(room, self.limit(keys.type)) for keys in self._keys}
        sources, turn = self._order.sources(room, limits, now, self._slack)
        if turn:
            self._deep = None
        self._asked = sources
        return sources

    def ready_sources(
        self, listed: Sequence[tuple[TypeKeys, str]], room: int, now: float, *, suspects: bool
    ) -> list[Source]:
        """Return the streams to read of those that are known to have tasks. While a suspect is in flight, the
        suspects' streams are read only periodically: handed-back tasks wait there too."""
        if suspects and now < self._next_returned:
            listed = [one for one in listed if one[1] != SUSPECT]
        else:
            self._next_returned = now + RETURNED_INTERVAL
        if self._slack is not None:
            listed = self._by_slack(self._slack, listed, now)
        self._asked = self._order.ready_sources(listed, room, self.limit, now)
        return list(self._asked)

    def _by_slack(
        self, slack: Slack, listed: Sequence[tuple[TypeKeys, str]], now: float
    ) -> list[tuple[TypeKeys, str]]:
        order = {one: n for n, one in enumerate(slack.ordered([*dict.fromkeys(k for k, _ in listed)], now))}
        return sorted(listed, key=lambda one: order[one[0]])

    def leaves_out(self, sources: Iterable[Source]) -> bool:
        """Return whether a stream of an unpaused type is missing from these, because its type has no room."""
        open_streams = sum(len(keys.streams) for keys in self._keys if keys.type not in self._paused)
        return len({source.stream for source in sources}) < open_streams

    def deep(self, sources: Sequence[Source]) -> tuple[Sequence[Source], Source] | None:
        """Return the streams before the one that alone filled the last fetch, and that stream; None if there
        is none.

        At most twice the last count is read from it: other streams may be as deep by now.
        """
        for number, source in enumerate(sources):
            if source[:2] == self._deep:
                return sources[:number], source._replace(limit=min(source.limit, 2 * self._filled))
        return None

    def fetched(self, found: FetchedByType, room: int, now: float) -> None:
        """Record whether one stream alone filled this fetch."""
        parts = found[1]
        filled = len(parts) == 1 and len(parts[0][1]) >= min(room, parts[0][0].limit)
        self._deep = parts[0][0][:2] if filled and parts[0][0].letter != SUSPECT else None
        self._filled = len(parts[0][1]) if filled else 0
        if self._slack is not None:
            self._deep = None  # the type that filled it may be no longer the one that comes first
        self.learn(found, room, now)

    def learn(self, found: FetchedByType, room: int, now: float) -> None:
        """Note how old the tasks of a fetch were, where types promise when theirs start."""
        if self._slack is not None:
            self._slack.fetched(self._asked, found, room, now)

    def served(self, found: FetchedByType) -> None:
        """Move the types from which tasks were taken to the end of the order."""
        self._order.served((source.keys.type, len(entries)) for source, entries in found[1])

"""What can be seen of an app while a master of its cluster is away.

Owns which shards can be reached now, and that nobody waits for the others with each look. Writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

from streamq.calls import question as question_calls
from streamq.control.inspector import Inspector
from streamq.errors import RedisUnavailable
from streamq.keys import shard_keys
from streamq.shards import MOST
from streamq.transport.sync_transport import SyncTransport

A = TypeVar("A")
DOUBTED: Final = 10.0
"""Seconds for which the shards are looked at one by one before each look, after one could not be reached."""
AT_ONCE: Final = 8


class PartialView:
    """Looks at an app, whole where it can be. `inspect` makes an inspector of it. Safe to share between
    threads."""

    def __init__(self, inspect: Callable[[], Inspector]) -> None:
        self._inspect = inspect
        self._doubted_until = float("-inf")
        self._known = 0

    def look(self, ask: Callable[[Inspector], A]) -> tuple[A, tuple[int, ...]]:
        """What `ask` finds, and the shards that are not in it. Raises RedisErrors; RedisUnavailable where
        nothing can be reached, or where there is but one master."""
        inspector = self._inspect()
        if time.monotonic() >= self._doubted_until:
            try:
                found = ask(inspector)
            except RedisUnavailable:
                if inspector.transport.address.kind != "cluster":
                    raise
            else:
                return found, ()
        there, missing = self._reachable(inspector)
        self._doubted_until = time.monotonic() + DOUBTED if missing else float("-inf")
        return ask(inspector.within(there)), missing

    def _reachable(self, inspector: Inspector) -> tuple[list[int], tuple[int, ...]]:
        """The shards that answer, and those that do not."""
        transport, app = inspector.transport, inspector.app
        number = self._number(inspector) or MOST
        with ThreadPoolExecutor(AT_ONCE) as pool:
            types = list(pool.map(lambda shard: _types(transport, app, shard), range(number)))
        if not self._known and number == MOST:
            number = _guessed(types)
        there = [n for n in range(number) if types[n] is not None]
        if not there:
            raise RedisUnavailable(f"no shard of app {app!r} can be reached at {transport.address}")
        return there, tuple(n for n in range(number) if types[n] is None)

    def _number(self, inspector: Inspector) -> int:
        """How many shards there are, or were when that could be asked; 0 where nobody could tell yet."""
        with suppress(RedisUnavailable):
            self._known = inspector.shards()
        return self._known


def _types(transport: SyncTransport, app: str, shard: int) -> list[str] | None:
    """The task types of a shard; None where it cannot be reached."""
    try:
        return transport.run(question_calls.types(shard_keys(app, shard)), patience=0)
    except RedisUnavailable:
        return None


def _guessed(types: Sequence[list[str] | None]) -> int:
    """How many shards there are, where nobody says so: types are known in each, so those up to the first that
    has none, and up to the last that has any."""
    last = max((n + 1 for n, found in enumerate(types) if found), default=0)
    return max(last, next((n for n, found in enumerate(types) if found == []), 0) if last else 0)


def unless_away(ask: Callable[[], A]) -> A | None:
    """An answer; None where whoever knows it is away."""
    try:
        return ask()
    except RedisUnavailable:
        return None

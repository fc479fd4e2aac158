"""Reads an app while a master of its cluster is unreachable.

Owns which shards are reachable now, so that not every read waits for the others. Must not write.
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
SUSPECT_FOR: Final = 10.0
"""Seconds after an unreachable shard for which each shard is probed before a read."""
AT_ONCE: Final = 8


class PartialView:
    """Reads an app, as far as it is reachable. inspect: creates an inspector. Safe to share between
    threads."""

    def __init__(self, inspect: Callable[[], Inspector]) -> None:
        self._inspect = inspect
        self._suspect_until = float("-inf")
        self._known = 0

    def look(self, ask: Callable[[Inspector], A]) -> tuple[A, tuple[int, ...]]:
        """Return the result of `ask`, and the shards that it does not include. Raises RedisErrors;
        RedisUnavailable if no shard is reachable, or there is only one master."""
        inspector = self._inspect()
        if time.monotonic() >= self._suspect_until:
            try:
                found = ask(inspector)
            except RedisUnavailable:
                if inspector.transport.address.kind != "cluster":
                    raise
            else:
                return found, ()
        reachable, missing = self._probe(inspector)
        self._suspect_until = time.monotonic() + SUSPECT_FOR if missing else float("-inf")
        return ask(inspector.within(reachable)), missing

    def _probe(self, inspector: Inspector) -> tuple[list[int], tuple[int, ...]]:
        """Return the shards that reply, and those that do not."""
        transport, app = inspector.transport, inspector.app
        number = self._number(inspector) or MOST
        with ThreadPoolExecutor(AT_ONCE) as pool:
            types = list(pool.map(lambda shard: _types(transport, app, shard), range(number)))
        if not self._known and number == MOST:
            number = _guessed(types)
        reachable = [n for n in range(number) if types[n] is not None]
        if not reachable:
            raise RedisUnavailable(f"no shard of app {app!r} is reachable at {transport.address}")
        return reachable, tuple(n for n in range(number) if types[n] is None)

    def _number(self, inspector: Inspector) -> int:
        """Return the number of shards, as last read; 0 if it was never read."""
        with suppress(RedisUnavailable):
            self._known = inspector.shards()
        return self._known


def _types(transport: SyncTransport, app: str, shard: int) -> list[str] | None:
    """Return the task types of a shard; None if it is unreachable."""
    try:
        return transport.run(question_calls.types(shard_keys(app, shard)), patience=0)
    except RedisUnavailable:
        return None


def _guessed(types: Sequence[list[str] | None]) -> int:
    """Return the number of shards if it cannot be read. Each shard has types: so at least up to the last one
    with types, and up to the first without."""
    last = max((n + 1 for n, found in enumerate(types) if found), default=0)
    return max(last, next((n for n, found in enumerate(types) if found == []), 0) if last else 0)


def unless_unreachable(ask: Callable[[], A]) -> A | None:
    """Return an answer; None if the server for it is unreachable."""
    try:
        return ask()
    except RedisUnavailable:
        return None

"""Adds up what attempts took, where somebody asks for metrics.

Owns the step between runner and settler that does so. It is on the way of every task, so it only notes when
the task ended; the adding up is done for a batch at once, which costs a fraction of doing it one by one.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Final

from streamq.model import OUTCOMES, PRIORITIES, STREAM_LETTERS, Outcome
from streamq.telemetry.sums import Sums
from streamq.worker.holdings import Held

BATCH: Final = 256
"""Attempts that are added up at once; those of a quiet worker are at the next beat of its loop."""
_PRIORITY: Final = dict(zip(STREAM_LETTERS, (*PRIORITIES, "suspect"), strict=True))
Ended = tuple[Held, Outcome, float]


class _Series:
    """What is kept of one task type."""

    def __init__(self, sums: Sums, app: str, task_type: str) -> None:
        self.outcomes = {
            kind: sums.cell("streamq_task_attempts_total", app, task_type, name)
            for kind, name in OUTCOMES.items()
        }
        sums.cell("streamq_leases_lost_total", app, task_type)
        self.duration = sums.histogram("streamq_task_duration_seconds", app, task_type)
        self.lateness = sums.histogram("streamq_task_lateness_seconds", app, task_type)
        self.wait = {
            letter: sums.histogram("streamq_task_wait_seconds", app, task_type, name)
            for letter, name in _PRIORITY.items()
        }

    def add(self, ended: list[Ended], ahead: dict[int, float]) -> None:
        """`ahead`: what the clock of each shard's server is ahead of the monotonic one, in seconds."""
        for kind, number in Counter([outcome.__class__ for _, outcome, _ in ended]).items():
            self.outcomes[kind].value += number
        ran = [(held.started, held.delivery, at) for held, _, at in ended if held.started is not None]
        self.duration.observe_all([at - started for started, _, at in ran])
        # The place names the moment at which the task became ready, the id of a delayed task its due time.
        moments = _Moments()
        waits: defaultdict[str, list[float]] = defaultdict(list)
        late: list[float] = []
        for started, delivery, _ in ran:
            place, local = delivery[2], delivery[3]
            at_server = started + ahead[delivery[1]]
            ready = place.partition("-")[0]
            waits[ready[0]].append(at_server - moments[ready])
            if local is not place and local[0] == "d" and delivery.attempt == 1:
                late.append(at_server - moments[local.partition("-")[0]])
        for letter, listed in waits.items():
            self.wait[letter].observe_all(listed)
        self.lateness.observe_all(late)


class _Moments(dict[str, float]):
    """A letter and ms since the epoch, as seconds. Tasks of one batch share most of them."""

    def __missing__(self, stamp: str) -> float:
        found = self[stamp] = int(stamp[1:]) * 0.001
        return found


class _Ahead(dict[int, float]):
    """What the clock of each shard's server is ahead of the monotonic one; asked once a batch."""

    def __init__(self, server_ms: Callable[[float, int], int]) -> None:
        super().__init__()
        self._server_ms = server_ms

    def __missing__(self, shard: int) -> float:
        found = self[shard] = self._server_ms(0.0, shard) / 1000
        return found


class Meter:
    """Passes outcomes on to `put`, and notes them. Lives in the worker's event loop.

    `server_ms`: a time of the monotonic clock and a shard -> the clock of its server.
    """

    def __init__(
        self,
        sums: Sums,
        app: str,
        types: list[str],
        put: Callable[[Held, Outcome], None],
        server_ms: Callable[[float, int], int],
    ) -> None:
        self._series = {name: _Series(sums, app, name) for name in types}
        self._put = put
        self._server_ms = server_ms
        self._ended: list[Ended] = []

    def finished(self, held: Held, outcome: Outcome) -> None:
        """An attempt has ended: note it, and pass it on."""
        self._put(held, outcome)
        ended = self._ended
        ended.append((held, outcome, time.monotonic()))
        if len(ended) >= BATCH:
            self.fold()

    def fold(self) -> None:
        """Add up what has been noted."""
        ended, self._ended = self._ended, []
        if not ended:
            return
        by_type: dict[str, list[Ended]] = {}
        for one in ended:
            by_type.setdefault(one[0].delivery[0], []).append(one)
        ahead = _Ahead(self._server_ms)
        for task_type, listed in by_type.items():
            self._series[task_type].add(listed, ahead)

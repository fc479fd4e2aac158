"""How many workers a task type needs: from its arrivals, how long its tasks run, and what waits.

Owns the arithmetic, and what is read for it. Parked, scheduled and suspended tasks count for nothing: no
worker could run them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from streamq.calls import question as question_calls
from streamq.calls import rollup as rollup_calls
from streamq.calls.rollup import MINUTE_MS
from streamq.flow import Flow, ask
from streamq.heartbeat import WorkerInfo
from streamq.histogram import mean
from streamq.keys import TypeKeys
from streamq.options.service import WorkerOptions
from streamq.stored import count

TARGET: Final = 60.0
"""Seconds within which a task of a type that promises nothing (`within`) is to start."""
_MINUTES: Final = 3
"""Minutes that arrivals and durations are taken from, the present one included."""
_SLOTS: Final = WorkerOptions().concurrency


class Pace(NamedTuple):
    """The pace of a task type. arrivals: tasks a second; run: seconds in the handler, on average; target:
    within how many seconds a task is to start."""

    arrivals: float
    run: float
    target: float


def pace(keys: Iterable[TypeKeys]) -> Flow[Pace]:
    """Read the pace of a type in all its shards."""
    accepted, run, target, seconds = 0, Counter[int](), TARGET, 1.0
    for t in keys:
        now = yield from ask(question_calls.now(t.policy))
        last = now // MINUTE_MS
        seconds = (_MINUTES - 1) * MINUTE_MS / 1000 + now % MINUTE_MS / 1000
        rows = yield from ask(rollup_calls.rollups([t.minute(last - n) for n in range(_MINUTES)]))
        for row in rows:
            accepted += row.get("accepted", 0)
            for name, value in row.items():
                kind, _, number = name.partition(":")
                if kind == "run":
                    run[count(number)] += max(0, value)
        policy = yield from ask(question_calls.policy(t))
        target = count(policy.get("within_ms")) / 1000 or target
    return Pace(accepted / seconds, mean(run), target)


def load(found: Pace, ready: int, running: int, slots: int, *, paused: bool) -> float:
    """Return how many workers with so many slots a type needs, as a fraction: enough for what arrives and to
    start what is ready in time, and no fewer than what runs now keeps busy."""
    flowing = 0.0 if paused else found.run * (found.arrivals + ready / found.target)
    return max(flowing, running) / max(1, slots)


def desired(load: float, ready: int, running: int) -> int:
    """Return how many workers that is; never 0 while something is ready or runs."""
    return max(math.ceil(load - 1e-9), int(ready + running > 0))


def slots_each(workers: Iterable[WorkerInfo], task_type: str) -> int:
    """Return how many slots a living worker that serves a type has, on average; the default where there is
    none."""
    found = [
        one.details["concurrency"]
        for one in workers
        if one.alive and task_type in one.details.get("types", ()) and one.details.get("concurrency")
    ]
    return round(sum(found) / len(found)) if found else _SLOTS

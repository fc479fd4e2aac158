"""The activity of the last hour or day, from the rollups in Redis: rates and percentiles of a task type.

Owns the slices of time. Must not write, nor read a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from streamq.calls import question as question_calls
from streamq.calls import rollup as rollup_calls
from streamq.calls.call import R
from streamq.calls.rollup import MINUTE_MS, QUARTER_MS
from streamq.control.unreadable import Unreadable
from streamq.flow import Flow, ask, in_turn
from streamq.histogram import Latency
from streamq.keys import TypeKeys, type_keys
from streamq.stored import count

Span = Literal["hour", "day"]
_STEPS: Final[dict[Span, tuple[int, int]]] = {"hour": (MINUTE_MS, 60), "day": (QUARTER_MS, 96)}
_LAST: Final = 400
"""The highest bucket: a duration of more than a million years."""


@dataclass(frozen=True, slots=True)
class Rollup:
    """A slice of time that began at `start_ms`. counts: by the names of `streamq.COUNTERS`, 0 if there was no
    such event; `backlog` and `letters`: how many tasks were waiting, scheduled or running, and dead, at its
    end. wait, run: histograms of the seconds from ready to started, and in the handler."""

    start_ms: int
    seconds: int
    counts: dict[str, int] = field(default_factory=dict)
    wait: dict[int, int] = field(default_factory=dict)
    run: dict[int, int] = field(default_factory=dict)

    @property
    def sampled(self) -> bool:
        """Whether a daemon counted in it: otherwise what happened is unknown, which is not nothing."""
        return bool(self.counts)


@dataclass(frozen=True, slots=True)
class Activity:
    """The sums of recent slices. Rates are tasks a second over the slices that a daemon counted in; None if
    there is none. success: the share of completed tasks among all that ended for good; None if none ended."""

    rate_in: float | None
    rate_out: float | None
    success: float | None
    wait: Latency
    run: Latency


def activity(rollups: Sequence[Rollup]) -> Activity:
    """Return the sums of these slices."""
    seconds = sum(rollup.seconds for rollup in rollups if rollup.sampled)
    counts = added(rollup.counts for rollup in rollups)
    done, dead = counts.get("completed", 0), counts.get("dead", 0)
    return Activity(
        rate_in=counts.get("accepted", 0) / seconds if seconds else None,
        rate_out=done / seconds if seconds else None,
        success=done / (done + dead) if done + dead else None,
        wait=Latency.of(added(rollup.wait for rollup in rollups)),
        run=Latency.of(added(rollup.run for rollup in rollups)),
    )


def added(several: Iterable[Mapping[R, int]]) -> dict[R, int]:
    """Return the sum of mappings to numbers."""
    total: dict[R, int] = {}
    for one in several:
        for name, value in one.items():
            total[name] = total.get(name, 0) + value
    return total


def read(
    app: str,
    shards: Iterable[int],
    task_type: str,
    span: Span,
    unreadable: Unreadable,
    *,
    since_ms: int = 0,
    now_ms: int | None = None,
) -> Flow[list[Rollup]]:
    """Return the last 60 minutes, or 96 quarters of an hour, oldest first; the last one is not over, and its
    `seconds` are those that have passed. since_ms: without those that began before. now_ms: the server's
    clock, if it is known; reads with the same value have the same slices."""
    step, number = _STEPS[span]
    now_ms = (yield from ask(question_calls.now())) if now_ms is None else now_ms
    last = now_ms // step
    slices = range(max(last - number + 1, -(-since_ms // step)), last + 1)
    keys = [type_keys(app, shard, task_type) for shard in shards]
    per_shard = yield from in_turn(_of_shard(one, slices, span, unreadable) for one in keys)
    return [
        _rollup(at * step, min(step, now_ms - at * step) // 1000, added(row[n] for row in per_shard))
        for n, at in enumerate(slices)
    ]


def _of_shard(
    keys: TypeKeys, slices: range, span: Span, unreadable: Unreadable
) -> Flow[list[dict[str, int]]]:
    name = keys.minute if span == "hour" else keys.quarter
    names = [name(at) for at in slices]
    found = yield from unreadable.ask(rollup_calls.rollups(names), list)
    if not found:  # one that cannot be read must not hide the others
        for one in names:
            found += yield from unreadable.ask(rollup_calls.rollups([one]), _no_fields)
    return found


def _no_fields() -> list[dict[str, int]]:
    return [{}]


def _rollup(start_ms: int, seconds: int, fields: Mapping[str, int]) -> Rollup:
    counts = Counter[str]()  # returns 0 for missing names
    histograms: dict[str, dict[int, int]] = {"wait": {}, "run": {}}
    for name, value in fields.items():
        kind, _, number = name.partition(":")
        if kind in histograms:
            histograms[kind][min(count(number), _LAST)] = max(0, value)
        else:
            counts[name] = max(0, value)
    return Rollup(start_ms, max(1, seconds), counts, histograms["wait"], histograms["run"])

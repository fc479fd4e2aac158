"""Rollups: what happened in a minute or a quarter of an hour, written in bounded hashes that expire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from streamq.calls.call import Arg, Call, build, number, pairs, text
from streamq.keys import TypeKeys

MINUTE_MS: Final = 60_000
QUARTER_MS: Final = 900_000
MINUTE_LIFE_MS: Final = 130 * MINUTE_MS
QUARTER_LIFE_MS: Final = 50 * 3_600_000
SAMPLED: Final = (
    "accepted",
    "started",
    "completed",
    "retried",
    "dead",
    "cancelled",
    "expired",
    "reclaimed",
    "requeued",
)


def tally(t: TypeKeys, now_ms: int, counts: Mapping[str, int]) -> Call[int]:
    """Add to the rollups of the current minute and quarter of an hour."""
    keys = (t.minute(now_ms // MINUTE_MS), t.quarter(now_ms // QUARTER_MS))
    args: list[Arg] = [MINUTE_LIFE_MS, QUARTER_LIFE_MS]
    for name, value in counts.items():
        args += (name, value)
    return build("tally", keys, args, int)


def sample(types: Sequence[TypeKeys], now_ms: int) -> Call[list[int]]:
    """Note what the counters of types of one shard have grown by; answers the ms since the last time."""
    keys = [key for t in types for key in _sampled(t, now_ms)]
    return build("sample", keys, (MINUTE_LIFE_MS, QUARTER_LIFE_MS, *SAMPLED), list)


def _sampled(t: TypeKeys, now_ms: int) -> tuple[str, ...]:
    rollups = (t.minute(now_ms // MINUTE_MS), t.quarter(now_ms // QUARTER_MS))
    return (t.counters, t.sampled, t.schedule, t.dead, *t.streams, *rollups)


def rollups(keys: Sequence[str]) -> Call[list[dict[str, int]]]:
    """Read rollups, in their order."""
    return build("rollups", keys, (), lambda r: [_numbers(row) for row in r])


def _numbers(flat: list[Any]) -> dict[str, int]:
    return {text(name): number(value) for name, value in pairs(flat)}

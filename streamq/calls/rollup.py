"""Build the calls of rollups: counts per minute and per quarter of an hour, in bounded hashes that expire.

Owns how long rollups live and which counters they hold. Reads no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from streamq.calls.call import Arg, Call, Reply, build, number, pairs, text
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
    args: list[Arg] = [MINUTE_LIFE_MS, QUARTER_LIFE_MS]
    for name, value in counts.items():
        args += (name, value)
    return build("tally", args, int, rollups=tuple(_rollups(t, now_ms).values()))


def sample(types: Sequence[TypeKeys], now_ms: int, new_gap_ms: int = -1) -> Call[list[int]]:
    """Add the growth of the counters of types of one shard. Returns the ms since the last sample.

    new_gap_ms: how long ago the round before was, after which types without a sample began; -1 if unknown.
    """
    each = [(t, _rollups(t, now_ms)) for t in types]
    return build("sample", (MINUTE_LIFE_MS, QUARTER_LIFE_MS, new_gap_ms, *SAMPLED), list, each=each)


def _rollups(t: TypeKeys, now_ms: int) -> dict[str, str]:
    return {"minute": t.minute(now_ms // MINUTE_MS), "quarter": t.quarter(now_ms // QUARTER_MS)}


def rollups(keys: Sequence[str]) -> Call[list[dict[str, int]]]:
    """Read rollups, in the order of their keys."""
    return build("rollups", (), lambda r: [_numbers(row) for row in r], rollups=keys)


def _numbers(flat: list[Reply]) -> dict[str, int]:
    return {text(name): number(value) for name, value in pairs(flat)}

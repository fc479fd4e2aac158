"""Build the calls that look after blobs: which may go, which are known.

Owns how the sorted set of blobs is read; the scripts that end tasks write it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streamq.calls.call import Call, text
from streamq.keys import ShardKeys

LIVES: Final = 9_000_000_000_000_000
"""The time of the blob of a task that lives: see `lua/lib/blob_enter.lua`."""


def due(s: ShardKeys, until_ms: int, limit: int) -> Call[list[str]]:
    """Read the names of blobs that may be removed since before this time, longest first."""
    args = ("ZRANGE", s.blobs, "-inf", until_ms, "BYSCORE", "LIMIT", 0, limit)
    return Call(None, (s.blobs,), args, lambda reply: [text(name) for name in reply])


def removed(s: ShardKeys, names: Sequence[str]) -> Call[int]:
    """Forget blobs that are not in the store any more."""
    return Call(None, (s.blobs,), ("ZREM", s.blobs, *names), int)


def known(s: ShardKeys, names: Sequence[str]) -> Call[list[bool]]:
    """Return for each of these names whether the shard has a task or a result with this blob."""
    return Call(
        None, (s.blobs,), ("ZMSCORE", s.blobs, *names), lambda reply: [one is not None for one in reply]
    )


def count(s: ShardKeys, from_ms: int | str, until_ms: int | str) -> Call[int]:
    """Count the blobs that may be removed from one time on until another."""
    return Call(None, (s.blobs,), ("ZCOUNT", s.blobs, from_ms, until_ms), int)


def living(s: ShardKeys, first: int, limit: int) -> Call[list[str]]:
    """Read the names of blobs of living tasks, from a position on."""
    args = ("ZRANGE", s.blobs, LIVES, "+inf", "BYSCORE", "LIMIT", first, limit)
    return Call(None, (s.blobs,), args, lambda reply: [text(name) for name in reply])

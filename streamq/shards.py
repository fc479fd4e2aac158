"""The number of shards of an app, and the shard of a key.

Owns the app record as stored in the hash of apps, and the hash that spreads keys. Does no I/O, reads no
clock. See `lua/announce.lua` for how the record's numbers rise and fall.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import orjson

MOST: Final = 256
"""Shards of an app at most: each worker process holds one connection per shard."""

_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class AppRecord:
    """The server's record of an app.

    shards: the number of shards of the program that announced itself last. known: the number of shards that
    may still hold tasks, and are served; at least `shards`. epoch: grows whenever a producer needs a shard
    that was closed. past: former numbers of shards, with the time (ms) until which each was current.
    """

    shards: int = 1
    known: int = 1
    epoch: int = 0
    past: dict[int, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: bytes | None) -> AppRecord:
        """Read a record; a damaged or missing one counts as one shard."""
        try:
            found = orjson.loads(raw or b"")
            shards = _number(found["shards"])
            known = max(shards, _number(found.get("known", shards)))
            past = {_number(int(n)): int(until) for n, until in dict(found.get("past", {})).items()}
            return cls(shards, known, int(found.get("epoch", 0)), past)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return cls()

    def homes(self, key: str, since_ms: float) -> tuple[int, list[int]]:
        """Return the shard of a key, and the other shards that it belonged to after `since_ms`."""
        home = shard_of(key, self.shards)
        before = {shard_of(key, n) for n, until in self.past.items() if until >= since_ms}
        return home, sorted(before - {home})


def _number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST:
        return value
    raise ValueError(value)


def shard_of(key: str, shards: int) -> int:
    """Return the shard of a key, the same in every process; from n to n+1 shards, one key in n+1 moves."""
    if shards == 1:
        return 0
    from hashlib import blake2b  # noqa: PLC0415 - an app with one shard asks for no digest

    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return _jump(int.from_bytes(digest, "big"), shards)


def _jump(key: int, buckets: int) -> int:
    """Return the bucket of a key: jump consistent hash (Lamping and Veach, 2014,
    https://arxiv.org/abs/1406.2294)."""
    bucket, following = -1, 0
    while following < buckets:
        bucket = following
        key = (key * 2862933555777941757 + 1) & _MASK
        following = int((bucket + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return bucket

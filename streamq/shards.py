"""Over how many shards an app is spread, and which of them a key belongs to.

Owns the app record as it is kept in the hash of apps, and the hash that spreads keys. Pure: no I/O, no
clock. Who raises and lowers the record's numbers is told in `lua/announce.lua`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import orjson

MOST: Final = 256
"""Shards of an app at most: each worker process holds a connection for each."""

_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class AppRecord:
    """What the server knows of an app.

    shards: how many the program that announced itself last spreads its tasks over. known: how many may
    still hold something, and are served; never fewer. epoch: grows whenever a producer asks for a shard
    that was given up. past: numbers of shards that were current once, with the moment (ms) until which.
    """

    shards: int = 1
    known: int = 1
    epoch: int = 0
    past: dict[int, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: bytes | None) -> AppRecord:
        """Read a record; what is damaged or missing counts as one shard."""
        try:
            found: Any = orjson.loads(raw or b"")
            shards = _number(found["shards"])
            known = max(shards, _number(found.get("known", shards)))
            past = {_number(int(n)): int(until) for n, until in dict(found.get("past", {})).items()}
            return cls(shards, known, int(found.get("epoch", 0)), past)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return cls()

    def homes(self, key: str, since_ms: float) -> tuple[int, list[int]]:
        """The shard of a key, and the others that were its shard after `since_ms`."""
        home = shard_of(key, self.shards)
        before = {shard_of(key, n) for n, until in self.past.items() if until >= since_ms}
        return home, sorted(before - {home})


def _number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST:
        return value
    raise ValueError(value)


def shard_of(key: str, shards: int) -> int:
    """The shard of a key: the same in every process; from n to n+1 shards, one key in n+1 moves."""
    if shards == 1:
        return 0
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return _jump(int.from_bytes(digest, "big"), shards)


def _jump(key: int, buckets: int) -> int:
    """Jump consistent hash (Lamping and Veach, 2014, https://arxiv.org/abs/1406.2294)."""
    bucket, following = -1, 0
    while following < buckets:
        bucket = following
        key = (key * 2862933555777941757 + 1) & _MASK
        following = int((bucket + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return bucket

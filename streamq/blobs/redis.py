"""Blobs in a Redis or Valkey server: another one than the queue's, so that large values do not fill that.

Owns two keys a blob's app: the blobs themselves, and a sorted set of their names by the server's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from streamq.calls.call import AnyCall, Call
from streamq.payloads.blob_store import ListedBlob
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport

_PATIENCE: Final = 5.0
_PUT: Final = """
redis.call('SET', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], redis.call('TIME')[1] .. ' ' .. #ARGV[2])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return 1
"""
_DELETE: Final = """
for n = 1, #ARGV do
  redis.call('UNLINK', KEYS[n + 2])
  redis.call('HDEL', KEYS[1], ARGV[n])
  redis.call('ZREM', KEYS[2], ARGV[n])
end
return 1
"""
_LIST: Final = """
local names = redis.call('ZRANGE', KEYS[2], '(' .. ARGV[2], '+', 'BYLEX', 'LIMIT', 0, ARGV[3])
local found = {redis.call('TIME')[1]}
for n, name in ipairs(names) do
  if string.sub(name, 1, #ARGV[1]) ~= ARGV[1] then break end
  found[#found + 1] = name
  found[#found + 1] = redis.call('HGET', KEYS[1], name) or ''
end
return found
"""
_TAG: Final = "{streamq-blobs}"
_BOOKS: Final = (f"{_TAG}:about", f"{_TAG}:names")


class RedisBlobs:
    """Blobs in a server. url: as that of an app. Give it a server of its own, with `maxmemory-policy
    noeviction`: what is evicted is lost."""

    def __init__(self, url: str) -> None:
        self._address = Address.parse(url, "code")
        self._transport = SyncTransport(self._address, patience=_PATIENCE)

    def __repr__(self) -> str:
        return f"RedisBlobs({str(self._address)!r})"

    def put(self, name: str, data: bytes) -> None:
        """Store a blob."""
        self._eval(_PUT, (_key(name), *_BOOKS), (name, data))

    def get(self, name: str) -> bytes:
        """Return a blob. Raises KeyError if there is none."""
        key = _key(name)
        found: bytes | None = self._transport.run(Call(None, (key,), ("GET", key), lambda reply: reply))
        if found is None:
            raise KeyError(name)
        return found

    def delete(self, names: Sequence[str]) -> None:
        """Delete blobs."""
        for n in range(0, len(names), 1000):
            part = names[n : n + 1000]
            self._eval(_DELETE, (*_BOOKS, *map(_key, part)), part)

    def list(self, prefix: str, after: str, limit: int) -> list[ListedBlob]:
        """Return blobs in the order of their names."""
        begins = max(after, prefix[:-1]) if prefix else after
        now, *rows = self._eval(_LIST, _BOOKS, (prefix, begins, limit))
        found = []
        for name, about in zip(rows[::2], rows[1::2], strict=True):
            stored, _, size = about.decode().partition(" ")
            age = int(now) - int(stored) if stored.isdigit() else 0
            found.append(ListedBlob(name.decode(), int(size) if size.isdigit() else 0, age))
        return found

    def _eval(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        call: AnyCall = Call(
            None, tuple(keys), ("EVAL", script, len(keys), *keys, *args), lambda reply: reply
        )
        return self._transport.run(call)


def _key(name: str) -> str:
    return f"{_TAG}:blob:{name}"

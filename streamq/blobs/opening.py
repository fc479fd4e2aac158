"""Opens the blob store that a URL names: file:///path, redis://…, s3://bucket/prefix.

Owns that syntax. Opening connects to nothing.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from streamq import environment
from streamq.errors import InvalidOption
from streamq.payloads.blob_store import MOST, OVER, Blobs, BlobStore

_HOW: Final = (
    "write file:///an/absolute/path, redis://host:6379/1 or s3://bucket/prefix, with ?over=BYTES for another "
    "size than 262144"
)
_REDIS: Final = ("redis", "rediss", "valkey", "valkeys", "unix", "redis+sentinel", "redis+cluster")


def blobs_from(given: Blobs | BlobStore | str | None) -> Blobs:
    """Return the blobs of a store, of a URL, or of STREAMQ_BLOBS. Raises InvalidOption, and UsageError
    without the extra that it needs."""
    if isinstance(given, Blobs):
        return given
    if given is None:
        given = environment.BLOBS.get()
    if not isinstance(given, str):
        return Blobs(given)
    return _opened(given)


def _opened(url: str) -> Blobs:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    over, most = _number(query, "over", OVER), _number(query, "most", MOST)
    if query.keys() - {"over", "most"} and parts.scheme not in _REDIS:
        raise InvalidOption(f"blobs={url!r:.200}: {_HOW}")
    return Blobs(_store(url), over, max(over, most))


def _store(url: str) -> BlobStore:
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.strip("/"):
        from streamq.blobs.files import FileBlobs  # noqa: PLC0415 - a program has one kind of store

        return FileBlobs(unquote(parts.path))
    if parts.scheme == "s3" and parts.netloc:
        from streamq.blobs.s3 import S3Blobs  # noqa: PLC0415

        return S3Blobs(parts.netloc, parts.path)
    if parts.scheme in _REDIS:
        from streamq.blobs.redis import RedisBlobs  # noqa: PLC0415

        return RedisBlobs(_without_sizes(url))
    raise InvalidOption(f"blobs={parts.scheme + '://…' if parts.scheme else url!r:.80}: {_HOW}")


def _without_sizes(url: str) -> str:
    head, _, query = url.partition("?")
    kept = [one for one in query.split("&") if one and one.partition("=")[0] not in ("over", "most")]
    return head + (f"?{'&'.join(kept)}" if kept else "")


def _number(query: dict[str, list[str]], name: str, default: int) -> int:
    values = query.get(name)
    if values is None:
        return default
    if len(values) > 1 or not values[0].isdecimal():
        raise InvalidOption(f"blobs: {name}={values[0]!r:.80}: must be a number of bytes")
    return int(values[0])

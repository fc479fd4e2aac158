"""Blobs as the rest of streamq meets them: a store outside of the queue, carried by the app's name, and
mostly absent.

Owns the interface of stores, the settings of an app, and the errors. Must stay light: every producer loads
it, while stores are in `streamq.blobs`. Knows no store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, runtime_checkable

from streamq.errors import DecodeError, InvalidOption

OVER: Final = 256 * 1024
"""Bytes above which a payload or a result goes to the store, by default."""
LEAST: Final = 1024
MOST: Final = 64 * 1024 * 1024
"""Bytes that one blob may have, by default. Each process that handles it has it in memory several times."""


class ListedBlob(NamedTuple):
    """A blob in a store. age: seconds since it was stored, by the clock of the store."""

    name: str
    size: int
    age: float


@runtime_checkable
class BlobStore(Protocol):
    """Stores bytes by name. Called from several threads at once. Whatever it raises says that the store
    cannot be reached, but for `KeyError` in `get`: there is no such blob.

    A name is 1 to 400 of a-z, A-Z, 0-9, _ - . % and /, which parts it: app, task type, and a random part.
    """

    def put(self, name: str, data: bytes) -> None:
        """Store a blob, whole or not at all; one of the same name is replaced."""
        ...

    def get(self, name: str) -> bytes:
        """Return a blob. Raises KeyError if there is none."""
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Delete blobs. One that is not there is no error."""
        ...

    def list(self, prefix: str, after: str, limit: int) -> list[ListedBlob]:
        """Return the blobs whose names begin with `prefix` and are greater than `after`, in the order of
        their names, at most `limit`."""
        ...


@dataclass(frozen=True, slots=True)
class Blobs:
    """Where an app keeps large arguments and results, and from which size on. Give all of its programs the
    same.

    store: a `FileBlobs`, `RedisBlobs`, `S3Blobs`, or your own `BlobStore`. over: bytes, as they are stored,
    above which a payload or a result goes to the store. most: bytes that one may have.
    Raises InvalidOption.
    """

    store: BlobStore
    over: int = OVER
    most: int = MOST

    def __post_init__(self) -> None:
        if not isinstance(self.store, BlobStore):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption(
                f"Blobs: {self.store!r:.120} is not a store: it needs put, get, delete and list"
            )
        for name, value in (("over", self.over), ("most", self.most)):
            if not isinstance(value, int) or isinstance(value, bool) or value < LEAST:  # type: ignore[redundant-expr]  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidOption(f"Blobs: {name}={value!r:.80}: must be a number of bytes from {LEAST} on")
        if self.over > self.most:
            raise InvalidOption(f"Blobs: over={self.over} is more than most={self.most}")


def blobs_of(app: str) -> Blobs | None:
    """Return the blobs that an app's name carries; None if it has none."""
    found: Blobs | None = getattr(app, "blobs", None)
    return found


class NoBlobs(DecodeError):
    """Stored bytes are in a blob, and this process has no store, or cannot reach it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="blob")


class BlobLost(DecodeError):
    """Stored bytes are in a blob that is not in the store any more, or is damaged."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="blob")

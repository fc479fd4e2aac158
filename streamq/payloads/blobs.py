"""Puts large stored texts into the app's blob store, and reads them back.

Owns the reference that stands in the place of such a text, and the names of blobs. The text is compressed
and sealed before, so the store sees what Redis would. A blob is written before the task that names it, and
removed after that has ended: see `lua/lib/blob_claim.lua`. Does I/O: in an event loop, call it in a thread.

    0x1f  blob  0x1f  length of the rest: 4 bytes  name, bytes, digest, key, with spaces between

The digest, 16 bytes in hex, is of the text; of a sealed one `-`, as its seal says more. key: the id of the
key that it is sealed with, or `-`.
"""

from __future__ import annotations

import os
import re
import time
from typing import Final, NamedTuple

from streamq.errors import BlobStoreError, DecodeError, PayloadError
from streamq.payloads.blob_store import BlobLost, Blobs, NoBlobs, blobs_of

_BODY: Final = re.compile(
    rb"([A-Za-z0-9%_.@-]{1,300}(?:/[A-Za-z0-9%_.@-]{1,400}){2}) (\d{1,12}) (-|[0-9a-f]{32}) "
    rb"([A-Za-z0-9._-]{1,64})"
)


class Reference(NamedTuple):
    """What stands in the place of a text. key: '' if the text is not sealed; digest: '' if it is."""

    name: str
    size: int
    digest: str
    key: str

    def __str__(self) -> str:
        return f"blob {self.name} ({self.size:,} bytes)"


def folder(app: str, prefix: str) -> str:
    """Return the start of the names of an app's blobs. prefix: that of its keys."""
    from urllib.parse import quote  # noqa: PLC0415 - few programs have blobs

    found = quote(f"{prefix}{app}", safe="")
    return f"%{ord(found[0]):02X}{found[1:]}/" if found[0] in "._-" else f"{found}/"


def new_name(app: str, prefix: str, task_type: str) -> str:
    """Return the name of a new blob: no other has it."""
    return f"{folder(app, prefix)}{folder(task_type, '')}{int(time.time()):x}-{os.urandom(16).hex()}"


def put(blobs: Blobs, name: str, stored: bytes, key: str, what: str) -> bytes:
    """Store a text and return its reference. Raises PayloadError if it is too large, BlobStoreError."""
    if len(stored) > blobs.most:
        raise PayloadError(
            f"{what}: {len(stored):,} bytes are over the {blobs.most:,} that a blob may have: pass a "
            "reference to your own storage, or raise `most` of Blobs"
        )
    try:
        blobs.store.put(name, stored)
    except Exception as error:
        raise BlobStoreError(
            f"{what}: its {len(stored):,} bytes could not be stored in {blobs.store!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return written(Reference(name, len(stored), "" if key else _digest(stored), key))


def written(found: Reference) -> bytes:
    """Return a reference as it is stored."""
    body = f"{found.name} {found.size} {found.digest or '-'} {found.key or '-'}".encode()
    return b"\x1f%b\x1f%b%b" % (b"blob", len(body).to_bytes(4, "little"), body)


def parsed(body: bytes) -> Reference:
    """Return the reference that stands behind the head of a stored text. Raises ValueError."""
    match = _BODY.fullmatch(body)
    if match is None:
        raise ValueError("it is no reference to a blob")
    name, size, digest, key = (part.decode() for part in match.groups())
    return Reference(name, int(size), digest.strip("-"), "" if key == "-" else key)


def fetch(app: str, found: Reference) -> bytes:
    """Return the text of a reference. Raises BlobLost, and NoBlobs where there is no store."""
    blobs = blobs_of(app)
    if blobs is None:
        raise NoBlobs(f"it is in {found}, and this program has no blob store: StreamQ(..., blobs=...)")
    try:
        stored = blobs.store.get(found.name)
    except KeyError:
        raise BlobLost(f"its {found} is not in {blobs.store!r}") from None
    except DecodeError:
        raise
    except Exception as error:
        raise NoBlobs(
            f"it is in {found}, and {blobs.store!r} cannot be reached: {type(error).__name__}: {error}"
        ) from error
    if len(stored) > blobs.most or (found.digest and _digest(stored) != found.digest):
        raise BlobLost(f"its {found} in {blobs.store!r} has been changed or cut")
    return stored


def _digest(stored: bytes) -> str:
    from hashlib import blake2b  # noqa: PLC0415 - few programs have blobs

    return blake2b(stored, digest_size=16).hexdigest()

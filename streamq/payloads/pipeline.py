"""Stages between the JSON of a payload and its stored form: each seals bytes, and opens what it has sealed.

Owns the sealed format, which names its stages, so that payloads, results and failures can be opened without
other knowledge than keys. Without a stage the JSON is stored as it is, and this module is not called.

    0x1f  marks, in the order of sealing, with commas  0x1f  length of the rest: 4 bytes, little-endian  rest

The same head with the mark `v3` stands before the JSON of a result or memo that code of version 3 stored;
without it, the version is 1. JSON never contains the first byte. A process finds a stage by its mark
(`KNOWN`), whichever process sealed with it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from streamq.errors import DecodeError
from streamq.payloads.compression import Compression, Zlib, Zstd, check
from streamq.payloads.sealing import MARK, Sealing, key_id
from streamq.payloads.stage import About, Stage, UnknownEncoding

if TYPE_CHECKING:
    from streamq.payloads.blobs import Reference

SEALED: Final = b"\x1f"
"""The first byte of sealed bytes."""
BLOB: Final = "blob"
"""The mark of a reference to a blob."""
BLOB_HEAD: Final = b"\x1fblob\x1f"
"""Starts what is in a blob."""
_VERSION: Final = re.compile(rb"\x1fv([1-9][0-9]{0,8})\x1f")
_HEAD: Final = re.compile(
    rb"\x1f([a-z0-9_.-]{1,30}(?:,[a-z0-9_.-]{1,30}){0,7})\x1f([\x00-\xff]{4})", re.DOTALL
)
KNOWN: Final[dict[str, Stage]] = {stage.mark: stage for stage in (Zlib(), Zstd(), Sealing())}
"""The stages that this process can open, by their marks."""


class Pipeline:
    """The stages that an app's programs apply to all they store, one after the other."""

    def __init__(self, *stages: Stage) -> None:
        self._stages = stages

    def seal(self, raw: bytes, about: About) -> bytes:
        """Return the bytes to store: as they are, if no stage does anything to them."""
        marks: list[str] = []
        for stage in self._stages:
            sealed = stage.seal(raw, about)
            if sealed is not None:
                raw = sealed
                marks.append(stage.mark)
        if not marks:
            return raw
        return b"%b%b%b%b%b" % (SEALED, ",".join(marks).encode(), SEALED, len(raw).to_bytes(4, "little"), raw)


def pipeline_for(compression: Compression | None, *, sealed: bool) -> Pipeline | None:
    """Return the stages of an app: compression first, as sealed bytes do not become smaller.
    Raises InvalidOption and UsageError."""
    if compression is not None:
        check(compression)
    stages = [*([] if compression is None else [KNOWN[compression]]), *([KNOWN[MARK]] if sealed else [])]
    return Pipeline(*stages) if stages else None


class _Sealed(NamedTuple):
    marks: list[str]
    begins: int
    ends: int


def _sealed(stored: bytes) -> _Sealed | None:
    """Return the head of sealed bytes; None if nothing was sealed."""
    head = _HEAD.match(stored) if stored[:1] == SEALED else None
    if head is None:
        return None
    return _Sealed(head[1].decode().split(","), head.end(), head.end() + int.from_bytes(head[2], "little"))


def sealed_length(stored: bytes) -> int:
    """Return how many bytes are sealed at the beginning, head included; 0 if nothing was sealed."""
    found = _sealed(stored)
    return 0 if found is None else found.ends


def pipeline_of(stored: bytes) -> Pipeline | None:
    """Return the stages that stored bytes went through, for their replacement; None if there are none. Raises
    UnknownEncoding."""
    found = _sealed(stored)
    if found is not None and _VERSION.match(stored):
        return None
    return None if found is None else Pipeline(*(_stage(mark) for mark in found.marks))


def blob_of(stored: bytes) -> Reference | None:
    """Return the reference to the blob that stored bytes are in; None if they are in none. Raises
    DecodeError if the reference is damaged."""
    found = _sealed(stored)
    if found is None or found.marks != [BLOB]:
        return None
    from streamq.payloads.blobs import parsed  # noqa: PLC0415 - few programs have blobs

    try:
        return parsed(stored[found.begins : found.ends])
    except ValueError as error:
        raise DecodeError(str(error), reason="encoding") from None


def fetched(stored: bytes, app: str) -> bytes:
    """Return stored bytes as they are without a blob, which is read. Raises BlobLost, NoBlobs and
    DecodeError."""
    reference = blob_of(stored)
    if reference is None:
        return stored
    from streamq.payloads.blobs import fetch  # noqa: PLC0415 - as above

    whole = fetch(app, reference)
    if blob_of(whole) is not None:
        raise DecodeError("its blob is a reference to another blob", reason="encoding")
    return whole


def key_of(stored: bytes) -> str:
    """Return the id of the key that stored bytes are sealed with; '' if they are not."""
    found = _sealed(stored)
    if found is not None and found.marks == [BLOB]:
        return _key_of_blob(stored)
    return key_id(stored[found.begins :]) if found is not None and found.marks[-1] == MARK else ""


def _key_of_blob(stored: bytes) -> str:
    try:
        reference = blob_of(stored)
    except DecodeError:
        return ""
    return "" if reference is None else reference.key


def versioned(raw: bytes, version: int) -> bytes:
    """Return the JSON of a result or memo with the version of the code that stores it."""
    if version == 1 or not raw:
        return raw
    return b"\x1fv%d\x1f%b%b" % (version, len(raw).to_bytes(4, "little"), raw)


class Versioned(NamedTuple):
    """The JSON of stored bytes, and the version of the code that stored them."""

    raw: bytes
    version: int


def opened_version(stored: bytes, about: About | None = None) -> Versioned:
    """Return what `opened` does, with its version."""
    raw = _without_stages(stored, about)
    found = _VERSION.match(raw) if raw[:1] == SEALED else None
    if found is None:
        return Versioned(raw, 1)
    head = _sealed(raw)
    if head is None or len(raw) < head.ends:
        raise DecodeError("it is cut behind its version", reason="encoding")
    return Versioned(raw[head.begins : head.ends], int(found[1]))


def opened(stored: bytes, about: About | None = None) -> bytes:
    """Return the JSON of stored bytes. Raises UnknownEncoding, NoKey, and DecodeError if they are damaged or
    cut. about: what they must be; None for one who may not look behind a seal."""
    return stored if stored[:1] != SEALED else opened_version(stored, about).raw


def _without_stages(stored: bytes, about: About | None) -> bytes:
    """Return stored bytes as they were before the stages of the app."""
    if stored[:1] != SEALED or _VERSION.match(stored):
        return stored
    found = _sealed(stored)
    if found is None:
        return stored
    if found.marks == [BLOB]:
        return _opened_blob(stored, about)
    raw, stages = stored[found.begins : found.ends], [_stage(mark) for mark in found.marks]
    if len(stored) < found.ends:
        raise DecodeError(
            f"it is encoded ({', '.join(found.marks)}) and cut, as what is too long to be decoded here: "
            f"{len(stored):,} of {found.ends:,} bytes",
            reason="encoding",
        )
    for stage in reversed(stages):
        try:
            raw = stage.open(raw, about)
        except DecodeError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a stage raises: stored bytes are input
            raise DecodeError(f"it cannot be decoded ({stage.mark}): {error}", reason="encoding") from None
    return raw


def _opened_blob(stored: bytes, about: About | None) -> bytes:
    """Return the JSON of bytes that are in a blob, which only who says what they must be may read."""
    if about is None:
        from streamq.payloads.blob_store import NoBlobs  # noqa: PLC0415 - as above

        raise NoBlobs(f"it is in {blob_of(stored)}")
    return _without_stages(fetched(stored, about.app), about)


def _stage(mark: str) -> Stage:
    try:
        return KNOWN[mark]
    except KeyError:
        raise UnknownEncoding(
            f"it has an encoding that this release does not know: mark {mark!r}", mark
        ) from None

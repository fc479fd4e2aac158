"""Reads stored payloads and results for people: as JSON data, as text, and for editing.

Owns the texts for bytes that cannot be read: these are never shown raw. Must not raise, except for editing.
"""

from __future__ import annotations

from typing import Final

import orjson

from streamq.depth import TOO_DEEP, deeper, too_deep
from streamq.errors import DecodeError, PayloadError
from streamq.payloads.blob_store import blobs_of
from streamq.payloads.blobs import put
from streamq.payloads.pipeline import BLOB_HEAD, blob_of, fetched, key_of, opened, pipeline_of
from streamq.payloads.stage import About

MOST: Final = 4000
"""Characters of a text for people, by default."""


def decode_error(stored: bytes | None) -> str:
    """Return why stored bytes cannot be read; '' if they can."""
    try:
        opened(stored or b"")
    except DecodeError as error:
        return str(error)
    return ""


def readable(stored: bytes | None, about: About | None = None) -> bytes | None:
    """Return the JSON of stored bytes; the bytes themselves if they cannot be read or are in a blob. about:
    what they must be, for one who may look behind a seal."""
    if stored is None or stored[: len(BLOB_HEAD)] == BLOB_HEAD:
        return stored
    try:
        return opened(stored, about)
    except DecodeError:
        return stored


def data(stored: bytes) -> object:
    """Return stored bytes as JSON data; as text if they are not JSON, or too deep to be shown."""
    if error := decode_error(stored):
        return error
    raw = readable(stored) or b""
    try:
        if not too_deep(raw):
            decoded: object = orjson.loads(raw)
            return decoded
    except ValueError:
        pass
    return raw.decode("utf-8", "backslashreplace")


def shown(stored: bytes | None, limit: int = MOST) -> str:
    """Return stored bytes as text for people, cut if it is long; `-` for None."""
    if stored is None:
        return "-"
    if error := decode_error(stored):
        return error
    raw = readable(stored) or b""
    text = raw[:limit].decode("utf-8", "backslashreplace")
    return text + (f"… ({len(raw):,} bytes)" if len(raw) > limit else "")


def pretty(stored: bytes) -> bytes:
    """Return a payload as text to edit. Raises PayloadError if it cannot be read."""
    if reason := decode_error(stored):
        raise PayloadError(f"the payload cannot be edited: {reason}")
    raw = readable(stored) or b""
    try:
        value: object = orjson.loads(raw)
    except ValueError:
        return raw
    return raw if deeper(value) else orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n"


def in_place_of(before: bytes | None, payload: bytes, about: About) -> bytes:
    """Return a payload sealed by the stages of the payload that it replaces. Raises PayloadError if that
    cannot be read here."""
    try:
        whole = fetched(before or b"", about.app)
        opened(whole, about)  # who cannot read it must not replace it
        pipeline = pipeline_of(whole)
    except DecodeError as error:
        raise PayloadError(f"the payload cannot be edited: {error}") from None
    return payload if pipeline is None else pipeline.seal(payload, about)


def sealed_anew(before: bytes, about: About) -> bytes:
    """Return a payload sealed with the current key of the ring; as it is, if it is not sealed. One in a blob
    is replaced in the store, where it may be read under the same name meanwhile. Raises DecodeError,
    PayloadError and BlobStoreError."""
    if not key_of(before):
        return before
    sealed = in_place_of(before, opened(before, about), about)
    reference, store = blob_of(before), blobs_of(about.app)
    if reference is None or store is None:
        return sealed
    return put(store, reference.name, sealed, key_of(sealed), "the payload")


def check_edited(payload: bytes) -> None:
    """Raise PayloadError unless this is valid as a task's payload."""
    try:
        given = orjson.loads(payload)
    except ValueError as error:
        raise PayloadError(f"the payload is not JSON: {error}") from None
    if too_deep(payload):
        raise PayloadError(f"the payload is invalid: {TOO_DEEP}")
    if not isinstance(given, dict):
        raise PayloadError("the payload must be a JSON object of the arguments by name")

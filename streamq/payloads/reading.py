"""What readers make of a stored payload or result: JSON data or text for people, and what may be edited.

Owns the words for what cannot be read: it is never shown as the bytes it is. Never raises but where something
is to be edited.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from streamq.depth import TOO_DEEP, deeper, too_deep
from streamq.errors import DecodeError, PayloadError
from streamq.payloads.pipeline import opened, pipeline_of

MOST: Final = 4000
"""Characters of a text for people, unless more are asked for."""


def fault(stored: bytes | None) -> str:
    """Return why something cannot be read; '' if it can."""
    try:
        opened(stored or b"")
    except DecodeError as error:
        return str(error)
    return ""


def readable(stored: bytes | None) -> bytes | None:
    """Return the JSON of what is stored; what is stored if it cannot be read."""
    if stored is None:
        return None
    try:
        return opened(stored)
    except DecodeError:
        return stored


def data(stored: bytes) -> Any:
    """Return what is stored as JSON data; as text if it is no JSON, or too deep to be shown."""
    if said := fault(stored):
        return said
    raw = readable(stored) or b""
    try:
        if not too_deep(raw):
            return orjson.loads(raw)
    except ValueError:
        pass
    return raw.decode("utf-8", "backslashreplace")


def shown(stored: bytes | None, limit: int = MOST) -> str:
    """Return what is stored as text for people, cut if it is long; `-` for nothing."""
    if stored is None:
        return "-"
    if said := fault(stored):
        return said
    raw = readable(stored) or b""
    text = raw[:limit].decode("utf-8", "backslashreplace")
    return text + (f"… ({len(raw):,} bytes)" if len(raw) > limit else "")


def pretty(stored: bytes) -> bytes:
    """Return a payload as somebody may edit it. Raises PayloadError if it cannot be read."""
    if said := fault(stored):
        raise PayloadError(f"the payload cannot be edited: {said}")
    raw = readable(stored) or b""
    try:
        value: Any = orjson.loads(raw)
    except ValueError:
        return raw
    return raw if deeper(value) else orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n"


def in_place_of(before: bytes | None, payload: bytes) -> bytes:
    """Return a payload put through the stages that the one before went through. Raises PayloadError if these
    are not known."""
    try:
        pipeline = pipeline_of(before or b"")
    except DecodeError as error:
        raise PayloadError(f"the payload cannot be edited: {error}") from None
    return payload if pipeline is None else pipeline.seal(payload)


def check_edited(payload: bytes) -> None:
    """Raise PayloadError unless this can be a task's payload."""
    try:
        given = orjson.loads(payload)
    except ValueError as error:
        raise PayloadError(f"the payload is not JSON: {error}") from None
    if too_deep(payload):
        raise PayloadError(f"the payload: {TOO_DEEP}")
    if not isinstance(given, dict):
        raise PayloadError("the payload must be a JSON object of the arguments by name")

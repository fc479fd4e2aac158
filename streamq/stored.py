"""Reads stored numbers, times and objects, whatever bytes they are: damaged ones read as the default.

Owns the syntax of a number that streamq writes; any other text was written by another program. Must not
raise, nor know keys or calls.
"""

from __future__ import annotations

import math
from typing import Final

import orjson

from streamq.depth import too_deep

_LONGEST: Final = 24
"""Characters of a number at most: Redis's integers have 20."""
_LATEST_MS: Final = 10**15
"""The first time that is invalid, in the year 33,658."""


def text(raw: bytes) -> str:
    """Return stored text. Bytes that are not UTF-8 were not written by streamq, and are escaped."""
    return raw.decode("utf-8", "backslashreplace")


def number(raw: object, default: int = 0) -> int:
    """Return an integer of Redis; the default if it is not one."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw if abs(raw) < 1 << 63 else default
    if not isinstance(raw, bytes | str) or len(raw) > _LONGEST or not raw.isascii() or b"_" in _bytes(raw):
        return default
    try:
        found = int(raw)
    except ValueError:
        return default
    return found if abs(found) < 1 << 63 else default


def count(raw: object, default: int = 0) -> int:
    """Return an integer of at least 0; the default if it is not one."""
    found = number(raw, default)
    return found if found >= 0 else default


def moment(raw: object) -> int:
    """Return a time in ms, which may be written like a score; 0, which is long ago, if it is not one."""
    return round(found) if 0 <= (found := real(raw)) < _LATEST_MS else 0


def real(raw: object, default: float = 0.0) -> float:
    """Return a finite number; the default if it is not one."""
    if isinstance(raw, bool) or not isinstance(raw, bytes | str | int | float):
        return default
    if isinstance(raw, bytes | str) and len(raw) > _LONGEST + 8:
        return default
    try:
        found = float(raw)
    except (ValueError, OverflowError):
        return default
    return found if math.isfinite(found) else default


def mapping(raw: bytes | str) -> dict[str, object]:
    """Return a JSON object; an empty one if it is not one, or nested too deep to be shown."""
    try:
        found = orjson.loads(raw)
    except ValueError:
        return {}
    shallow = isinstance(found, dict) and not too_deep(raw if isinstance(raw, bytes) else raw.encode())
    return found if shallow else {}


def _bytes(raw: bytes | str) -> bytes:
    return raw if isinstance(raw, bytes) else raw.encode()

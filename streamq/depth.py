"""The nesting limit of JSON, the same for all that is sent, stored by hand or shown.

Owns the limit. It leaves room for lists and pages that wrap a payload: orjson reads 1,023 levels and writes
254. Does no I/O.
"""

from __future__ import annotations

from typing import Final

import orjson

DEEPEST: Final = 200
TOO_DEEP: Final = f"it is nested deeper than {DEEPEST} levels, or contains itself: pass a flat value"


def too_deep(raw: bytes) -> bool:
    """Return whether JSON text is nested deeper than the limit. Decodes it only if it could be."""
    if raw.count(b"[") + raw.count(b"{") <= DEEPEST:
        return False
    try:
        return deeper(orjson.loads(raw))
    except ValueError:
        return False


def deeper(data: object) -> bool:
    """Return whether decoded JSON is nested deeper than the limit. Checks level by level, without
    recursion."""
    level = [data]
    for _ in range(DEEPEST):
        level = [
            item
            for part in level
            if isinstance(part, list | dict)
            for item in (part.values() if isinstance(part, dict) else part)
            if isinstance(item, list | dict)
        ]
        if not level:
            return False
    return True

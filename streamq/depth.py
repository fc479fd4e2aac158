"""How deep JSON may be nested: one limit for all that is sent, stored by hand or shown.

Owns the limit. It leaves room for what wraps a payload in lists and pages: orjson reads 1,023 levels and
writes 254.
"""

from __future__ import annotations

from typing import Final

import orjson

DEEPEST: Final = 200
TOO_DEEP: Final = f"it is nested deeper than {DEEPEST} levels, or contains itself: pass a flat value"


def too_deep(raw: bytes) -> bool:
    """Whether JSON text is nested deeper than the limit. Reads it only where it could be."""
    if raw.count(b"[") + raw.count(b"{") <= DEEPEST:
        return False
    try:
        return deeper(orjson.loads(raw))
    except ValueError:
        return False


def deeper(data: object) -> bool:
    """Whether decoded JSON is nested deeper than the limit. Level by level: no recursion of its own."""
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

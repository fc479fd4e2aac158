"""Shortens lists of names in messages: a thousand task types must not fill a screen.

Owns the number of names that are shown. Must not know what is listed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MOST: Final = 12


def shortened(names: Iterable[str], most: int = MOST) -> list[str]:
    """Return the first names in order, and the number of others."""
    known = sorted(names)
    more = len(known) - most
    return [*known[:most], f"and {more:,} more"] if more > 1 else known


def listed(names: Iterable[str], most: int = MOST) -> str:
    """Return the same as text, separated by commas; 'none' if there are none."""
    return ", ".join(shortened(names, most)).replace(", and ", " and ") or "none"

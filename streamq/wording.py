"""Lists of names in messages: a thousand task types must not fill a screen.

Owns how a list is shortened. Knows nothing of what is listed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MOST: Final = 12


def listed(names: Iterable[str], most: int = MOST) -> str:
    """Return names sorted and separated by commas: the first few and how many more; 'none' for none."""
    known = sorted(names)
    more = len(known) - most
    shown = ", ".join(known[:most] if more > 1 else known)
    return f"{shown} and {more:,} more" if more > 1 else shown or "none"

"""What a settlement does besides ending its delivery, as values.

Owns their names. A delivery with an effect is settled by the rich script; how an effect is written on the
wire is in `calls.effect`. A new one is a class here, a member of Effect, a line there and one in
`effects.lua`.
"""

from __future__ import annotations

from typing import NamedTuple


class Hold(NamedTuple):
    """Nobody of the task's lane starts for so many ms, the task neither."""

    ms: int


Effect = Hold
"""Any of them."""

"""How far the end of a worker has come.

Owns that state, which the process, its shutdown and its operators share.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass
class StopState:
    """Asked once is drain, twice is now. drained: an operator asked for it. worn_out: handlers that do not
    end have taken so many slots that the process should be replaced."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    now: asyncio.Event = field(default_factory=asyncio.Event)
    drained: bool = False
    worn_out: bool = False

    def ask(self) -> None:
        """End when what is in hand is done; called again: end now."""
        (self.now if self.asked.is_set() else self.asked).set()

"""The stop state of a worker.

Owns that state, which the worker, its shutdown and its control share.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass
class StopState:
    """The first request drains, the second one stops immediately. drained: an operator requested it.
    recycle: set when a supervisor should replace the process. worn_out: stuck handlers occupy so many slots
    that the process should be replaced."""

    requested: asyncio.Event = field(default_factory=asyncio.Event)
    immediate: asyncio.Event = field(default_factory=asyncio.Event)
    recycle: asyncio.Event = field(default_factory=asyncio.Event)
    drained: bool = False
    worn_out: bool = False

    def request(self) -> None:
        """Request a drain; if one was requested before, an immediate stop."""
        (self.immediate if self.requested.is_set() else self.requested).set()

"""How long a call may take, and how often it is tried again while the server is away.

Owns the clock of one call, the same for sync and async ones: every wait of the call, from the connection to
the last try, ends at its deadline. Sends nothing.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from redis import exceptions as lib

from streamq.transport import wire

LEAST: Final = 0.5
"""Seconds that a call may take even where less was asked for: a server that is well has time to answer."""
FIRST_SHARE: Final = 0.6
"""Of what is left of the time, the part that one try may take: a connection that died in silence leaves
time for another."""
OUT_OF_TIME: Final = "the time for the call was over before it was sent"
STEP: Final = 8
"""Parts of a second to which a wait is rounded up, so that a socket's timeout need not be set each time."""


@lru_cache(maxsize=64)
def _spans(patience: float, reply: float) -> tuple[float, float]:
    """Seconds for the whole call, and for its first try."""
    if patience <= 0:
        return reply, reply
    whole = max(LEAST, patience)
    return whole, max(LEAST, FIRST_SHARE * whole)


class Effort:
    """One call's time, and whether it was sent. True where one of its tries may have been carried out."""

    __slots__ = ("deadline", "end", "sent", "share", "until")

    def __init__(self, patience: float = 0.0, reply: float = wire.COMMAND_TIMEOUT) -> None:
        now = time.monotonic()
        whole, self.share = _spans(patience, reply)
        self.sent = 0
        self.until = now + patience  # no try begins after that
        self.deadline = now + whole
        self.end = now + self.share

    def __bool__(self) -> bool:
        return self.sent > 0

    def begin(self) -> None:
        """Begin another try: from now on `left` is about this one."""
        now = time.monotonic()
        left = self.deadline - now
        self.share = max(FIRST_SHARE * left, min(left, LEAST))
        self.end = now + self.share

    def reply(self, most: float, *, waits: bool, fresh: bool) -> float:
        """Seconds that the answer to a call may take. `waits`: the server answers when a time of its own is
        over, which may be all of ours. `fresh`: the try has just begun."""
        if waits:
            return self.left(most, whole=True) + LEAST
        if fresh and self.share > LEAST:
            return min(most, self.share)
        return self.left(most)

    def left(self, most: float = math.inf, *, whole: bool = False) -> float:
        """Seconds that a wait may take; `whole`: of the call, not of the try. Raises the client library's
        TimeoutError where the time is up."""
        left = (self.deadline if whole else self.end) - time.monotonic()
        if left <= 0:
            raise lib.TimeoutError(OUT_OF_TIME)
        return min(most, math.ceil(left * STEP) / STEP)

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before each further try, at random and growing, until the patience is used up."""
        longest = 0.05
        while (left := self.until - time.monotonic()) > 0:
            yield min(random.uniform(0, longest), max(0.02, left / 2))
            longest = min(1.0, 2 * longest)

"""How long a call may take, and how often it is tried again while the server is unreachable.

Owns the clock of one call, the same for sync and async ones: every wait of the call, from the connection to
the last try, ends at its deadline. Must not send anything.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from typing import Final

from redis import exceptions as lib

from streamq.transport import wire

LEAST: Final = 0.5
"""Seconds that a call may take even if its patience is shorter: a healthy server has time to reply."""
FIRST_SHARE: Final = 0.6
"""The share of the remaining time that one try may take: after a connection that died silently there is time
for another try."""
OUT_OF_TIME: Final = "the time for the call was over before it was sent"
STEP: Final = 8
"""A wait is rounded up to 1/8 s, so that a socket's timeout need not be set for each call."""


class Budget:
    """The time of one call, and whether it was sent. True if one of its tries may have been executed.

    began: when it was created (monotonic). first: seconds that the reply may take if the call is sent at
    once; 0 if that has to be worked out. sent: tries without a reply.
    """

    __slots__ = ("began", "deadline", "end", "first", "sent", "until")

    def __init__(self, patience: float = 0.0, reply: float = wire.COMMAND_TIMEOUT) -> None:
        # Created for each call, so without the functions `min` and `max`.
        now = time.monotonic()
        self.began: float = now
        if patience <= 0:
            whole = share = reply
        else:
            whole = patience if patience > LEAST else LEAST  # noqa: FURB136
            share = FIRST_SHARE * whole
            share = share if share > LEAST else LEAST  # noqa: FURB136
        self.sent: int = 0
        self.until: float = now + patience  # no try begins after that
        self.deadline: float = now + whole
        self.end: float = now + share
        self.first: float = reply if reply < share else share  # noqa: FURB136

    def __bool__(self) -> bool:
        return self.sent > 0

    def begin_try(self) -> None:
        """Begin another try: from now on `left` means this one."""
        now = time.monotonic()
        left = self.deadline - now
        self.end = now + max(FIRST_SHARE * left, min(left, LEAST))
        self.first = 0.0

    def reply_timeout(self, most: float, *, waits: bool) -> float:
        """Return how many seconds the reply may take. waits: the server replies after a wait of its own,
        which may take all of the call's time."""
        return self.left(most, whole=True) + LEAST if waits else self.left(most)

    def left(self, most: float = math.inf, *, whole: bool = False) -> float:
        """Return how many seconds a wait may take. whole: within the call, not the try. Raises the client
        library's TimeoutError if the time is over."""
        left = (self.deadline if whole else self.end) - time.monotonic()
        if left <= 0:
            raise lib.TimeoutError(OUT_OF_TIME)
        return min(most, math.ceil(left * STEP) / STEP)

    def pauses(self) -> Iterator[float]:
        """Yield the seconds to wait before each further try, random and growing, until the patience is
        over."""
        longest = 0.05
        while (left := self.until - time.monotonic()) > 0:
            yield min(random.uniform(0, longest), max(0.02, left / 2))
            longest = min(1.0, 2 * longest)

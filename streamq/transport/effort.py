"""How long a call may take, and how often it is tried again while the server is away.

Owns the clock of one call, the same for sync and async ones: every wait of the call, from the connection to
the last try, ends at its deadline. Sends nothing.
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
"""Seconds that a call may take even where less was asked for: a server that is well has time to answer."""
FIRST_SHARE: Final = 0.6
"""Of what is left of the time, the part that one try may take: a connection that died in silence leaves
time for another."""
OUT_OF_TIME: Final = "the time for the call was over before it was sent"
STEP: Final = 8
"""Parts of a second to which a wait is rounded up, so that a socket's timeout need not be set each time."""


class Effort:
    """One call's time, and whether it was sent. True where one of its tries may have been carried out.

    began: when it was made (monotonic). first: seconds that the answer may take where the call goes out at
    once; 0 where that is to be worked out.
    """

    __slots__ = ("began", "deadline", "end", "first", "sent", "until")

    def __init__(self, patience: float = 0.0, reply: float = wire.COMMAND_TIMEOUT) -> None:
        # Made for each call, so without the functions `min` and `max`.
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

    def begin(self) -> None:
        """Begin another try: from now on `left` is about this one."""
        now = time.monotonic()
        left = self.deadline - now
        self.end = now + max(FIRST_SHARE * left, min(left, LEAST))
        self.first = 0.0

    def reply(self, most: float, *, waits: bool) -> float:
        """Seconds that the answer to a call may take. `waits`: the server answers when a time of its own is
        over, which may be all of ours."""
        return self.left(most, whole=True) + LEAST if waits else self.left(most)

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

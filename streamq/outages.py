"""Outages of the server that a wait bears: all of them until its deadline.

Owns the rule for waits that look again and again. Must not look itself.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from streamq.errors import RedisUnavailable, ResultTimeout

MOMENT: Final = 0.01
"""The shortest patience of a look, in seconds."""


class Outages:
    """Those of one wait. deadline: by the monotonic clock; a wait without one needs an answer to its first
    look."""

    def __init__(self, deadline: float | None) -> None:
        self._deadline = deadline
        self._answered = False
        self._error: RedisUnavailable | None = None

    @property
    def patience(self) -> float | None:
        """The patience of the next look, in seconds: until the deadline. None for that of any call."""
        return None if self._deadline is None else max(MOMENT, self._deadline - time.monotonic())

    @contextmanager
    def borne(self) -> Generator[None]:
        """Run a look. Raises RedisUnavailable only where the wait should not begin."""
        try:
            yield
        except RedisUnavailable as error:
            if self._deadline is None and not self._answered:
                raise
            self.note(error)
        else:
            self._answered, self._error = True, None

    def note(self, error: RedisUnavailable) -> None:
        """Take note that the last look found no server."""
        self._error = error

    def check(self, what: str) -> None:
        """Raise ResultTimeout if the last look found no server: it is unknown whether `what`."""
        if self._error is not None:
            raise ResultTimeout(f"it is unknown whether {what}: {self._error}")

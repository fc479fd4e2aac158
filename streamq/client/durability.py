"""How long a batch is tried until enough copies of it exist, and what is known of it at last.

Owns the bookkeeping of the tries; asks nobody. What is asked between two tries is `calls.confirmed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streamq.calls.producer import Confirmed
from streamq.errors import RedisError
from streamq.model.task import Accepted, Answer, Duplicate, Unconfirmed

LONGEST_WAIT: Final = 1.0
"""Seconds that the server waits in one try: well below the time that a reply may take."""


class Confirmation:
    """The tries of one batch, over at `deadline` (monotonic). `answers` is what the caller is told."""

    def __init__(self, deadline: float, longest: float = LONGEST_WAIT) -> None:
        self._deadline = deadline
        self._longest = min(longest, LONGEST_WAIT)
        self._found: list[Answer] | None = None
        self._why = ""

    def left(self, now: float) -> float:
        """Seconds that are left, 0 where the time is over."""
        return max(0.0, self._deadline - now)

    def wait_ms(self, now: float) -> int:
        """How long the server may wait in the next try. Never 0, which would be for ever."""
        return max(1, round(min(self._longest, self.left(now)) * 1000))

    def answered(self, confirmed: Confirmed) -> None:
        """A try was answered; after a failover the tasks may be others than in the try before."""
        self._found, self._why = confirmed

    def failed(self, error: RedisError) -> None:
        """A try was not answered. Raises where no other was: nothing is known of the tasks."""
        if self._found is None:
            raise error
        self._why = str(error)

    def over(self, now: float) -> bool:
        """Whether there is nothing more to do: it is confirmed, or the time is up."""
        return self._found is not None and (not self._why or now >= self._deadline)

    @property
    def answers(self) -> Sequence[Answer]:
        found = self._found or []
        return [_unconfirmed(answer, self._why) for answer in found] if self._why else found


def _unconfirmed(answer: Answer, why: str) -> Answer:
    match answer:
        case Accepted(local):
            return Unconfirmed(local, why)
        case Duplicate(local):
            return Unconfirmed(local, why, duplicate=True)
        case _:
            return answer

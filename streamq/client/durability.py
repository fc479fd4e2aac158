"""How long a batch is tried until it is as durable as asked, and what is known of it then.

Owns the state of the tries. Does no I/O: the call of each try is `calls.producer.confirmed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streamq.calls.producer import Confirmed
from streamq.errors import RedisError
from streamq.model.task import Accepted, Answer, Duplicate, Unconfirmed

LONGEST_WAIT: Final = 1.0
"""Seconds that the server waits in one try at most: well below the time that a reply may take."""


class Confirmation:
    """The tries of one batch, until `deadline` (monotonic). answers: what the caller gets."""

    def __init__(self, deadline: float, longest: float = LONGEST_WAIT) -> None:
        self._deadline = deadline
        self._longest = min(longest, LONGEST_WAIT)
        self._found: list[Answer] | None = None
        self._why = ""

    def left(self, now: float) -> float:
        """Return the remaining seconds; 0 if the time is over."""
        return max(0.0, self._deadline - now)

    def wait_ms(self, now: float) -> int:
        """Return how long the server may wait in the next try. Never 0, which would mean forever."""
        return max(1, round(min(self._longest, self.left(now)) * 1000))

    def answered(self, confirmed: Confirmed) -> None:
        """Note the answer to a try; after a failover its tasks may differ from those of the last try."""
        self._found, self._why = confirmed

    def failed(self, error: RedisError) -> None:
        """Note that a try got no answer. Raises its error if no try got one: nothing is known of the
        tasks."""
        if self._found is None:
            raise error
        self._why = str(error)

    def over(self, now: float) -> bool:
        """Return whether the batch is confirmed, or the time is over."""
        return self._found is not None and (not self._why or now >= self._deadline)

    @property
    def answers(self) -> Sequence[Answer]:
        """The answers for the caller: Unconfirmed for each task that exists but is not confirmed."""
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

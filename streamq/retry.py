"""(policy, attempt, error) -> what becomes of the task. Arithmetic only.

Owns the decision between retry and dead letter, and the backoff. Random numbers come from tenacity's
wait objects; clocks and Redis are not known here. tenacity is loaded with the first attempt that fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from streamq.errors import Retry
from streamq.options import TaskOptions, seconds

LONGEST_BACKOFF = 7 * 86400.0
"""A wait object may answer anything; a week is as long as a task is left waiting by itself."""


@dataclass(frozen=True, slots=True)
class Again:
    """Run it again in `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Make it a dead letter. `reason`: attempts, gave_up."""

    reason: str


def decide(options: TaskOptions, max_attempts: int, attempt: int, error: BaseException) -> Again | GiveUp:
    """What becomes of a task whose attempt number `attempt` (from 1) ended with `error`."""
    asked = isinstance(error, Retry)
    if not asked and not _retryable(options, error):
        return GiveUp("gave_up")
    if attempt >= max_attempts:
        return GiveUp("attempts")
    if isinstance(error, Retry) and error.after is not None:
        return Again(seconds(error.after, "after"))
    return Again(backoff(options.backoff, attempt, error))


def _retryable(options: TaskOptions, error: BaseException) -> bool:
    # SystemExit and its like are the handler's failure as any other: the worker stays alive.
    retried = isinstance(error, options.retry_on) or not isinstance(error, Exception)
    return retried and not isinstance(error, options.give_up_on)


def backoff(wait: Any, attempt: int, error: BaseException) -> float:
    """Seconds that a tenacity wait object asks for after attempt number `attempt`.

    The default is exponential with full jitter: a random time up to 1, 2, 4, … seconds, at most 300
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    from tenacity import RetryCallState  # noqa: PLC0415

    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = attempt
    state.set_exception((type(error), error, error.__traceback__))
    delay = float((wait or _default())(state))
    return min(max(delay, 0.0), LONGEST_BACKOFF)


@cache
def _default() -> Any:
    from tenacity import wait_random_exponential  # noqa: PLC0415

    return wait_random_exponential(multiplier=1, max=300)

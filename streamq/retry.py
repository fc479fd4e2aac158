"""Decides, from policy, attempt and error, whether a task is retried and when.

Owns the decision between retry and dead letter, and the backoff. Must not read a clock, nor know Redis;
random numbers come from tenacity's wait objects. tenacity is imported with the first attempt that fails.

An exception group is judged by its exceptions, at any depth: the task is given up if one of them is in
`give_up_on`, or is not in `retry_on`; otherwise a `Retry` among them sets the delay, the longest if there are
several. `retry_on` and `give_up_on` may name groups too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Final, Protocol, SupportsFloat, cast

from streamq.errors import RateLimited, Retry, Suspended
from streamq.options.checks import seconds
from streamq.options.task import TaskOptions

LONGEST_BACKOFF = 7 * 86400.0
"""Seconds, a week: the longest delay of a wait object, which may return any number."""
_LONGEST_AFTER: Final = 100 * 366 * 86400.0
"""Seconds that a handler may ask for with Retry(after=…), as for a delay."""
_LAST_RESORT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Again:
    """Run the task again in `delay` seconds. instead_of: a requested delay that was invalid; '' otherwise."""

    delay: float
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Run it again in `delay` seconds without counting the attempt, and nothing of its lane before."""

    delay: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Run it again in `delay` seconds: it asked for that, and nothing failed. memo: of what it waits for."""

    delay: float
    memo: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Make the task a dead letter. reason: attempts, gave_up."""

    reason: str


def decide(
    options: TaskOptions, max_attempts: int, attempt: int, error: BaseException
) -> Again | Wait | GiveUp:
    """Decide about a task whose attempt number `attempt` (from 1) ended with `error`."""
    if limited := _limited(error):
        return limited
    if _given_up(options, error) or not _retried(options, error):
        return GiveUp("gave_up")
    if attempt >= max_attempts:
        return GiveUp("attempts")
    return _requested(options, attempt, error) or _backoff(options.backoff, attempt, error)


def _walk(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and if it is a group those in it, at any depth."""
    waiting = [error]
    while waiting:
        one = waiting.pop()
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Return the exceptions in a group and in its groups; of a single exception, the exception itself."""
    return (one for one in _walk(error) if not isinstance(one, BaseExceptionGroup))


def _limited(error: BaseException) -> Wait | None:
    """The longest time that a rate limit outside asks for, where the attempt met nothing else."""
    met = list(leaves(error))
    if not all(isinstance(one, RateLimited) for one in met):
        return None
    named = (_duration(one.after) for one in met if isinstance(one, RateLimited))
    good = (delay for delay in named if delay is not None and delay <= _LONGEST_AFTER)
    return Wait(max(good, default=_LAST_RESORT))


def sleeping(error: BaseException) -> Sleep | None:
    """Return how long a task sleeps whose attempt ended with this and nothing else; None if it does not."""
    met = list(leaves(error))
    suspended = [one for one in met if isinstance(one, Suspended)]
    if not suspended or len(suspended) < len(met):
        return None
    first = min(suspended, key=lambda one: one.delay)
    return Sleep(first.delay, first.memo)


def _given_up(options: TaskOptions, error: BaseException) -> bool:
    of_groups = tuple(kind for kind in options.give_up_on if issubclass(kind, BaseExceptionGroup))
    for one in _walk(error):
        kinds = of_groups if isinstance(one, BaseExceptionGroup) else options.give_up_on
        if isinstance(one, kinds) and not isinstance(one, Retry):
            return True
    return False


def _retried(options: TaskOptions, error: BaseException) -> bool:
    """Return whether each exception is retried; a group is if `retry_on` names it."""
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, options.retry_on):
            continue
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        # SystemExit and the like are failures of the handler: the worker stays alive.
        elif isinstance(one, Exception) and not isinstance(one, Retry):
            return False
    return True


def _requested(options: TaskOptions, attempt: int, error: BaseException) -> Again | None:
    """Return the longest delay that the handler asked for; None if it named none."""
    named = [one.after for one in leaves(error) if isinstance(one, Retry) and one.after is not None]
    if not named:
        return None
    found = [_duration(after) for after in named]
    good = [delay for delay in found if delay is not None and delay <= _LONGEST_AFTER]
    if good:
        return Again(max(good))
    fallback = _backoff(options.backoff, attempt, error)
    return Again(fallback.delay, f"Retry(after={_shown(named[0])})")


def backoff(wait: object, attempt: int, error: BaseException) -> float:
    """Return the seconds of a tenacity wait object after attempt number `attempt`."""
    return _backoff(wait, attempt, error).delay


def _backoff(wait: object, attempt: int, error: BaseException) -> Again:
    """Return the delay of the policy's wait object; the default if it is not a duration, or the object
    raises.

    The default is exponential with full jitter: a random time up to 1, 2, 4, … seconds, at most 300
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    if wait is None:
        return Again(_by_default(attempt, error))
    if not callable(wait):
        return Again(_by_default(attempt, error), f"a backoff of {_shown(wait)}")
    try:
        answer: object = wait(_state(attempt, error))
    except BaseException as broken:  # noqa: BLE001 - user code: the attempt must be decided whatever it does
        return Again(_by_default(attempt, error), f"the backoff raised {type(broken).__name__}")
    delay = _duration(answer)
    if delay is None:
        return Again(_by_default(attempt, error), f"a backoff of {_shown(answer)}")
    return Again(min(delay, LONGEST_BACKOFF))


def _state(attempt: int, error: BaseException) -> object:
    from tenacity import RetryCallState  # noqa: PLC0415

    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = attempt
    state.set_exception((type(error), error, error.__traceback__))
    return state


def _by_default(attempt: int, error: BaseException) -> float:
    delay = _duration(_default()(_state(attempt, error)))
    return _LAST_RESORT if delay is None else delay


def _duration(value: object) -> float | None:
    """Return seconds; None if the value is not a finite, future time."""
    found: float | None = None
    with suppress(BaseException):  # whatever the user's object raises
        if isinstance(value, str | timedelta):
            found = seconds(value, "after")
        elif not isinstance(value, bool | bytes):
            found = float(cast("SupportsFloat", value))
    return found if found is not None and math.isfinite(found) and found >= 0 else None


def _shown(value: object) -> str:
    try:
        return repr(value)[:80]
    except BaseException:  # noqa: BLE001 - the user's __repr__
        return f"a {type(value).__name__}"


class _Wait(Protocol):
    def __call__(self, state: object, /) -> float: ...


@cache
def _default() -> _Wait:
    from tenacity import wait_random_exponential  # noqa: PLC0415

    return cast("_Wait", wait_random_exponential(multiplier=1, max=300))

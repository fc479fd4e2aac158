"""(policy, attempt, error) -> what becomes of the task. Arithmetic only.

Owns the decision between retry and dead letter, and the backoff. Random numbers come from tenacity's
wait objects; clocks and Redis are not known here. tenacity is loaded with the first attempt that fails.

An exception group is judged by the exceptions in it, at any depth: one of `give_up_on` gives up, and so does
one that `retry_on` does not name; otherwise a `Retry` among them decides the delay, the longest where there
are several. `retry_on` and `give_up_on` may name groups too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Final

from streamq.errors import RateLimited, Retry
from streamq.options.checks import seconds
from streamq.options.task import TaskOptions

LONGEST_BACKOFF = 7 * 86400.0
"""A wait object may answer anything; a week is as long as a task is left waiting by itself."""
_LONGEST_AFTER: Final = 100 * 366 * 86400.0
"""What a handler asks for by name may be as far away as a delay."""
_LAST_RESORT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Again:
    """Run it again in `delay` seconds. `instead_of`: what was asked for and is no duration; '' otherwise."""

    delay: float
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Run it again in `delay` seconds without counting the attempt, and nothing of its lane before."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Make it a dead letter. `reason`: attempts, gave_up."""

    reason: str


def decide(
    options: TaskOptions, max_attempts: int, attempt: int, error: BaseException
) -> Again | Wait | GiveUp:
    """What becomes of a task whose attempt number `attempt` (from 1) ended with `error`."""
    if limited := _limited(error):
        return limited
    if _given_up(options, error) or not _retried(options, error):
        return GiveUp("gave_up")
    if attempt >= max_attempts:
        return GiveUp("attempts")
    return _asked(options, attempt, error) or _backoff(options.backoff, attempt, error)


def _walk(error: BaseException) -> Iterator[BaseException]:
    """An exception, and where it is a group those in it, at any depth."""
    waiting = [error]
    while waiting:
        one = waiting.pop()
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group and in the groups within it; one that is no group is its own only leaf."""
    return (one for one in _walk(error) if not isinstance(one, BaseExceptionGroup))


def _limited(error: BaseException) -> Wait | None:
    """The longest time that a rate limit outside asks for, where the attempt met nothing else."""
    met = list(leaves(error))
    if not all(isinstance(one, RateLimited) for one in met):
        return None
    named = (_duration(one.after) for one in met if isinstance(one, RateLimited))
    return Wait(
        max((min(delay, _LONGEST_AFTER) for delay in named if delay is not None), default=_LAST_RESORT)
    )


def _given_up(options: TaskOptions, error: BaseException) -> bool:
    of_groups = tuple(kind for kind in options.give_up_on if issubclass(kind, BaseExceptionGroup))
    for one in _walk(error):
        kinds = of_groups if isinstance(one, BaseExceptionGroup) else options.give_up_on
        if isinstance(one, kinds) and not isinstance(one, Retry):
            return True
    return False


def _retried(options: TaskOptions, error: BaseException) -> bool:
    """Whether each exception is one to retry; a group is, where `retry_on` names groups."""
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, options.retry_on):
            continue
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        # SystemExit and its like are the handler's failure as any other: the worker stays alive.
        elif isinstance(one, Exception) and not isinstance(one, Retry):
            return False
    return True


def _asked(options: TaskOptions, attempt: int, error: BaseException) -> Again | None:
    """The longest delay that the handler asked for; None where it named none."""
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
    """Seconds that a tenacity wait object asks for after attempt number `attempt`."""
    return _backoff(wait, attempt, error).delay


def _backoff(wait: Any, attempt: int, error: BaseException) -> Again:
    """What the policy's wait object asks for; the default where that is no duration, or where it raises.

    The default is exponential with full jitter: a random time up to 1, 2, 4, … seconds, at most 300
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    if wait is None:
        return Again(_by_default(attempt, error))
    try:
        answer = wait(_state(attempt, error))
    except BaseException as broken:  # noqa: BLE001 - the user's code, and the attempt is judged whatever it does
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


def _duration(value: Any) -> float | None:
    """Seconds; None for what is no finite time from now on."""
    found: float | None = None
    with suppress(BaseException):  # whatever the user's object does when it is asked
        if isinstance(value, str | timedelta):
            found = seconds(value, "after")
        elif not isinstance(value, bool | bytes):
            found = float(value)
    return found if found is not None and math.isfinite(found) and found >= 0 else None


def _shown(value: object) -> str:
    try:
        return repr(value)[:80]
    except BaseException:  # noqa: BLE001 - the user's __repr__
        return f"a {type(value).__name__}"


@cache
def _default() -> Any:
    from tenacity import wait_random_exponential  # noqa: PLC0415

    return wait_random_exponential(multiplier=1, max=300)

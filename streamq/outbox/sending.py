"""Sends rows, and decides what becomes of each.

Owns that decision. Must not know a database. Raises RedisErrors, after which all rows are sent again under
the same keys.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, NamedTuple

from streamq.app.app import StreamQ
from streamq.app.bound_task import Bound
from streamq.errors import (
    DecodeError,
    DurabilityUnknown,
    IdempotencyConflict,
    RateLimitExceeded,
    RedisError,
    Refused,
    StreamQError,
    UniqueConflict,
    UsageError,
)
from streamq.outbox.row import Row, call_of, now_ms

LONGEST: Final = 300.0
"""Seconds between two tries of a row that is refused."""
_MESSAGE: Final = 500


class Sent(NamedTuple):
    """The task exists: delete the row."""


class Later(NamedTuple):
    """The queue refused the task: try again in `delay_ms`."""

    delay_ms: int
    error: str


class Parked(NamedTuple):
    """The row can never be sent as it is: keep it for a person."""

    error: str


Verdict = Sent | Later | Parked


def send(app: StreamQ, rows: Sequence[Row], window_ms: int) -> list[Verdict]:
    """Send rows; return what becomes of each, in order."""
    steps = _steps(app, rows, window_ms)
    calls = next(steps)
    try:
        while True:
            try:
                app.enqueue_many(calls)
                answer: StreamQError | None = None
            except StreamQError as error:
                answer = error
            calls = steps.send(answer)
    except StopIteration as end:
        found: list[Verdict] = end.value
        return found


async def asend(app: StreamQ, rows: Sequence[Row], window_ms: int) -> list[Verdict]:
    """Send rows, as `send` does, from an event loop."""
    steps = _steps(app, rows, window_ms)
    calls = next(steps)
    try:
        while True:
            try:
                await app.aenqueue_many(calls)
                answer: StreamQError | None = None
            except StreamQError as error:
                answer = error
            calls = steps.send(answer)
    except StopIteration as end:
        found: list[Verdict] = end.value
        return found


def _steps(
    app: StreamQ, rows: Sequence[Row], window_ms: int
) -> Generator[list[Bound[object]], StreamQError | None, list[Verdict]]:
    """Yield calls to send together, and take the error of each sending; return the verdicts."""
    verdicts: dict[int, Verdict] = {}
    calls: dict[int, Bound[object]] = {}
    oldest = now_ms() - window_ms
    for n, row in enumerate(rows):
        if row.created_ms < oldest:
            verdicts[n] = Parked(
                "older than the window of its key, so it may have been sent already: check, then retry or "
                "delete it"
            )
            continue
        try:
            calls[n] = call_of(app, row, window_ms)
        except DecodeError as error:
            verdicts[n] = Parked(str(error)[:_MESSAGE])
    refused = yield list(calls.values())
    accepted = _accepted(refused, len(calls))
    for there, (n, call) in zip(accepted, calls.items(), strict=True):
        if there:
            verdicts[n] = Sent()
            continue
        alone = yield [call]  # for the reason of this one
        verdicts[n] = Sent() if alone is None else _verdict(alone, rows[n])
    return [verdicts[n] for n in range(len(rows))]


def _accepted(error: StreamQError | None, count: int) -> list[bool]:
    """Return which of the calls sent together have a task. Raises what concerns all of them."""
    if error is None:
        return [True] * count
    listed = list(getattr(error, "accepted", ()))
    if isinstance(error, DurabilityUnknown):
        return [False] * count
    if isinstance(error, RedisError) and not listed:
        raise error
    return [one is not None for one in listed] if len(listed) == count else [False] * count


def _verdict(error: StreamQError, row: Row) -> Verdict:
    message = str(error)[:_MESSAGE]
    delay = min(LONGEST, 2.0 ** min(row.tries, 20))
    if isinstance(error, RateLimitExceeded):
        return Later(round(1000 * min(LONGEST, max(delay, error.retry_after))), message)
    if isinstance(error, Refused | UniqueConflict | DurabilityUnknown):
        return Later(round(1000 * delay), message)
    if isinstance(error, IdempotencyConflict | UsageError):
        return Parked(message)
    raise error

"""Runs of a schedule for a time that is over.

Owns the way of a backfill: each run is enqueued under its name as idempotency key, in the shard of its
schedule, so that no time is filled twice.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from itertools import islice, takewhile
from typing import Final

from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls import schedule as schedule_calls
from streamq.calls.producer import NeedsLane
from streamq.control.schedule_rows import Found, damaged
from streamq.errors import (
    InvalidOption,
    QueueFull,
    RateLimitExceeded,
    Refused,
    UniqueConflict,
    UsageError,
)
from streamq.flow import Flow, ask
from streamq.keys import ShardKeys, type_keys
from streamq.locks import NO_LOCK
from streamq.model.task import (
    LETTER,
    PRIORITIES,
    Accepted,
    Answer,
    BacklogFull,
    IdempotencyKey,
    NewTask,
    Priority,
    RateLimited,
    TaskId,
)
from streamq.options.checks import LONGEST_WINDOW
from streamq.options.schedule import Every, Schedule
from streamq.schedules import arithmetic
from streamq.schedules.definition import Definition

_BATCH: Final = 100
MOST: Final = 100_000
"""Runs of one backfill at most."""
_CLOCKS_DIFFER_MS: Final = 60_000
"""A caller's "now" may be this far ahead of the server's clock."""
_WINDOW_MS: Final = round(LONGEST_WINDOW * 1000)


def backfill(found: Found, since: int, until: int) -> Flow[int]:
    """Make the runs from `since` to before `until`; return how many were new. Raises InvalidOption,
    UsageError, QueueFull and RateLimitExceeded."""
    state, known = found.whole()
    now = yield from ask(question_calls.now(found.keys.schedules))
    if until > now + _CLOCKS_DIFFER_MS:
        raise InvalidOption("end: lies in the future: those runs are created when they are due")
    until = min(until, now)
    payload = yield from ask(schedule_calls.payload(found.keys, found.name))
    if payload is None:
        raise damaged(found.name, "the arguments of its tasks are missing")
    ahead = arithmetic.times(known.schedule, _anchor(known.schedule, state.anchor, since), since - 1)
    runs = list(islice(takewhile(lambda ms: ms < until, ahead), MOST + 1))
    if len(runs) > MOST:
        raise UsageError(f"more than {MOST:,} runs: backfill a shorter time")
    if known.has_key:
        raise UsageError(
            f"schedule {found.name!r}: its runs share one unique key, so only one of them would be created. "
            "Put it with .options(unique=False) to backfill it"
        )
    try:
        return (yield from _enqueue(found.keys, found.name, known, payload, runs))
    except NeedsLane:
        raise damaged(found.name, "it has no lane, and its type has lanes by now") from None


def _anchor(schedule: Schedule, anchor: int, since: int) -> int:
    """What an interval counts from, on the same grid, before the first time that is wanted."""
    if not isinstance(schedule.when, Every) or since > anchor:
        return anchor
    interval = round(schedule.when.interval * 1000)
    return anchor - ((anchor - since) // interval + 2) * interval


def _enqueue(keys: ShardKeys, name: str, known: Definition, payload: bytes, runs: list[int]) -> Flow[int]:
    priority: Priority = next(one for one in PRIORITIES if LETTER[one] == known.letter)
    t, writer, made = type_keys(keys.app, keys.shard, known.type), secrets.token_hex(8), 0
    for number, at in enumerate(range(0, len(runs), _BATCH), 1):
        names = [arithmetic.run_name(name, ms) for ms in runs[at : at + _BATCH]]
        tasks = [
            NewTask(
                payload,
                priority,
                fields=(("r", run), *known.fields),
                key=IdempotencyKey(run, blake2b(run.encode(), digest_size=16).digest(), _WINDOW_MS),
                joins=known.joins or NO_LOCK,
            )
            for run in names
        ]
        answers = yield from ask(producer_calls.enqueue(t, keys, writer, number, tasks))
        made += sum(isinstance(answer, Accepted) for answer in answers)
        _check(known.type, answers, made)
    return made


def _check(task_type: str, answers: list[Answer], made: int) -> None:
    for answer in answers:
        if isinstance(answer, BacklogFull):
            raise refused(task_type, "backlog", made)
        if isinstance(answer, RateLimited):
            raise refused(task_type, "rate_limit", made, answer.retry_after_ms / 1000)


def refused(
    task_type: str, why: str, made: int, retry_after: float = 0.0, holder: TaskId | None = None
) -> Refused | UniqueConflict:
    """What is said where the limits of a type refuse a run."""
    said = f"{made:,} runs were made, then " if made else ""
    if why == "unique":
        return UniqueConflict(
            f"task {holder} holds the unique key of this {task_type!r} run: nothing was made. Try again when "
            "that task has ended",
            task_id=str(holder),
            accepted=(),
        )
    if why == "rate_limit":
        return RateLimitExceeded(
            f"{said}the rate limit of task type {task_type!r} was used up: try again later",
            retry_after=retry_after,
        )
    return QueueFull(f"{said}the backlog limit of task type {task_type!r} was reached: try again later")

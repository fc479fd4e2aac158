"""The policy of a task type in words, as operators read it.

Owns the sentences. They are stored with the policy, since only the program that declares a type knows all of
it. Reads nothing from Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

import orjson

from streamq.options.checks import in_words
from streamq.options.lane import Lane, StartRate
from streamq.options.rate import RateLimit
from streamq.options.schedule import Schedule
from streamq.options.unique import Unique
from streamq.options.unique_plan import HasUniqueOptions

_LONGEST: Final = 200


class Policy(HasUniqueOptions, Protocol):
    """What the sentences are made of: TaskOptions."""

    @property
    def max_attempts(self) -> int: ...
    @property
    def timeout(self) -> float | None: ...
    @property
    def backoff(self) -> Callable[..., float] | None: ...
    @property
    def retry_on(self) -> tuple[type[BaseException], ...]: ...
    @property
    def give_up_on(self) -> tuple[type[BaseException], ...]: ...
    @property
    def expires(self) -> float | None: ...
    @property
    def retention(self) -> float: ...
    @property
    def lease(self) -> float: ...
    @property
    def max_lost(self) -> int: ...
    @property
    def priority(self) -> str: ...
    @property
    def executor(self) -> str: ...
    @property
    def rate_limit(self) -> RateLimit | None: ...
    @property
    def max_backlog(self) -> int | None: ...
    @property
    def max_payload(self) -> int: ...
    @property
    def durability(self) -> str: ...
    @property
    def schedule(self) -> Schedule | None: ...
    @property
    def lane(self) -> Lane | None: ...
    @property
    def running(self) -> int | None: ...
    @property
    def start_rate(self) -> StartRate | None: ...
    @property
    def logs(self) -> str | None: ...


def words(options: Policy) -> str:
    """Return the sentences as they are stored: a JSON list of texts."""
    said = [*_attempts(options), *_loss(options), *_kept(options), *_accepted(options), *_together(options)]
    return orjson.dumps([one[:_LONGEST] for one in said]).decode("utf-8", "replace")


def sentences(stored: str) -> list[str]:
    """Return what `words` stored; none if it is damaged."""
    try:
        found = orjson.loads(stored)
    except ValueError:
        return []
    return [str(one)[:_LONGEST] for one in found[:40]] if isinstance(found, list) else []


def _attempts(of: Policy) -> Iterator[str]:
    if of.max_attempts == 1:
        yield "One attempt: a task that fails is dead at once."
    else:
        wait = "exponential, with jitter, from 1 s up to 5 min" if of.backoff is None else _named(of.backoff)
        yield f"Up to {of.max_attempts} attempts; the wait between them: {wait}."
    if of.retry_on != (Exception,):
        yield f"Only these errors are retried: {_names(of.retry_on)}."
    if of.give_up_on:
        yield f"These errors are never retried: {_names(of.give_up_on)}."
    if of.timeout is None:
        yield "An attempt may take any time."
    else:
        yield f"An attempt may take {in_words(of.timeout)}."
    if of.executor != "auto":
        yield f"It runs in a {of.executor}."


def _loss(of: Policy) -> Iterator[str]:
    again = f"dead after {of.max_lost} lost deliveries in a row" if of.max_lost > 1 else "dead"
    yield f"When its worker is silent for {in_words(of.lease)}, another one gets it; it is {again}."


def _kept(of: Policy) -> Iterator[str]:
    yield f"Results are kept for {in_words(of.retention)}." if of.retention else "No result is kept."
    if of.logs is not None:
        yield f"Who watches a task sees its log records, from {of.logs} on."
    if of.expires is not None:
        yield f"It is not run when it is older than {in_words(of.expires)}."


def _accepted(of: Policy) -> Iterator[str]:
    if of.priority != "normal":
        yield f"Its tasks have {of.priority} priority."
    if of.rate_limit is not None:
        yield f"At most {of.rate_limit.count:,} are accepted in {in_words(of.rate_limit.period)}."
    if of.max_backlog is not None:
        yield f"At most {of.max_backlog:,} may be accepted and not ended."
    yield f"Arguments may have {of.max_payload:,} bytes."
    if of.durability != "master":
        yield f"Enqueue waits for {of.durability}."
    if of.schedule is not None:
        yield f"It runs by itself: {of.schedule.when}."


def _together(of: Policy) -> Iterator[str]:
    if of.running is not None:
        yield f"At most {of.running:,} are ready or running at once."
    if of.start_rate is not None:
        yield f"At most {_rate(of.start_rate)} start."
    if of.lane is not None:
        yield f"Tasks {_lane(of.lane)}."
    if isinstance(of.unique, Unique):
        yield f"One at a time for each {', '.join(of.unique.by) or 'set of arguments'}."
    if of.debounce is not None:
        most = "" if of.max_wait is None else f", at most {in_words(of.max_wait)} after the first"
        yield f"It runs {in_words(of.debounce)} after the last call of its key{most}."
    if of.throttle is not None:
        last = ", and the last one at its end" if of.trailing else ""
        yield f"Of the calls of a key within {in_words(of.throttle)} the first runs{last}."


def _lane(lane: Lane) -> str:
    parts = [f"with the same {lane.argument}" if lane.argument else "of one lane"]
    parts += [f"at most {lane.running} of them at once"] if lane.running is not None else []
    parts += [f"at most {_rate(lane.per_start)} start"] if lane.per_start else []
    parts += ["lanes take turns"] if lane.fair else []
    parts += ["one after the other, in their order"] if lane.order else []
    parts += ["a dead letter halts its lane"] if lane.on_dead == "halt" else []
    return " wait together; ".join([parts[0], ", ".join(parts[1:]) or "without a limit"])


def _rate(rate: StartRate) -> str:
    burst = f", up to {rate.burst:,} at once" if rate.burst > 1 else ""
    return f"{rate.count:,} in {in_words(rate.period)}{burst}"


def _named(value: object) -> str:
    """Return a value as code writes it, without addresses."""
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return name
    text = repr(value)
    return type(value).__name__ if " at 0x" in text else text


def _names(kinds: Iterable[type[BaseException]]) -> str:
    return ", ".join(one.__name__ for one in kinds)

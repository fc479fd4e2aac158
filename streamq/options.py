"""Options: frozen, validated, one documented field each.

Owns the policy of a task type, what a single call may set otherwise, and the settings of worker and
daemon. Durations are seconds, timedelta or text such as "5m" in the public API and seconds (float) in
these values. Does no I/O and reads no environment.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

from streamq.errors import InvalidOption
from streamq.model import PRIORITIES, Overrides, Priority

Duration = float | timedelta | str
Executor = Literal["auto", "thread", "process"]
Durability = Literal[
    "master", "aof", "replicas:1", "replicas:2", "replicas:3", "replicas:4", "replicas:5"
]  # fmt: skip
"""What has to have a task before enqueue returns: the master's memory, its append-only file on disk
(fsync), or so many replicas beside it."""

DURABILITIES: Final[tuple[Durability, ...]] = get_args(Durability)
IDEMPOTENCY_WINDOW: Final = 86400.0
LONGEST_WINDOW: Final = 30 * 86400.0
LONGEST_KEY: Final = 200
"""Bytes of an idempotency key at most: it is kept in memory for its whole window."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_LONGEST: Final = 100 * 366 * 86400.0


def seconds(value: Duration, name: str, *, least: float = 0.0) -> float:
    """A duration as seconds; InvalidOption names the option, the fault and the forms that are taken."""
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, str):
        result = _from_text(value, name)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(f"{name}={value!r}: a duration is seconds, a timedelta or text such as '5m'")
    else:
        result = float(value)
    if not least <= result <= _LONGEST:  # also refuses nan
        raise InvalidOption(f"{name}={value!r}: must be at least {least:g} s and at most 100 years")
    return result


def _from_text(text: str, name: str) -> float:
    parts = _PART.findall(text.replace(" ", ""))
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise InvalidOption(f"{name}={text!r}: write a duration as '90s', '5m', '1h30m' or '250ms'")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def whole(value: int, name: str, *, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:  # type: ignore[redundant-expr]
        raise InvalidOption(f"{name}={value!r}: must be a whole number of at least {least}")
    return value


def priority(value: str, name: str = "priority") -> Priority:
    for known in PRIORITIES:
        if value == known:
            return known
    raise InvalidOption(f"{name}={value!r}: must be one of {', '.join(PRIORITIES)}")


def durability(value: str, name: str = "durability") -> Durability:
    for known in DURABILITIES:
        if value == known:
            return known
    raise InvalidOption(f"{name}={value!r}: must be 'master', 'aof' or 'replicas:1' to 'replicas:5'")


def key_text(value: str, name: str) -> str:
    """A caller's key: any text that is not empty and not long."""
    if not isinstance(value, str) or not 1 <= len(value.encode("utf-8", "replace")) <= LONGEST_KEY:  # type: ignore[redundant-expr]
        raise InvalidOption(
            f"{name}={value!r}: must be text of 1 to {LONGEST_KEY} bytes, as an order's number; "
            "hash what is longer"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidOption(f"{name}={value!r}: has lone surrogates, it is no UTF-8") from None
    return value


def window_ms(value: Duration) -> int:
    found = seconds(value, "idempotency_window", least=1.0)
    if found > LONGEST_WINDOW:
        raise InvalidOption(f"idempotency_window={value!r}: at most 30 days; each key is kept in memory")
    return round(found * 1000)


_ELSEWHERE: Final = {
    theirs: ours
    for ours, words in {
        "delay": "countdown defer_by enqueue_in",
        "at": "eta defer_until schedule scheduled when",
        "max_attempts": "retries max_retries retry attempts max_tries tries",
        "timeout": "time_limit soft_time_limit job_timeout",
        "backoff": "retry_backoff retry_delay min_backoff max_backoff",
        "retry_on": "autoretry_for retry_for",
        "give_up_on": "dont_autoretry_for throws",
        "expires": "ttl max_age",
        "retention": "result_ttl result_expires keep_result ignore_result store_results",
        "idempotency_key": "key task_id job_id unique",
        "name": "task_name actor_name",
    }.items()
    for theirs in words.split()
}
"""What other task queues call it: the name of their option -> ours."""


def reject_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise InvalidOption for the first name that is not known, with the nearest one that is."""
    names = sorted(known)
    for name in given:
        if name not in names:
            near = [_ELSEWHERE.get(name), *difflib.get_close_matches(name, names, 1)]
            meant = next((one for one in near if one in names), None)
            hint = f"known are {', '.join(names)}" if meant is None else f"did you mean {meant!r}?"
            raise InvalidOption(f"{what} has no option {name!r}: {hint}")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` tasks of a type accepted in any window of `period` seconds."""

    count: int
    period: float

    @classmethod
    def parse(cls, value: RateLimit | str | None) -> RateLimit | None:
        """Read "100/1m", "100/s" or a RateLimit."""
        if value is None or isinstance(value, RateLimit):
            return value
        count, slash, period = str(value).partition("/")
        if not slash or not count.isascii() or not count.isdigit() or not 1 <= int(count) <= 1_000_000:
            raise InvalidOption(
                f"rate_limit={value!r}: write it as '100/1m' (1 to 1,000,000 tasks in a period)"
            )
        text = period if period[:1].isdigit() else "1" + period
        return cls(int(count), seconds(text, "rate_limit", least=0.001))


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The policy of a task type.

    max_attempts: how often a handler may fail before the task is dead; 1 is no retry.
    timeout: seconds one attempt may take; None is no limit. A thread cannot be stopped: see `executor`.
    backoff: a wait object of tenacity; None is exponential with full jitter, 1 s doubling up to 5 min.
    retry_on, give_up_on: exceptions that are retried, and those among them that are not.
    expires: a task older than this when a worker takes it is not run; None is never.
    retention: how long a result is kept; 0 is not at all.
    lease: how long a worker may be silent before its tasks are given to others. Renewed while it lives.
    max_lost: how many deliveries in a row may be lost with their workers before the task is dead.
    priority: of a task that does not say otherwise.
    executor: "auto" (the event loop for `async def`, a thread for `def`), "thread" or "process"; a
        process is killed at the timeout.
    rate_limit, max_backlog: what enqueue accepts, over all producers; None is no limit.
    max_payload: largest payload in bytes.
    durability: what has to have a task before enqueue returns: "master" (its memory), "aof" (its
        append-only file, fsynced) or "replicas:N".
    """

    max_attempts: int = 5
    timeout: float | None = 30.0
    backoff: Any = None
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    expires: float | None = None
    retention: float = 86400.0
    lease: float = 10.0
    max_lost: int = 3
    priority: Priority = "normal"
    executor: Executor = "auto"
    rate_limit: RateLimit | None = None
    max_backlog: int | None = None
    max_payload: int = 1024 * 1024
    durability: Durability = "master"

    def policy(self) -> dict[str, str]:
        """What enqueue's limits and the daemon need to know, as stored in Redis."""
        stored = {"lease_ms": _ms(self.lease), "max_lost": str(self.max_lost)}
        if self.rate_limit is not None:
            stored["rate_limit"] = str(self.rate_limit.count)
            stored["rate_period_ms"] = _ms(self.rate_limit.period)
        if self.max_backlog is not None:
            stored["max_backlog"] = str(self.max_backlog)
        return stored


def _ms(value: float) -> str:
    return str(round(value * 1000))


def task_options(given: Mapping[str, Any]) -> TaskOptions:
    """Check what `@app.task(...)` was given; InvalidOption names the fault."""
    reject_unknown(given, [f.name for f in fields(TaskOptions)], "@task")
    known = {name: _TASK_CHECKS[name](value) for name, value in given.items()}
    return TaskOptions(**known)


def _optional_seconds(name: str, least: float) -> Any:
    return lambda value: None if value is None else seconds(value, name, least=least)


def _optional_whole(name: str, least: int) -> Any:
    return lambda value: None if value is None else whole(value, name, least=least)


def _exceptions(name: str) -> Any:
    def check(value: Any) -> tuple[type[BaseException], ...]:
        listed = value if isinstance(value, tuple | list) else (value,)
        for item in listed:
            if not (isinstance(item, type) and issubclass(item, BaseException)):
                raise InvalidOption(f"{name}={value!r}: must be exception classes")
        return tuple(listed)

    return check


def _backoff(value: Any) -> Any:
    if value is not None and not callable(value):
        raise InvalidOption(f"backoff={value!r}: must be a wait object of tenacity, as wait_exponential()")
    return value


def _executor(value: Any) -> Executor:
    if value not in ("auto", "thread", "process"):
        raise InvalidOption(f"executor={value!r}: must be 'auto', 'thread' or 'process'")
    chosen: Executor = value
    return chosen


_TASK_CHECKS: Final[dict[str, Any]] = {
    "max_attempts": lambda v: whole(v, "max_attempts", least=1),
    "timeout": _optional_seconds("timeout", 0.001),
    "backoff": _backoff,
    "retry_on": _exceptions("retry_on"),
    "give_up_on": _exceptions("give_up_on"),
    "expires": _optional_seconds("expires", 0.001),
    "retention": lambda v: seconds(v, "retention"),
    "lease": lambda v: seconds(v, "lease", least=0.2),
    "max_lost": lambda v: whole(v, "max_lost", least=1),
    "priority": priority,
    "executor": _executor,
    "rate_limit": RateLimit.parse,
    "max_backlog": _optional_whole("max_backlog", 1),
    "max_payload": lambda v: whole(v, "max_payload", least=1),
    "durability": durability,
}


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one call sets otherwise than its task type's policy; None leaves the policy's value.

    delay: seconds from now; at_ms: a moment, ms since the epoch. At most one of the two.
    shard_key: tasks with the same go to the same shard. idempotency_key: names one task; the same name
    within the window is the same task, and has its shard by it. At most one of the two.
    """

    delay: float | None = None
    at_ms: int | None = None
    priority: Priority | None = None
    expires: float | None = None
    overrides: Overrides | None = None
    shard_key: str | None = None
    idempotency_key: str | None = None
    window_ms: int = round(IDEMPOTENCY_WINDOW * 1000)
    durability: Durability | None = None


def call_options(  # noqa: PLR0913 - one for each option that a call has
    *,
    delay: Duration | None = None,
    at: datetime | None = None,
    priority: Priority | None = None,
    expires: Duration | None = None,
    timeout: Duration | None = None,
    max_attempts: int | None = None,
    retention: Duration | None = None,
    shard_key: str | None = None,
    idempotency_key: str | None = None,
    idempotency_window: Duration | None = None,
    durability: Durability | None = None,
) -> CallOptions:
    """Check what `.options(...)` was given; InvalidOption names the fault."""
    if delay is not None and at is not None:
        raise InvalidOption("delay and at exclude each other: give one of them")
    if idempotency_key is not None and shard_key is not None:
        raise InvalidOption("shard_key and idempotency_key exclude each other: a task has one shard")
    if idempotency_key is None and idempotency_window is not None:
        raise InvalidOption("idempotency_window needs an idempotency_key")
    overrides = Overrides(
        timeout=None if timeout is None else seconds(timeout, "timeout", least=0.001),
        max_attempts=None if max_attempts is None else whole(max_attempts, "max_attempts", least=1),
        retention=None if retention is None else seconds(retention, "retention"),
    )
    return CallOptions(
        delay=None if delay is None else seconds(delay, "delay"),
        at_ms=None if at is None else moment_ms(at, "at"),
        priority=None if priority is None else _priority(priority),
        expires=None if expires is None else seconds(expires, "expires", least=0.001),
        overrides=None if overrides == Overrides() else overrides,
        shard_key=None if shard_key is None else key_text(shard_key, "shard_key"),
        idempotency_key=None if idempotency_key is None else key_text(idempotency_key, "idempotency_key"),
        window_ms=window_ms(IDEMPOTENCY_WINDOW if idempotency_window is None else idempotency_window),
        durability=None if durability is None else _durability(durability),
    )


_priority, _durability = priority, durability  # the parameters above hide the functions' names


def moment_ms(value: datetime, name: str) -> int:
    """An aware datetime as ms since the epoch."""
    if not isinstance(value, datetime):
        raise InvalidOption(f"{name}={value!r}: must be a datetime with a time zone")
    if value.utcoffset() is None:
        raise InvalidOption(f"{name}={value!r} has no time zone: write datetime.now(UTC) or .astimezone()")
    if value > datetime.now(UTC) + timedelta(seconds=_LONGEST):
        raise InvalidOption(f"{name}={value!r}: more than 100 years ahead")
    return max(0, round(value.timestamp() * 1000))  # what was due before 1970 is due now


def _to_seconds(options: object, least: Mapping[str, float]) -> None:
    """Durations may be given in every form; from then on they are seconds."""
    for name, smallest in least.items():
        object.__setattr__(options, name, seconds(getattr(options, name), name, least=smallest))


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Settings of a worker process.

    concurrency: how many tasks run at the same time in one process.
    types: the task types to serve; None serves all of the app.
    drain_timeout: seconds that running tasks get to finish after SIGTERM before they are handed back.
    block: seconds one blocking read lasts; it is how often an idle worker speaks to the server.
    heartbeat: seconds between two signs of life.
    fairness: seconds after which a lower priority gets a turn although higher ones have work.
    process_slots: how many processes run handlers with executor="process"; None is one a core.
    """

    concurrency: int = 100
    types: tuple[str, ...] | None = None
    drain_timeout: float = 30.0
    block: float = 5.0
    heartbeat: float = 5.0
    fairness: float = 3.0
    process_slots: int | None = None

    def __post_init__(self) -> None:
        whole(self.concurrency, "concurrency", least=1)
        least = {"drain_timeout": 0.0, "block": 0.05, "heartbeat": 0.05, "fairness": 0.0}
        _to_seconds(self, least)
        if isinstance(self.types, str):
            raise InvalidOption(f"types={self.types!r}: write several names, as ({self.types!r},)")
        if self.process_slots is not None:
            whole(self.process_slots, "process_slots", least=1)


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """Settings of the daemon.

    claim_interval: seconds between two looks for deliveries whose worker is silent.
    tidy_interval: seconds between two rounds of housekeeping.
    discover_interval: seconds between two looks for new apps and task types.
    sample_interval: seconds between two notes of what was counted, for rates and charts.
    consumer_idle: seconds after which a consumer that holds nothing and sends no heartbeat is removed.
    gone_retention: seconds for which it is known that a task was cancelled or expired.
    heartbeat: seconds between two signs of life.
    batch: how many tasks one script call moves at most.
    """

    claim_interval: float = 3.0
    tidy_interval: float = 30.0
    discover_interval: float = 10.0
    sample_interval: float = 15.0
    consumer_idle: float = 3600.0
    gone_retention: float = 86400.0
    heartbeat: float = 10.0
    batch: int = 50

    def __post_init__(self) -> None:
        intervals = ("claim_interval", "tidy_interval", "discover_interval", "heartbeat", "sample_interval")
        _to_seconds(self, dict.fromkeys(intervals, 0.01) | {"consumer_idle": 0.0, "gone_retention": 0.0})
        whole(self.batch, "batch", least=1)

"""The policy of a task type: what `@app.task(...)` takes.

Owns its defaults, its checks, and the part of it that Redis keeps for enqueue and the daemon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from streamq.errors import InvalidOption
from streamq.model import Priority
from streamq.options.checks import (
    Durability,
    Duration,
    Executor,
    durability,
    priority,
    reject_unknown,
    seconds,
    whole,
)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` tasks of a type accepted in any window of `period` seconds."""

    count: int
    period: float

    if TYPE_CHECKING:  # the period may be given in every form; the field is seconds

        def __init__(self, count: int, period: Duration) -> None: ...

    def __post_init__(self) -> None:
        whole(self.count, "rate_limit: count", least=1, most=1_000_000)
        object.__setattr__(self, "period", seconds(self.period, "rate_limit: period", least=0.001))

    @classmethod
    def parse(cls, value: RateLimit | str | None) -> RateLimit | None:
        """Read "100/1m", "100/s" or a RateLimit."""
        if value is None:
            return None
        if isinstance(value, RateLimit):
            return value
        count, slash, period = str(value).partition("/")
        good = slash and count.isascii() and count.isdigit() and len(count) <= 7
        if not good or not 1 <= int(count) <= 1_000_000:
            raise InvalidOption(
                f"rate_limit={value!r:.80}: write it as '100/1m' (1 to 1,000,000 tasks in a period)"
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
    max_lost: how many deliveries in a row may be lost before the task is dead. The last of them is run in
        a child process of its own, whose death proves that it was this task; together with their whole
        worker three times as many may be lost. 1: a task that was lost is never run again.
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
    reject_unknown(given, ["name", *(f.name for f in fields(TaskOptions))], "@task")
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

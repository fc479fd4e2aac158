"""Declare the options for type checkers. Their meaning and limits are in `table`.

Owns static types only: nothing here is checked at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from tenacity import RetryCallState

    from streamq.model.task import Priority
    from streamq.options.batch import Batch
    from streamq.options.checks import Durability, Duration, Executor, Extra, LogLevel
    from streamq.options.lane import Lane, StartRate
    from streamq.options.rate import RateLimit
    from streamq.options.schedule import Cron, Every, Schedule
    from streamq.options.unique import Unique


class PolicyOfAny(TypedDict, total=False):
    """The arguments that `@app.task(...)` and the `@task(...)` of Django have alike: see TaskOptions."""

    max_attempts: int
    timeout: Duration | None
    backoff: Callable[[RetryCallState], float] | None
    retry_on: type[BaseException] | tuple[type[BaseException], ...]
    give_up_on: type[BaseException] | tuple[type[BaseException], ...]
    expires: Duration | None
    retention: Duration
    lease: Duration
    max_lost: int
    executor: Executor
    rate_limit: RateLimit | str | None
    max_backlog: int | None
    max_payload: int
    durability: Durability
    schedule: Cron | Every | Schedule | None
    unique: Unique | str | bool | None
    debounce: Duration | None
    max_wait: Duration | None
    throttle: Duration | None
    trailing: bool | None
    version: int
    aliases: Sequence[str]
    extra: Extra
    lane: Lane | None
    running: int | None
    start_rate: StartRate | str | None
    within: Duration | None
    slots: int | None
    resources: Mapping[str, int] | None
    logs: LogLevel | None
    queue: str


class Policy(PolicyOfAny, total=False):
    """The arguments of `@app.task(...)`; see TaskOptions for each."""

    priority: Priority
    batch: Batch | int | None


class CallOfAny(TypedDict, total=False):
    """The arguments that `.options(...)` and `Task.using(...)` of Django have alike: of one call."""

    expires: Duration | None
    timeout: Duration | None
    max_attempts: int | None
    retention: Duration | None
    lane: str | None
    cost: int | None
    shard_key: str | None
    idempotency_key: str | None
    idempotency_window: Duration | None
    durability: Durability | None
    unique: Unique | str | bool | None
    debounce: Duration | None
    max_wait: Duration | None
    throttle: Duration | None
    trailing: bool | None


class PerCall(CallOfAny, total=False):
    """The arguments of `.options(...)` and `send`: time, priority, shard, and overrides of the policy."""

    delay: Duration | None
    at: datetime | None
    priority: Priority | None
    pool: str | None
    version: int | None

"""Define the policy of a task type: what `@app.task(...)` takes.

Owns its defaults, and the part of it that Redis stores for enqueue and the daemon. Reads nothing from Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamq.errors import InvalidOption
from streamq.options.checks import reject_unknown
from streamq.options.table import POLICY, descriptions
from streamq.options.unique_plan import plan, unique_options

if TYPE_CHECKING:
    from streamq.model.task import Priority
    from streamq.options.batch import Batch
    from streamq.options.checks import Durability, Executor, Extra, LogLevel
    from streamq.options.lane import Lane, StartRate
    from streamq.options.rate import RateLimit
    from streamq.options.schedule import Schedule
    from streamq.options.unique import Unique

NO_BACKLOG_LIMIT = 999_999_999_999_999
"""More than any queue holds, and as many digits as a script reads."""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The policy of a task type."""

    max_attempts: int = 5
    timeout: float | None = 30.0
    backoff: Callable[..., float] | None = None
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
    schedule: Schedule | None = None
    unique: Unique | str | bool | None = None
    debounce: float | None = None
    max_wait: float | None = None
    throttle: float | None = None
    trailing: bool | None = None
    version: int = 1
    aliases: tuple[str, ...] = ()
    extra: Extra = "refuse"
    lane: Lane | None = None
    running: int | None = None
    start_rate: StartRate | None = None
    queue: str = "default"
    within: float | None = None
    slots: int | None = None
    resources: tuple[tuple[str, int], ...] | None = None
    batch: Batch | None = None
    logs: LogLevel | None = None

    @property
    def gated(self) -> bool:
        """Whether tasks may have to wait for a slot, a token, their turn or their order."""
        return self.lane is not None or self.running is not None or self.start_rate is not None

    def policy(self) -> dict[str, str]:
        """Return what Redis stores of the policy: what enqueue's limits and the daemon need."""
        from streamq.options.words import words  # noqa: PLC0415 - only who registers a type needs it

        stored = {"lease_ms": _ms(self.lease), "max_lost": str(self.max_lost), "words": words(self)}
        if self.version > 1:
            stored["version"] = str(self.version)
        if self.rate_limit is not None:
            stored["rate_limit"] = str(self.rate_limit.count)
            stored["rate_period_ms"] = _ms(self.rate_limit.period)
        if self.within is not None:
            stored["within_ms"] = _ms(self.within)
        if self.max_backlog is not None:
            stored["max_backlog"] = str(self.max_backlog)
        if (lock := plan(unique_options(self))) is not None:
            # The fast path of the enqueue script checks limits only, so the type gets one: a call by name
            # then learns that it must read this rule.
            stored["rich"], stored["unique"] = "1", lock.stored()
            stored.setdefault("max_backlog", _NO_BACKLOG)
        if self.gated:
            from streamq.options.lane import gate  # noqa: PLC0415 - few types have limits

            stored["gate"] = gate(self.running, self.start_rate, self.lane)
            # A producer that does not know of the lanes must be told: see enqueue.lua.
            stored.setdefault("max_backlog", str(NO_BACKLOG_LIMIT))
            if self.lane is not None and self.lane.argument:
                stored["lane"] = self.lane.argument
        return stored


_NO_BACKLOG = str(10**15)
"""A number that is too long for the enqueue script: no limit."""


def _ms(value: float) -> str:
    return str(round(value * 1000))


TaskOptions.__doc__ = f"The policy of a task type.\n\n{descriptions(POLICY)}\n    "


def task_options(given: Mapping[str, object]) -> TaskOptions:
    """Check the arguments of `@app.task(...)`. InvalidOption names the fault."""
    reject_unknown(given, ["name", *POLICY], "@task")
    checked: dict[str, Any] = {name: POLICY[name].check(value, name) for name, value in given.items()}
    options = TaskOptions(**checked)
    if isinstance(options.unique, str):
        raise InvalidOption(
            f"unique={options.unique!r:.80}: the text of a key is for a single call, .options(unique=...). A "
            "policy names the arguments: Unique(by=('customer_id',))"
        )
    plan(unique_options(options))  # what contradicts itself
    if options.batch is not None and (options.slots is not None or options.resources):
        raise InvalidOption(
            "batch excludes slots and resources: a batch is one call. Limit the type with running="
        )
    if options.batch is not None and options.logs is not None:
        raise InvalidOption("batch excludes logs: a record of a batch is of many tasks. Leave logs out")
    if options.lane is not None and options.lane.order and options.priority != "normal":
        raise InvalidOption(
            f"priority={options.priority!r} and Lane(order=True) exclude each other: tasks of an ordered "
            "lane run in the order they were accepted"
        )
    return options

"""Define the policy of a task type: what `@app.task(...)` takes.

Owns its options, each with its default, check and documentation, and the part of it that Redis stores for
enqueue and the daemon. What a caller may pass for an option is in `typed`. Reads nothing from Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streamq.errors import InvalidOption
from streamq.model.task import PRIORITIES
from streamq.options import checks
from streamq.options.checks import reject_unknown
from streamq.options.option import declared, descriptions, loaded, option, seconds_from, whole_from
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


_rate, _batch = loaded("rate", "rate_limit"), loaded("batch", "batch")
_lane, _start_rate = loaded("lane", "lane"), loaded("lane", "start_rate")
_label, _resources = loaded("placement", "label"), loaded("placement", "resources")
_schedule, _unique, _window = (
    loaded("schedule", "schedule"),
    loaded("unique", "unique"),
    loaded("unique", "window"),
)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The policy of a task type."""

    # fmt: off
    max_attempts: int = option(
        5, whole_from(1), "how often it may fail", "Then the task is dead. 1 means no retries.",
        per_call=True, stored=(1, int), metavar="NUMBER",
    )
    timeout: float | None = option(
        30.0, checks.or_none(seconds_from(0.001)), "how long an attempt may take",
        "None means no limit. A thread cannot be stopped: see `executor`.",
        per_call=True, stored=(0.001, int | float), metavar="DURATION",
    )
    backoff: Callable[..., float] | None = option(
        None, checks.callable_or_none, "a tenacity wait object",
        "None means exponential with full jitter, from 1 s doubling up to 5 min.",
    )
    retry_on: tuple[type[BaseException], ...] = option(
        (Exception,), checks.exceptions, "exceptions that are retried",
    )
    give_up_on: tuple[type[BaseException], ...] = option(
        (), checks.exceptions, "exceptions among those that are not retried",
    )
    expires: float | None = option(
        None, checks.or_none(seconds_from(0.001)), "do not run the task if it is older than this",
        "Checked when a worker takes it; None means never.", per_call=True, metavar="DURATION",
    )
    retention: float = option(
        86400.0, seconds_from(0.0), "how long its result is kept", "0 keeps none.",
        per_call=True, stored=(0, int | float), metavar="DURATION",
    )
    lease: float = option(
        10.0, seconds_from(0.2), "how long a worker may be silent before its tasks are given to others",
        "Renewed while the worker lives.",
    )
    max_lost: int = option(
        3, whole_from(1), "how many deliveries in a row may be lost before the task is dead",
        "The last of them runs in a child process of its own, whose death proves that this task caused it. "
        "If the whole worker dies, three times as many may be lost. With 1, a lost task never runs again.",
    )
    priority: Priority = option(
        "normal", checks.priority, "high runs before normal before low", "The default for tasks of the type.",
        per_call=True, choices=PRIORITIES,
    )
    executor: Executor = option(
        "auto", checks.executor, '"auto", "thread" or "process"',
        'auto means the event loop for `async def`, a thread for `def`. A process is killed at the timeout.',
    )
    rate_limit: RateLimit | None = option(
        None, _rate, "how many tasks are accepted in a period",
        "Over all producers; None means no limit.",
    )
    max_backlog: int | None = option(
        None, checks.or_none(whole_from(1)), "how many tasks may be accepted and not ended",
        "Over all producers; None means no limit.",
    )
    max_payload: int = option(1024 * 1024, whole_from(1), "largest payload in bytes")
    durability: Durability = option(
        "master", checks.durability, "what to wait for: master (default), aof, replicas:1 to :5",
        "What must hold a task before enqueue returns: the server's memory, its append-only file (fsynced) "
        "or this many replicas.", per_call=True,
    )
    schedule: Schedule | None = option(
        None, _schedule, "run it again and again: Cron, Every or a Schedule of them",
        "The handler is called without arguments; workers register the schedule when they start.",
    )
    unique: Unique | str | bool | None = option(
        None, checks.or_none(_unique), "one task at a time for each key",
        "Unique(by=('customer_id',)): the arguments that make up the key, until when it is held, and what a "
        "call does if it is held. True: all arguments. False: no key. In options() also the text of a key.",
        per_call=True, metavar="KEY",
    )
    debounce: float | None = option(
        None, checks.or_none(_window), "run this long after the last call of the key",
        "With the last call's arguments.", per_call=True, metavar="DURATION",
    )
    max_wait: float | None = option(
        None, checks.or_none(_window), "how long debounce may wait after the first call",
        "None: no limit.", per_call=True, metavar="DURATION",
    )
    throttle: float | None = option(
        None, checks.or_none(_window), "run the first call of the key, and no other within this time",
        "The other calls return the handle of that task.", per_call=True, metavar="DURATION",
    )
    trailing: bool | None = option(
        None, checks.or_none(checks.flag), "run the last call within throttle's time, once, at its end",
        "The calls after the first return the handle of that run.", per_call=True, flag=True,
    )
    version: int = option(
        1, whole_from(1), "the version of its arguments",
        "Raise it when old arguments need an upcaster: see `TaskType.upcast`. Older workers leave such tasks "
        "alone. In options() only for `send`, of a type whose code is elsewhere.",
        per_call=True, metavar="NUMBER",
    )
    aliases: tuple[str, ...] = option(
        (), checks.names, "its former names", "Workers serve the tasks of these names too.",
    )
    extra: Extra = option(
        "refuse", checks.extra, "what becomes of an argument that the handler does not have",
        '"refuse" makes a dead letter of the task, "ignore" drops the argument.',
    )
    lane: Lane | None = option(
        None, _lane, "what waits together, by the value of an argument: Lane('customer_id', running=2)",
        "Limits, a rate, fair share or order by lane: see Lane.",
    )
    running: int | None = option(
        None, checks.or_none(whole_from(0)), "how many may be ready or running at once",
        "Over all workers; the rest waits in its lanes. None is no limit.",
    )
    start_rate: StartRate | None = option(
        None, checks.or_none(_start_rate), "how many may start in a time: 50/s, 100/1m",
        "Over all workers; the rest waits in its lanes. `rate_limit` refuses at enqueue instead. None is no "
        "limit.",
    )
    queue: str = option(
        "default", _label, "a label that workers choose types by: streamq worker --queues media,default",
    )
    within: float | None = option(
        None, checks.or_none(seconds_from(0.001)), "how soon a task should start",
        "A worker with too few slots takes first from the type whose tasks come closest to that. Also the "
        "target of `desired` workers at /backlog.",
    )
    slots: int | None = option(
        None, checks.or_none(whole_from(1)), "how many may run at once in one worker process",
        "None: as many as it has slots. `running` limits all workers together.",
    )
    resources: tuple[tuple[str, int], ...] | None = option(
        None, checks.or_none(_resources), "what a task needs of its worker: {'gpu': 1}",
        "Against streamq worker --resources gpu=2. A worker that has too little leaves the type to others.",
    )
    batch: Batch | None = option(
        None, checks.or_none(_batch), "call the handler with many tasks at once: Batch(100, linger='2s')",
        "It takes a list of items, and each task has its own outcome: see Batch.",
    )
    logs: LogLevel | None = option(
        None, checks.or_none(checks.log_level),
        "show log records of its handler to who watches a task: info, warning, …",
        "Those of the standard logging, from this level on: debug, info, warning or error. None shows none.",
    )

    # fmt: on

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


POLICY: Final = declared(TaskOptions, policy=True)
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

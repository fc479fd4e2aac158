"""Declare every option of a task type and of a single call once: a new option is a row here.

Owns the names, the checks, where each option may be given, how it reaches the worker, and its documentation.
Its static type is declared in `typed`, and in TaskOptions or CallOptions; a test checks that they agree.
"""

from __future__ import annotations

from importlib import import_module
from types import UnionType
from typing import Final, NamedTuple

from streamq.model.task import PRIORITIES
from streamq.options.checks import (
    Check,
    callable_or_none,
    durability,
    exceptions,
    executor,
    extra,
    flag,
    key_text,
    log_level,
    moment_ms,
    names,
    or_none,
    priority,
    seconds,
    whole,
    window_ms,
)


class Option(NamedTuple):
    """One option. doc: a one-line description; more: further details.

    policy: `@app.task(...)` takes it. per_call: `.options(...)`, `send` and `streamq enqueue` take it.
    stored: for an option that travels in the envelope's field `m` if it differs from the policy: its minimum
    and its type. field: the field of CallOptions, if it has another name. metavar, choices: its value on the
    command line, where a `flag` has none.
    """

    name: str
    check: Check
    doc: str
    more: str = ""
    policy: bool = True
    per_call: bool = False
    stored: tuple[float, type | UnionType] | None = None
    field: str = ""
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    flag: bool = False


def _seconds(least: float) -> Check:
    return lambda value, name: seconds(value, name, least=least)


def _in(module: str, name: str) -> Check:
    """Return a check of a module that is loaded when the option is first given: most programs never do."""

    def check(value: object, option: str) -> object:
        found: Check = getattr(import_module(module), name)
        return found(value, option)

    return check


_rate: Final = _in("streamq.options.rate", "rate_limit")
_batch: Final = _in("streamq.options.batch", "batch")
_lane, _lane_name, _cost, _start_rate = (
    _in("streamq.options.lane", name) for name in ("lane", "lane_name", "cost", "start_rate")
)
_label, _resources = (_in("streamq.options.placement", name) for name in ("label", "resources"))
_schedule: Final = _in("streamq.options.schedule", "schedule")
_unique, _window = (_in("streamq.options.unique", name) for name in ("unique", "window"))


def _whole(least: int) -> Check:
    return lambda value, name: whole(value, name, least=least)


OPTIONS: Final = (
    Option(
        "max_attempts", _whole(1), "how often it may fail", "Then the task is dead. 1 means no retries.",
        per_call=True, stored=(1, int), metavar="NUMBER",
    ),
    Option(
        "timeout", or_none(_seconds(0.001)), "how long an attempt may take",
        "None means no limit. A thread cannot be stopped: see `executor`.",
        per_call=True, stored=(0.001, int | float), metavar="DURATION",
    ),
    Option(
        "backoff", callable_or_none, "a tenacity wait object",
        "None means exponential with full jitter, from 1 s doubling up to 5 min.",
    ),
    Option("retry_on", exceptions, "exceptions that are retried"),
    Option("give_up_on", exceptions, "exceptions among those that are not retried"),
    Option(
        "expires", or_none(_seconds(0.001)), "do not run the task if it is older than this",
        "Checked when a worker takes it; None means never.", per_call=True, metavar="DURATION",
    ),
    Option(
        "retention", _seconds(0.0), "how long its result is kept", "0 keeps none.",
        per_call=True, stored=(0, int | float), metavar="DURATION",
    ),
    Option(
        "lease", _seconds(0.2), "how long a worker may be silent before its tasks are given to others",
        "Renewed while the worker lives.",
    ),
    Option(
        "max_lost", _whole(1), "how many deliveries in a row may be lost before the task is dead",
        "The last of them runs in a child process of its own, whose death proves that this task caused it. "
        "If the whole worker dies, three times as many may be lost. With 1, a lost task never runs again.",
    ),
    Option(
        "priority", priority, "high runs before normal before low", "The default for tasks of the type.",
        per_call=True, choices=PRIORITIES,
    ),
    Option(
        "executor", executor, '"auto", "thread" or "process"',
        'auto means the event loop for `async def`, a thread for `def`. A process is killed at the timeout.',
    ),
    Option(
        "rate_limit", _rate, "how many tasks are accepted in a period",
        "Over all producers; None means no limit.",
    ),
    Option(
        "max_backlog", or_none(_whole(1)), "how many tasks may be accepted and not ended",
        "Over all producers; None means no limit.",
    ),
    Option("max_payload", _whole(1), "largest payload in bytes"),
    Option(
        "durability", durability, "what to wait for: master (default), aof, replicas:1 to :5",
        "What must hold a task before enqueue returns: the server's memory, its append-only file (fsynced) "
        "or this many replicas.", per_call=True,
    ),
    Option(
        "schedule", _schedule, "run it again and again: Cron, Every or a Schedule of them",
        "The handler is called without arguments; workers register the schedule when they start.",
    ),
    Option(
        "unique", or_none(_unique), "one task at a time for each key",
        "Unique(by=('customer_id',)): the arguments that make up the key, until when it is held, and what a "
        "call does if it is held. True: all arguments. False: no key. In options() also the text of a key.",
        per_call=True, metavar="KEY",
    ),
    Option(
        "debounce", or_none(_window), "run this long after the last call of the key",
        "With the last call's arguments.", per_call=True, metavar="DURATION",
    ),
    Option(
        "max_wait", or_none(_window), "how long debounce may wait after the first call",
        "None: no limit.", per_call=True, metavar="DURATION",
    ),
    Option(
        "throttle", or_none(_window), "run the first call of the key, and no other within this time",
        "The other calls return the handle of that task.", per_call=True, metavar="DURATION",
    ),
    Option(
        "trailing", or_none(flag), "run the last call within throttle's time, once, at its end",
        "The calls after the first return the handle of that run.", per_call=True, flag=True,
    ),
    Option(
        "version", _whole(1), "the version of its arguments",
        "Raise it when old arguments need an upcaster: see `TaskType.upcast`. Older workers leave such tasks "
        "alone. In options() only for `send`, of a type whose code is elsewhere.",
        per_call=True, metavar="NUMBER",
    ),
    Option(
        "aliases", names, "its former names", "Workers serve the tasks of these names too.",
    ),
    Option(
        "extra", extra, "what becomes of an argument that the handler does not have",
        '"refuse" makes a dead letter of the task, "ignore" drops the argument.',
    ),
    Option(
        "lane", _lane, "what waits together, by the value of an argument: Lane('customer_id', running=2)",
        "Limits, a rate, fair share or order by lane: see Lane.",
    ),
    Option(
        "running", or_none(_whole(0)), "how many may be ready or running at once",
        "Over all workers; the rest waits in its lanes. None is no limit.",
    ),
    Option(
        "start_rate", or_none(_start_rate), "how many may start in a time: 50/s, 100/1m",
        "Over all workers; the rest waits in its lanes. `rate_limit` refuses at enqueue instead. None is no "
        "limit.",
    ),
    Option(
        "queue", _label, "a label that workers choose types by: streamq worker --queues media,default",
    ),
    Option(
        "within", or_none(_seconds(0.001)), "how soon a task should start",
        "A worker with too few slots takes first from the type whose tasks come closest to that. Also the "
        "target of `desired` workers at /backlog.",
    ),
    Option(
        "slots", or_none(_whole(1)), "how many may run at once in one worker process",
        "None: as many as it has slots. `running` limits all workers together.",
    ),
    Option(
        "resources", or_none(_resources), "what a task needs of its worker: {'gpu': 1}",
        "Against streamq worker --resources gpu=2. A worker that has too little leaves the type to others.",
    ),
    Option(
        "pool", or_none(_label), "run it on the workers of this pool: streamq worker --pools eu",
        "The task has its own queue and limits there.", policy=False, per_call=True,
    ),
    Option(
        "batch", or_none(_batch), "call the handler with many tasks at once: Batch(100, linger='2s')",
        "It takes a list of items, and each task has its own outcome: see Batch.",
    ),
    Option(
        "logs", or_none(log_level), "show log records of its handler to who watches a task: info, warning, …",
        "Those of the standard logging, from this level on: debug, info, warning or error. None shows none.",
    ),
    Option(
        "delay", _seconds(0.0), "run it later: 90s, 5m, 1h30m",
        policy=False, per_call=True, metavar="DURATION",
    ),
    Option(
        "at", moment_ms, "run it at this time: 2027-01-31T09:00Z, 2027-01-31T10:00+01:00",
        policy=False, per_call=True, field="at_ms", metavar="TIME",
    ),
    Option(
        "lane", _lane_name, "the lane it waits in, where its type has lanes", policy=False, per_call=True,
    ),
    Option(
        "cost", _cost, "what it counts for in its lane's rate and share (default 1)",
        policy=False, per_call=True, metavar="NUMBER",
    ),
    Option(
        "shard_key", key_text, "tasks with the same key go to the same shard", policy=False, per_call=True
    ),
    Option(
        "idempotency_key", key_text, "a name for this task: the same name again enqueues nothing new",
        policy=False, per_call=True,
    ),
    Option(
        "idempotency_window", window_ms, "how long the name is remembered (default 24h, at most 30d)",
        policy=False, per_call=True, field="window_ms", metavar="DURATION",
    ),
)  # fmt: skip

POLICY: Final = {option.name: option for option in OPTIONS if option.policy}
PER_CALL: Final = {option.name: option for option in OPTIONS if option.per_call}
STORED: Final = {option.name: option.stored for option in OPTIONS if option.stored is not None}


def descriptions(names: dict[str, Option]) -> str:
    """Return the options' descriptions, one paragraph each, for a docstring."""
    return "\n".join(
        f"    {one.name}: {one.doc}." + (f" {one.more}" if one.more else "") for one in names.values()
    )

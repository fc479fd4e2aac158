"""Options: frozen, validated, one documented field each.

Owns the policy of a task type, what a single call may set otherwise, and the settings of worker and
daemon. Durations are seconds, timedelta or text such as "5m" in the public API and seconds (float) in
these values. Does no I/O and reads no environment. A producer loads no settings of workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    from streamq.options.call import CallOptions as CallOptions
    from streamq.options.call import call_options as call_options
    from streamq.options.call import per_call as per_call
    from streamq.options.checks import DURABILITIES as DURABILITIES
    from streamq.options.checks import IDEMPOTENCY_WINDOW as IDEMPOTENCY_WINDOW
    from streamq.options.checks import LONGEST_KEY as LONGEST_KEY
    from streamq.options.checks import LONGEST_WINDOW as LONGEST_WINDOW
    from streamq.options.checks import Durability as Durability
    from streamq.options.checks import Duration as Duration
    from streamq.options.checks import Executor as Executor
    from streamq.options.checks import durability as durability
    from streamq.options.checks import key_text as key_text
    from streamq.options.checks import moment_ms as moment_ms
    from streamq.options.checks import priority as priority
    from streamq.options.checks import reject_unknown as reject_unknown
    from streamq.options.checks import seconds as seconds
    from streamq.options.checks import whole as whole
    from streamq.options.checks import window_ms as window_ms
    from streamq.options.rate import RateLimit as RateLimit
    from streamq.options.service import DaemonOptions as DaemonOptions
    from streamq.options.service import WorkerOptions as WorkerOptions
    from streamq.options.task import TaskOptions as TaskOptions
    from streamq.options.task import task_options as task_options
    from streamq.options.typed import PerCall as PerCall
    from streamq.options.typed import Policy as Policy

__all__, _named = lazy.names(__name__, {
    "call": ("CallOptions", "call_options", "per_call"),
    "checks": (
        "DURABILITIES", "Durability", "Duration", "Executor", "IDEMPOTENCY_WINDOW", "LONGEST_KEY",
        "LONGEST_WINDOW", "durability", "key_text", "moment_ms", "priority", "reject_unknown",
        "seconds", "whole", "window_ms",
    ),
    "service": ("DaemonOptions", "WorkerOptions"),
    "rate": ("RateLimit",),
    "task": ("TaskOptions", "task_options"),
    "typed": ("PerCall", "Policy"),
})  # fmt: skip  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    return _named(name)

"""The metrics that streamq exports: each name with its kind, unit, labels and meaning.

Owns the names. Nobody else spells one out for the first time: what is not listed here cannot be exported,
and what alerts and dashboards name is checked against it. Labels are bounded: never a task id or a host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max"]

SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400,
)  # fmt: skip
"""Upper bounds of the buckets: a queue's times reach from a millisecond to hours."""

LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `by`: who exports it. `merge`: how the values of several processes become one."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    by: str = "worker"
    merge: Merge = "sum"
    bounds: tuple[float, ...] = ()


def _queue_counter(event: str, about: str) -> Metric:
    return Metric(f"streamq_tasks_{event}_total", "counter", about, ("app", "type"), "daemon", "max")


_LISTED: Final = (
    # -- attempts, by the worker that made them
    Metric(
        "streamq_task_attempts_total",
        "counter",
        "Attempts that ended, by outcome: completed, retried, dead, cancelled, expired, handed_back.",
        ("app", "type", "outcome"),
    ),
    Metric(
        "streamq_task_exceptions_total",
        "counter",
        "Attempts that failed, by the class of the exception; `other` where a process saw over 50 classes.",
        ("app", "type", "exception"),
    ),
    Metric(
        "streamq_task_duration_seconds",
        "histogram",
        "How long handlers ran. Where tasks come fast, one in so many stands for the rest.",
        ("app", "type"),
        bounds=SECONDS,
    ),
    Metric(
        "streamq_task_wait_seconds",
        "histogram",
        "From a task's being ready (enqueued, moved, retried, returned, reclaimed) to its handler's start.",
        ("app", "type", "priority"),
        bounds=SECONDS,
    ),
    Metric(
        "streamq_task_lateness_seconds",
        "histogram",
        "From the due time of a delayed task to the start of its first attempt.",
        ("app", "type"),
        bounds=SECONDS,
    ),
    Metric(
        "streamq_leases_lost_total",
        "counter",
        "Deliveries that others took over while a worker held them.",
        ("app", "type"),
    ),
    # -- the worker group at this moment
    Metric("streamq_worker_running", "gauge", "Tasks whose handlers run.", ("app", "type")),
    Metric(
        "streamq_worker_oldest_running_seconds",
        "gauge",
        "How long the handler runs that has run longest.",
        ("app", "type"),
        merge="max",
    ),
    Metric(
        "streamq_worker_held",
        "gauge",
        "Deliveries in hand: running, waiting for a slot or for settlement.",
        ("app",),
    ),
    Metric("streamq_worker_slots", "gauge", "Tasks that can run at the same time.", ("app",)),
    Metric("streamq_worker_processes", "gauge", "Processes of the group that are alive."),
    Metric(
        "streamq_worker_process_restarts_total",
        "counter",
        "Processes that ended unasked and were started anew: crashed, wedged or worn_out.",
        ("reason",),
    ),
    # -- the queue, by any daemon (all say the same: take max, not sum)
    Metric(
        "streamq_queue_tasks",
        "gauge",
        "Tasks by state: ready, running, scheduled, parked, dead; suspect counts some of these again.",
        ("app", "type", "state"),
        "daemon",
        "max",
    ),
    Metric(
        "streamq_queue_oldest_seconds",
        "gauge",
        "Age of the oldest task: ready since then, or scheduled and overdue since then (0: none is).",
        ("app", "type", "state"),
        "daemon",
        "max",
    ),
    Metric(
        "streamq_queue_unaccounted",
        "gauge",
        "Accepted tasks minus those accounted for; not 0: run `streamq audit`.",
        ("app", "type"),
        "daemon",
        "max",
    ),
    Metric(
        "streamq_workers",
        "gauge",
        "Worker processes by their heartbeats: alive, draining, silent.",
        ("app", "state"),
        "daemon",
        "max",
    ),
    Metric(
        "streamq_workers_slots",
        "gauge",
        "Slots of all workers that are alive and not draining.",
        ("app",),
        "daemon",
        "max",
    ),
    Metric(
        "streamq_queue_paused",
        "gauge",
        "Whether an operator has paused the task type.",
        ("app", "type"),
        "daemon",
        "max",
    ),
    Metric(
        "streamq_queue_more_types",
        "gauge",
        "Task types that no other metric of the queue has: 2,000 (times shards) are looked at.",
        (),
        "daemon",
        "max",
    ),
    _queue_counter("accepted", "Tasks that enqueue accepted."),
    _queue_counter("started", "Attempts that ended, or whose worker died."),
    _queue_counter("completed", "Tasks that completed."),
    _queue_counter("retried", "Attempts that failed and were followed by another."),
    _queue_counter("dead", "Tasks that became dead letters."),
    _queue_counter("reclaimed", "Deliveries taken back from workers that fell silent."),
    _queue_counter("cancelled", "Tasks that were cancelled."),
    _queue_counter("expired", "Tasks that were too old to be run."),
    _queue_counter("handed_back", "Deliveries that workers gave back unharmed."),
    _queue_counter("requeued", "Dead letters put back."),
    _queue_counter("purged", "Dead letters deleted."),
    _queue_counter("adopted", "Entries that streamq did not write."),
    _queue_counter("repaired", "Tasks that housekeeping or an audit put right."),
    _queue_counter("vanished", "Tasks that something else deleted, once written off."),
    # -- the daemon
    Metric(
        "streamq_promoter_lag_seconds",
        "histogram",
        "How late the promoter came to a due time that it knew.",
        by="daemon",
        bounds=LAGS,
    ),
    Metric(
        "streamq_daemon_promoted_total",
        "counter",
        "Tasks that this daemon promoted.",
        ("app", "type"),
        "daemon",
    ),
    Metric(
        "streamq_daemon_rounds_total",
        "counter",
        "Rounds of each chore, by outcome: ok, partly, failed.",
        ("chore", "outcome"),
        "daemon",
    ),
    Metric(
        "streamq_daemon_faults",
        "gauge",
        "Faults of single apps, shards and types in the last rounds: /ready and the heartbeat name them.",
        (),
        "daemon",
    ),
    Metric(
        "streamq_daemon_last_round_timestamp_seconds",
        "gauge",
        "When a chore's last good round ended.",
        ("chore",),
        "daemon",
        "max",
    ),
    # -- both, and the dashboard
    Metric(
        "streamq_event_loop_lag_seconds",
        "histogram",
        "How late the event loop came to a timer.",
        (),
        "both",
        bounds=LAGS,
    ),
    Metric(
        "streamq_redis_errors_total",
        "counter",
        "Calls that the server did not answer or refused.",
        ("doing",),
        "both",
    ),
    Metric(
        "streamq_redis_reconnects_total",
        "counter",
        "Times that the server was found again after an outage.",
        ("doing",),
        "both",
    ),
    Metric("streamq_redis_up", "gauge", "Whether the server answered this scrape.", (), "daemon"),
    Metric("streamq_redis_memory_used_bytes", "gauge", "Memory that the server uses.", (), "daemon"),
    Metric("streamq_redis_memory_max_bytes", "gauge", "The server's maxmemory; 0 is no limit.", (), "daemon"),
    Metric("streamq_ready", "gauge", "Whether this process is ready, as /ready says.", ("role",), "both"),
    Metric(
        "streamq_build_info",
        "gauge",
        "Always 1; the labels tell the versions.",
        ("role", "version", "python"),
        "both",
        "max",
    ),
)

METRICS: Final = {metric.name: metric for metric in _LISTED}
"""Every metric by the name that Prometheus shows."""


def base(name: str) -> str:
    """The metric of a sample: a histogram's are called _bucket, _sum and _count."""
    short = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
    return short if short in METRICS and METRICS[short].kind == "histogram" else name


def exported(name: str) -> bool:
    """Whether a query may name this sample."""
    return base(name) in METRICS

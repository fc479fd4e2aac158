"""The metrics that streamq exports: each name with its kind, unit, labels and meaning.

Owns the names. A metric that is not listed here cannot be exported, and tests check the names in alerts and
dashboards against this list. Labels are bounded: a label is never a task id or a host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from streamq.model.counts import COUNTERS

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max"]

SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400,
)  # fmt: skip
"""Upper bounds of the buckets: a queue's times range from a millisecond to hours."""

LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `by`: which kind of process exports it. `merge`: how several processes' values combine."""

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
    # -- attempts, exported by the worker that ran them
    Metric(
        "streamq_task_attempts_total",
        "counter",
        "Attempts that ended, by outcome: completed, retried, dead, cancelled, expired, handed_back.",
        ("app", "type", "outcome"),
    ),
    Metric(
        "streamq_task_exceptions_total",
        "counter",
        "Failed attempts by exception class; `other` once a process has seen more than 50 classes.",
        ("app", "type", "exception"),
    ),
    Metric(
        "streamq_task_duration_seconds",
        "histogram",
        "How long handlers ran. At high task rates it is sampled, and each sample is weighted.",
        ("app", "type"),
        bounds=SECONDS,
    ),
    Metric(
        "streamq_task_wait_seconds",
        "histogram",
        "From a task becoming ready (enqueued, moved, retried, returned, reclaimed) to its handler's start.",
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
        "Deliveries fenced: taken over by another worker while this one held them.",
        ("app", "type"),
    ),
    # -- the current state of the worker group
    Metric("streamq_worker_running", "gauge", "Tasks whose handlers are running.", ("app", "type")),
    Metric(
        "streamq_worker_oldest_running_seconds",
        "gauge",
        "How long the longest-running handler has been running.",
        ("app", "type"),
        merge="max",
    ),
    Metric(
        "streamq_worker_held",
        "gauge",
        "Deliveries in flight: running, waiting for a slot, or waiting for settlement.",
        ("app",),
    ),
    Metric("streamq_worker_slots", "gauge", "Tasks that can run at the same time.", ("app",)),
    Metric("streamq_worker_processes", "gauge", "Processes of the group that are alive."),
    Metric(
        "streamq_worker_process_restarts_total",
        "counter",
        "Processes that exited without being asked to and were restarted: crashed, wedged or worn_out.",
        ("reason",),
    ),
    # -- the queue, exported by every daemon (all report the same values: take max, not sum)
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
        "Age of the oldest ready task, or how long the oldest scheduled task is overdue (0: none).",
        ("app", "type", "state"),
        "daemon",
        "max",
    ),
    Metric(
        "streamq_queue_unaccounted",
        "gauge",
        "Accepted tasks minus those accounted for. If it is not 0, run `streamq audit`.",
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
        "streamq_queue_workers_desired",
        "gauge",
        "Worker processes that the task type needs for what arrives and waits, each with the usual slots.",
        ("app", "type"),
        "daemon",
        "max",
    ),
    Metric(
        "streamq_queue_more_types",
        "gauge",
        "Task types left out of the other queue metrics: at most 2,000 (types times shards) are counted.",
        (),
        "daemon",
        "max",
    ),
    *(_queue_counter(event, about) for event, about in COUNTERS.items()),
    # -- the daemon
    Metric(
        "streamq_promoter_lag_seconds",
        "histogram",
        "How late the promoter acted on a due time it knew.",
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
        "streamq_schedule_runs_total",
        "counter",
        "Runs of recurring tasks that this daemon made.",
        ("app", "type"),
        "daemon",
    ),
    Metric(
        "streamq_schedule_skipped_total",
        "counter",
        "Runs of recurring tasks that were skipped, by reason: misfire, overlap, backlog, rate_limit, past, "
        "unique.",
        ("app", "type", "reason"),
        "daemon",
    ),
    Metric(
        "streamq_schedule_lateness_seconds",
        "histogram",
        "From the due time of a recurring task's run to its being made.",
        ("app", "type"),
        "daemon",
        bounds=SECONDS,
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
        "Faults of single apps, shards and types in recent rounds; /ready and the heartbeat list them.",
        (),
        "daemon",
    ),
    Metric(
        "streamq_daemon_last_round_timestamp_seconds",
        "gauge",
        "When a chore's last successful round ended.",
        ("chore",),
        "daemon",
        "max",
    ),
    # -- both, and the dashboard
    Metric(
        "streamq_event_loop_lag_seconds",
        "histogram",
        "How late the event loop ran a timer.",
        (),
        "both",
        bounds=LAGS,
    ),
    Metric(
        "streamq_redis_errors_total",
        "counter",
        "Calls that Redis refused or did not answer.",
        ("doing",),
        "both",
    ),
    Metric(
        "streamq_redis_reconnects_total",
        "counter",
        "Reconnections to Redis after an outage.",
        ("doing",),
        "both",
    ),
    Metric("streamq_redis_up", "gauge", "Whether Redis answered during this scrape.", (), "daemon"),
    Metric("streamq_redis_memory_used_bytes", "gauge", "Memory that Redis uses.", (), "daemon"),
    Metric("streamq_redis_memory_max_bytes", "gauge", "maxmemory of Redis; 0: no limit.", (), "daemon"),
    Metric("streamq_ready", "gauge", "Whether this process is ready, as in /ready.", ("role",), "both"),
    Metric(
        "streamq_build_info",
        "gauge",
        "Always 1; the labels hold the versions.",
        ("role", "version", "python"),
        "both",
        "max",
    ),
)

METRICS: Final = {metric.name: metric for metric in _LISTED}
"""Every metric by its Prometheus name."""

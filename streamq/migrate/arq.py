"""What arq's names become here. Owns this table only."""

from __future__ import annotations

from typing import Final

from streamq.migrate import systems
from streamq.migrate.systems import System, joined, rows, words

_OPTIONS: Final = rows("option", {
    "_job_id": (systems.KEY, "changed"),
    "_defer_by": 'options(delay="1m")',
    "_defer_until": "options(at=...)",
    "_expires": "options(expires=...)",
    "_job_try": ("nothing: attempts are counted by the queue", "changed"),
    "_queue_name": (systems.TYPES, "changed"),
})  # fmt: skip
_POLICY: Final = rows("option", {
    "name": "name=",
    "timeout": systems.TIMEOUT,
    "max_tries": (systems.SAME_ATTEMPTS, "changed"),
    "keep_result keep_result_forever": "retention=",
    "unique": "nothing: a run of a schedule exists once",
    "run_at_startup": ("app.schedules.run_now(name)", "changed"),
    "month day weekday hour minute second": 'Cron("..."), to the minute; Every("10s") for seconds',
})  # fmt: skip

ARQ: Final = System(
    name="arq",
    roots=("arq",),
    apps=words("arq.create_pool arq.connections.create_pool arq.ArqRedis arq.connections.ArqRedis"),
    decorators=frozenset(),
    names=joined(
        rows("app", {
            "arq.create_pool arq.connections.create_pool": "StreamQ(name): connects on its first call",
            "arq.connections.RedisSettings": systems.URL,
            "arq.connections.ArqRedis arq.ArqRedis": "StreamQ",
        }),
        rows("task type", {"arq.func arq.worker.func": systems.DEFINE}),
        rows("schedule", {"arq.cron arq.cron.cron": systems.CRON}),
        rows("option", {"arq.Retry arq.worker.Retry": systems.RETRY}),
        rows("result", {
            "arq.jobs.Job": systems.HANDLE,
            "arq.jobs.JobStatus": "handle.status(): ready, running, completed, dead, ...",
            "arq.jobs.*": "handle.result(), handle.status()",
        }),
        rows("worker", {"arq.worker.* arq.run_worker arq.Worker arq.cli.*": (systems.WORKER, "changed")}),
        rows("other", {"arq.logs.*": "streamq worker --log-format", "arq.constants.*": ("", "none")}),
    ),
    app_methods=joined(
        rows("enqueue", {"enqueue_job": "task.aenqueue(...), or await app.asend(\"name\", {...})"}),
        rows("result", {"all_job_results queued_jobs": "await app.ainspector.tasks(state)"}),
    ),
    task_methods=rows("enqueue", {"enqueue_job": systems.SEND}),
    loose=words("enqueue_job"),
    task_options=_POLICY,
    send_options=_OPTIONS,
    settings=joined(
        rows("schedule", {"cron_jobs": systems.CRON}),
        rows("hook", {
            "on_startup on_shutdown": (f"{systems.LIFESPAN}; ctx[\"x\"] becomes Depends(...)", "changed"),
            "on_job_start on_job_end after_job_end": (systems.HOOKS, "changed"),
        }),
        rows("setting", {
            "redis_settings": systems.URL,
            "queue_name": (systems.TYPES, "changed"),
            "max_jobs": "streamq worker --concurrency",
            "job_timeout": ("timeout= of each type; the default is 30 s, arq's is 300 s", "changed"),
            "max_tries": (systems.SAME_ATTEMPTS, "changed"),
            "keep_result keep_result_forever": "retention=",
            "allow_abort_jobs retry_jobs poll_delay queue_read_limit health_check_interval": systems.NOTHING,
            "job_serializer job_deserializer": (systems.JSON, "changed"),
            "job_completion_wait": "streamq worker --drain-timeout",
        }),
    ),
    lists=words("functions"),
)  # fmt: skip

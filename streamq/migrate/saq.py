"""What the names of SAQ and litestar-saq become here. Owns this table only."""

from __future__ import annotations

from typing import Final

from streamq.migrate import systems
from streamq.migrate.systems import System, joined, rows, words

_OPTIONS: Final = rows("option", {
    "timeout": (f"{systems.TIMEOUT}; SAQ's is 10 s", "changed"),
    "heartbeat": "nothing: a worker renews the lease of what it runs",
    "retries": (systems.SAME_ATTEMPTS, "changed"),
    "retry_delay retry_backoff": "backoff=, a tenacity wait object",
    "ttl": "retention=",
    "key": ('options(unique="..."): free again when the task has ended, as a key of SAQ is', "changed"),
    "scheduled": "options(at=...)",
    "priority": ('priority="high", "normal" or "low"', "changed"),
    "cron": systems.CRON,
    "unique": "nothing: a run of a schedule exists once",
})  # fmt: skip

SAQ: Final = System(
    name="SAQ",
    roots=("saq", "litestar_saq"),
    apps=words(
        "saq.Queue saq.Queue.from_url saq.queue.Queue saq.queue.Queue.from_url saq.queue.redis.RedisQueue"
    ),
    names=joined(
        rows("schedule", {"saq.CronJob saq.job.CronJob litestar_saq.CronJob": systems.CRON}),
        rows("result", {
            "saq.Job saq.job.Job": systems.HANDLE,
            "saq.Status saq.job.Status": "handle.status(): ready, running, completed, dead, ...",
        }),
        rows("worker", {"saq.Worker saq.worker.*": (systems.WORKER, "changed")}),
        rows("app", {
            "saq.Queue saq.queue.Queue": "StreamQ(name)",
            "litestar_saq.SAQConfig litestar_saq.QueueConfig litestar_saq.config.*":
                ("StreamQ(name) and `streamq worker`", "changed"),
            "litestar_saq.SAQPlugin": ("see: use it with Litestar", "changed"),
        }),
        rows("context", {"saq.types.Context": f"{systems.CONTEXT}; what ctx carried becomes Depends(...)"}),
        rows("option", {"saq.utils.*": systems.NOTHING}),
    ),
    app_methods=joined(
        rows("enqueue", {
            "enqueue": 'task.enqueue(...), or app.send("name", {...})',
            "map": ("app.enqueue_many([...]), then handle.result() of each", "changed"),
            "apply": "task.enqueue(...).result()",
        }),
        rows("result", {"job": "app.find(type, key=...)", "info stats count": "app.inspector.stats()"}),
        rows("hook", {"register_before_enqueue": (systems.HOOKS, "changed")}),
    ),
    task_options=_OPTIONS,
    send_options=_OPTIONS,
    settings=joined(
        rows("schedule", {"cron_jobs scheduled_tasks": systems.CRON}),
        rows("hook", {
            "startup shutdown": (f"{systems.LIFESPAN}; ctx[\"x\"] becomes Depends(...)", "changed"),
            "before_process after_process": (systems.HOOKS, "changed"),
        }),
        rows("setting", {"concurrency": "streamq worker --concurrency"}),
    ),
    lists=words("functions tasks"),
)  # fmt: skip

"""What the names of RQ, django-rq and rq-scheduler become here. Owns this table only."""

from __future__ import annotations

from typing import Final

from streamq.migrate import systems
from streamq.migrate.systems import System, joined, rows, words

_DECORATE: Final = "decorate the function with @app.task; then"
_OPTIONS: Final = rows("option", {
    "timeout job_timeout": (systems.TIMEOUT, "changed"),
    "result_ttl": "retention=",
    "failure_ttl": ("nothing: a dead letter is kept until it is purged or requeued", "changed"),
    "ttl": "expires=",
    "retry": ("max_attempts= and backoff=; retries happen by default", "changed"),
    "job_id": (systems.KEY, "changed"),
    "depends_on": (systems.FLOW, "changed"),
    "at_front": ('options(priority="high")', "changed"),
    "on_success on_failure on_stopped": ("the end of the handler, or a hook (TaskEnded)", "changed"),
    "description meta": ("an argument of the handler", "changed"),
    "unique": "unique=",
    "queue connection": (systems.TYPES, "changed"),
    "serializer": (systems.JSON, "changed"),
    "queue_class job_class": (systems.HOOKS, "changed"),
    "repeat": '@app.task(schedule=Every("10m"))',
    "commit_mode": ("enqueue in transaction.on_commit", "changed"),
})  # fmt: skip

RQ: Final = System(
    name="RQ",
    roots=("rq", "django_rq", "rq_scheduler", "flask_rq2"),
    apps=words("rq.Queue rq.queue.Queue django_rq.get_queue django_rq.queues.get_queue "
               "rq_scheduler.Scheduler rq_scheduler.scheduler.Scheduler django_rq.get_scheduler"),
    decorators=words("rq.decorators.job django_rq.job django_rq.decorators.job rq.job"),
    names=joined(
        rows("app", {"rq.Connection rq.connections.*": "StreamQ(name, url)"}),
        rows("enqueue", {"django_rq.enqueue": f"{_DECORATE} {systems.SEND}"}),
        rows("option", {
            "rq.Retry rq.job.Retry": ("max_attempts= and backoff=", "changed"),
            "rq.Repeat": '@app.task(schedule=Every("10m"))',
            "rq.Callback rq.job.Callback": ("the end of the handler, or a hook (TaskEnded)", "changed"),
        }),
        rows("workflow", {"rq.job.Dependency rq.Dependency rq.group.Group": (systems.FLOW, "changed")}),
        rows("context", {"rq.get_current_job rq.job.get_current_job": systems.CONTEXT}),
        rows("result", {
            "rq.job.Job rq.Job": "app.handle(task_id)",
            "rq.job.JobStatus": "handle.status(): ready, running, completed, dead, ...",
            "rq.results.*": "handle.result()",
            "rq.exceptions.NoSuchJobError": 'handle.status() is "unknown"',
            "rq.registry.*": "app.inspector: tasks(\"running\"), tasks(\"dead\"), ...",
            "rq.command.*": "handle.cancel()",
            "rq.suspension.*": "app.admin.pause(task_type)",
        }),
        rows("schedule", {
            "rq.cron.*": systems.CRON, "rq.cron": systems.CRON, "rq.scheduler.*": "streamq daemon",
            "rq.CronScheduler": systems.CRON,
        }),
        rows("worker", {
            "rq.Worker rq.SimpleWorker rq.SpawnWorker rq.worker.*": (systems.WORKER, "changed"),
            "django_rq.workers.* django_rq.get_worker rq.worker_registration.*": (systems.WORKER, "changed"),
            "rq.worker_pool.*": "streamq worker --processes",
        }),
        rows("other", {
            "rq.timeouts.*": "TimeoutError: the attempt counts as failed",
            "rq.exceptions.*": ("streamq.errors", "changed"),
            "rq.serializers.*": (systems.JSON, "changed"),
            "rq.logutils.*": "get_context().logger, or any logger",
        }),
    ),
    app_methods=joined(
        rows("enqueue", {
            "enqueue enqueue_call": f"{_DECORATE} {systems.SEND}",
            "enqueue_in": f"{_DECORATE} {systems.LATER}",
            "enqueue_at": f"{_DECORATE} {systems.AT}",
            "enqueue_many prepare_data": "app.enqueue_many([task.bind(...), ...])",
            "enqueue_job": ("app.admin.requeue([id])", "changed"),
        }),
        rows("schedule", {
            "cron": systems.CRON,
            "cancel": ("app.schedules.remove(name), or handle.cancel()", "changed"),
            "schedule": ('app.schedules.put(name, Every("10m"), task.bind(...))', "changed"),
        }),
        rows("result", {
            "fetch_job": systems.HANDLE,
            "get_jobs jobs get_job_ids job_ids count": "app.inspector: stats(), tasks(state)",
            "empty delete": ("streamq cancel, app.admin.purge_type(name)", "changed"),
            "failed_job_registry started_job_registry finished_job_registry scheduled_job_registry "
            "deferred_job_registry": "app.inspector.tasks(state)",
        }),
    ),
    task_methods=rows("enqueue", {"delay": systems.SEND}),
    loose=words("delay"),
    task_options=_OPTIONS,
    send_options=_OPTIONS,
    settings=rows("setting", {
        "RQ_QUEUES": (systems.TYPES, "changed"),
        "RQ": systems.URL,
        "RQ_SHOW_ADMIN_LINK": "`streamq dashboard`",
        "RQ_EXCEPTION_HANDLERS": (systems.HOOKS, "changed"),
    }),
)  # fmt: skip

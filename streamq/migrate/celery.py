"""What Celery's names become here. Owns this table only."""

from __future__ import annotations

from typing import Final

from streamq.migrate import systems
from streamq.migrate.systems import System, joined, rows, words

_NO_CALLBACK: Final = (systems.FOLLOW, "changed")
_SIGNAL: Final = (systems.HOOKS, "changed")

_OPTIONS: Final = rows("option", {
    "name": "name=",
    "max_retries": (systems.ATTEMPTS, "changed"),
    "autoretry_for": ("retry_on=; by default every exception is retried", "changed"),
    "dont_autoretry_for throws": "give_up_on=",
    "retry_backoff retry_backoff_max retry_jitter default_retry_delay retry_kwargs":
        "backoff=, a tenacity wait object",
    "rate_limit":
        ('start_rate="5/s" delays runs, over all workers; rate_limit= refuses at enqueue', "changed"),
    "time_limit": (f"{systems.TIMEOUT}. Only executor=\"process\" can kill a `def` handler", "changed"),
    "soft_time_limit":
        ("timeout=: one limit; `async def` handlers are cancelled and may clean up", "changed"),
    "ignore_result": "retention=0",
    "store_errors_even_if_ignored": "nothing: a dead letter keeps its failures",
    "serializer compression": (systems.JSON, "changed"),
    "acks_late acks_on_failure_or_timeout reject_on_worker_lost track_started": systems.NOTHING,
    "queue exchange routing_key": (systems.TYPES, "changed"),
    "priority": ('priority="high", "normal" or "low"', "changed"),
    "expires": "expires=",
    "bind": systems.CONTEXT,
    "base": (systems.NO_CLASS, "changed"),
    "typing pydantic": systems.NOTHING,
    "trail send_events": "nothing: `streamq tail` and the dashboard read the queue itself",
})  # fmt: skip

_SEND_OPTIONS: Final = rows("option", {
    "countdown": 'options(delay="1m")',
    "eta": "options(at=...)",
    "task_id": (systems.KEY, "changed"),
    "link link_error chain": _NO_CALLBACK,
    "retry retry_policy": "StreamQ(patience=...): how long an enqueue call is tried",
    "headers": ("an argument of the handler, or a hook", "changed"),
    "shadow root_id parent_id group_id add_to_parent reply_to delivery_mode mandatory connection producer":
        ("", "none"),
})  # fmt: skip

_NAMES: Final = joined(
    rows("workflow", {
        f"celery.{name} celery.canvas.{name}": (systems.FLOW, "changed") for name in ("chain", "chord")
    }),
    rows("workflow", {
        f"celery.{name} celery.canvas.{name}": ("a map of a flow: wf.map(task, items)", "changed")
        for name in ("chunks", "xmap", "xstarmap")
    }),
    rows("workflow", {
        "celery.StampingVisitor celery.canvas.StampingVisitor": ("", "none")
    }),
    rows("workflow", {"celery.group celery.canvas.group":
        (systems.GROUP, "changed")}),
    rows("workflow", {
        "celery.signature celery.canvas.signature celery.canvas.Signature celery.Signature celery.subtask":
            ("task.bind(...)", "changed"),
    }),
    rows("schedule", {
        "celery.schedules.crontab": systems.CRON,
        "celery.schedules.schedule": '@app.task(schedule=Every("10m"))',
        "celery.schedules.solar": ("an external schedule that calls enqueue", "none"),
        "django_celery_beat.*":
            ("app.schedules: schedules are kept in Redis and changed at run time", "changed"),
        "redbeat.*": "app.schedules: schedules are kept in Redis and changed at run time",
    }),
    rows("result", {
        "celery.result.AsyncResult celery.AsyncResult": systems.HANDLE,
        "celery.result.*": ("handles: handle.result(), handle.status()", "changed"),
        "celery.states.*": "handle.status(): completed, dead, cancelled, expired, ...",
        "django_celery_results.*": ("handles, or your own table written by the handler", "changed"),
    }),
    rows("hook", {
        "celery.signals.worker_process_init celery.signals.worker_init "
        "celery.signals.worker_process_shutdown "
        "celery.signals.worker_ready celery.signals.worker_shutdown": systems.LIFESPAN,
        "celery.signals.setup_logging celery.signals.after_setup_logger "
        "celery.signals.after_setup_task_logger":
            ("set up logging in your module: streamq uses what is there", "changed"),
        "celery.signals.*": _SIGNAL,
        "celery.bootsteps.*": ("", "none"),
    }),
    rows("other", {
        "celery.Task celery.app.task.Task": (systems.NO_CLASS, "changed"),
        "celery.utils.log.get_task_logger": "get_context().logger, or any logger",
        "celery.exceptions.Retry celery.exceptions.MaxRetriesExceededError": (systems.RETRY, "changed"),
        "celery.exceptions.SoftTimeLimitExceeded celery.exceptions.TimeLimitExceeded":
            ("asyncio.CancelledError in `async def`; a thread cannot be stopped", "changed"),
        "celery.exceptions.Reject celery.exceptions.Ignore":
            (systems.GIVE_UP, "changed"),
        "celery.current_task celery.current_app": systems.CONTEXT,
        "celery_once.* celery_singleton.* celery_redbeat.*":
            "unique=True, or @app.task(unique=Unique(by=...))",
        "kombu.Queue kombu.Exchange": (systems.TYPES, "changed"),
    }),
    rows("worker", {"celery.bin.*": (systems.WORKER, "changed")}),
)  # fmt: skip

_SETTINGS: Final = rows("setting", {
    "broker_url result_backend": systems.URL,
    "beat_schedule": systems.CRON,
    "beat_scheduler": "nothing: daemons make the runs, and none leads",
    "task_always_eager task_eager_propagates task_store_eager_result": (systems.TESTS, "changed"),
    "task_serializer result_serializer accept_content task_compression result_compression":
        (systems.JSON, "changed"),
    "task_acks_late task_reject_on_worker_lost task_track_started broker_connection_retry_on_startup "
    "broker_connection_retry task_acks_on_failure_or_timeout": systems.NOTHING,
    "task_time_limit task_soft_time_limit": (systems.TIMEOUT, "changed"),
    "task_routes task_queues task_default_queue task_create_missing_queues task_default_exchange "
    "task_default_routing_key task_queue_max_priority task_default_priority": (systems.TYPES, "changed"),
    "task_ignore_result result_expires": systems.RESULTS,
    "worker_concurrency": "streamq worker --processes and --concurrency",
    "worker_prefetch_multiplier worker_max_tasks_per_child worker_max_memory_per_child":
        ("streamq worker: see its options", "changed"),
    "broker_transport_options visibility_timeout":
        ("lease=, renewed while the worker lives: no task is too long", "changed"),
    "timezone enable_utc": 'Cron("...", tz=...); times are aware',
    "imports include": 'StreamQ(imports=["shop.mails"])',
    "worker_send_task_events task_send_sent_event worker_hijack_root_logger worker_log_format":
        systems.NOTHING,
    "redis_max_connections broker_pool_limit": systems.NOTHING,
})  # fmt: skip

CELERY: Final = System(
    name="Celery",
    roots=(
        "celery", "django_celery_beat", "django_celery_results", "celery_once", "celery_singleton", "redbeat",
    ),
    apps=words("celery.Celery celery.app.Celery celery.app.base.Celery"),
    decorators=words("celery.shared_task celery.app.shared_task celery.task celery.task.task"),
    app_decorators=words("task"),
    names=_NAMES,
    app_methods=joined(
        rows("enqueue", {"send_task": (systems.BY_NAME, "changed")}),
        rows("result", {"AsyncResult": systems.HANDLE}),
        rows("app", {
            "autodiscover_tasks config_from_object": 'StreamQ(imports=["shop.mails"])',
            "control": "app.admin", "Task": (systems.NO_CLASS, "changed"),
        }),
        rows("schedule", {"add_periodic_task": "app.schedules.put(name, Every(...), task.bind(...))"}),
        rows("workflow", {"signature": ("task.bind(...)", "changed")}),
    ),
    task_methods=joined(
        rows("enqueue", {"delay": systems.SEND, "apply_async": "task.options(...).enqueue(...)"}),
        rows("test", {"apply": "task(...): calls the function"}),
        rows("workflow", {
            "s si subtask signature": ("task.bind(...)", "changed"),
            "chunks map starmap": ("app.enqueue_many([task.bind(...), ...])", "changed"),
        }),
        rows("result", {"AsyncResult": systems.HANDLE, "update_state": systems.PROGRESS}),
    ),
    loose=words("delay apply_async"),
    context=joined(
        rows("context", {
            "retry": (f"{systems.RETRY}: it ends the attempt as self.retry does", "changed"),
            "request": systems.CONTEXT,
        }),
        rows("result", {"update_state": systems.PROGRESS}),
        rows("workflow", {"replace": (systems.RUN_FLOW, "changed"), "add_trail": ("", "none")}),
    ),
    task_options=_OPTIONS,
    send_options=joined(_OPTIONS, _SEND_OPTIONS),
    settings=_SETTINGS,
)  # fmt: skip

"""What huey's names become here. Owns this table only."""

from __future__ import annotations

from typing import Final

from streamq.migrate import systems
from streamq.migrate.systems import System, joined, rows, words

_OPTIONS: Final = rows("option", {
    "name": "name=",
    "retries": (systems.ATTEMPTS, "changed"),
    "retry_delay": "backoff=, a tenacity wait object",
    "priority": ('priority="high", "normal" or "low"', "changed"),
    "context": systems.CONTEXT,
    "expires": "expires=",
    "delay": 'options(delay="1m")',
    "eta": "options(at=...)",
    "timeout": (systems.TIMEOUT, "changed"),
    "preserve_pipeline": (systems.FLOW, "changed"),
})  # fmt: skip

HUEY: Final = System(
    name="huey",
    roots=("huey",),
    apps=words(
        "huey.RedisHuey huey.PriorityRedisHuey huey.RedisExpireHuey huey.PriorityRedisExpireHuey "
        "huey.SqliteHuey "
        "huey.MemoryHuey huey.FileHuey huey.BlackHoleHuey huey.Huey huey.api.Huey huey.api.MemoryHuey "
        "huey.contrib.mini.MiniHuey huey.contrib.sql_huey.SqlHuey huey.contrib.djhuey.HUEY"
    ),
    decorators=words(
        "huey.contrib.djhuey.task huey.contrib.djhuey.periodic_task huey.contrib.djhuey.db_task "
        "huey.contrib.djhuey.db_periodic_task huey.contrib.djhuey.on_commit_task"
    ),
    app_decorators=words("task periodic_task context_task"),
    names=joined(
        rows("schedule", {"huey.crontab huey.api.crontab": systems.CRON}),
        rows("option", {"huey.exceptions.RetryTask huey.RetryTask": systems.RETRY}),
        rows("workflow", {"huey.api.chord huey.chord huey.api.group huey.group": (systems.FLOW, "changed")}),
        rows("other", {
            "huey.exceptions.CancelExecution huey.CancelExecution":
                (systems.GIVE_UP, "changed"),
            "huey.exceptions.TaskLockedException": ("unique=: one at a time for a key", "changed"),
            "huey.exceptions.TaskException": "TaskDead: raised by handle.result()",
            "huey.exceptions.ResultTimeout": "ResultTimeout",
            "huey.serializer.*": (systems.JSON, "changed"),
        }),
        rows("hook", {"huey.signals.*": (systems.HOOKS, "changed")}),
        rows("test", {"huey.MemoryHuey": (systems.TESTS, "changed")}),
        rows("worker", {"huey.consumer.* huey.consumer_options.*": (systems.WORKER, "changed")}),
        rows("hook", {
            "huey.contrib.djhuey.close_db": "nothing: see the page about Django",
            "huey.contrib.djhuey.on_startup huey.contrib.djhuey.on_shutdown": systems.LIFESPAN,
            "huey.contrib.djhuey.signal": (systems.HOOKS, "changed"),
            "huey.contrib.djhuey.lock_task": ("unique=: one at a time for a key", "changed"),
        }),
    ),
    app_methods=joined(
        rows("enqueue", {"enqueue": "app.enqueue_many([task.bind(...)])"}),
        rows("result", {"result": systems.HANDLE, "pending scheduled": "app.inspector.tasks(state)"}),
        rows("result", {
            "revoke revoke_by_id revoke_all": ("handle.cancel(), app.admin.pause(type)", "changed"),
        }),
        rows("option", {
            "lock_task": ("unique=: one at a time for a key", "changed"),
            "rate_limit": ("start_rate=, or a Lane by key: tasks wait, none is refused", "changed"),
        }),
        rows("hook", {
            "signal pre_execute post_execute": (systems.HOOKS, "changed"),
            "on_startup on_shutdown": systems.LIFESPAN,
        }),
        rows("other", {"get put": ("your own Redis client: the queue is no key-value store", "none")}),
    ),
    task_methods=joined(
        rows("enqueue", {"schedule": "task.options(delay=...).enqueue(...)"}),
        rows("test", {"call_local": "task(...): calls the function"}),
        rows("workflow", {
            "s then": (systems.FLOW, "changed"),
            "map": ("app.enqueue_many([task.bind(...), ...])", "changed"),
        }),
        rows("result", {"revoke restore is_revoked": ("handle.cancel(), app.admin.pause(type)", "changed")}),
    ),
    task_options=_OPTIONS,
    send_options=_OPTIONS,
    settings=rows("setting", {"HUEY": systems.URL}),
    calls_send=True,
)  # fmt: skip

"""What taskiq's names become here. Owns this table only."""

from __future__ import annotations

from typing import Final

from streamq.migrate import systems
from streamq.migrate.systems import System, joined, rows, words

_OPTIONS: Final = rows("option", {
    "task_name": "name=",
    "retry_on_error max_retries": (systems.SAME_ATTEMPTS, "changed"),
    "timeout": (systems.TIMEOUT, "changed"),
    "schedule": systems.CRON,
    "delay": 'options(delay="1m")',
    "priority": ('priority="high", "normal" or "low"', "changed"),
    "queue_name": (systems.TYPES, "changed"),
})  # fmt: skip

TASKIQ: Final = System(
    name="taskiq",
    roots=("taskiq", "taskiq_redis", "taskiq_aio_pika", "taskiq_nats", "taskiq_fastapi", "taskiq_pipelines",
           "taskiq_aiohttp"),
    apps=words(
        "taskiq.InMemoryBroker taskiq.ZeroMQBroker taskiq.AsyncBroker taskiq_redis.ListQueueBroker "
        "taskiq_redis.PubSubBroker taskiq_redis.RedisStreamBroker taskiq_redis.ListQueueSentinelBroker "
        "taskiq_redis.ListQueueClusterBroker taskiq_redis.RedisStreamClusterBroker "
        "taskiq_aio_pika.AioPikaBroker "
        "taskiq_nats.NatsBroker taskiq_nats.PullBasedJetStreamBroker taskiq.async_shared_broker"
    ),
    decorators=words("taskiq.brokers.shared_broker.async_shared_broker.task taskiq.async_shared_broker.task"),
    app_decorators=words("task register_task"),
    names=joined(
        rows("app", {
            "taskiq.InMemoryBroker": (systems.TESTS, "changed"),
            "taskiq_redis.RedisAsyncResultBackend": systems.RESULTS,
            "taskiq.async_shared_broker": "TaskSet(), and app.include(tasks)",
        }),
        rows("hook", {
            "taskiq.TaskiqEvents": systems.LIFESPAN,
            "taskiq.TaskiqMiddleware": (systems.HOOKS, "changed"),
            "taskiq.SimpleRetryMiddleware taskiq.SmartRetryMiddleware":
                ("nothing: retries happen by default", "changed"),
            "taskiq.middlewares.*": (systems.HOOKS, "changed"),
            "taskiq.TaskiqDepends taskiq_dependencies.Depends":
                "streamq.Depends(...) as the default value; taskiq's works too",
            "taskiq_fastapi.* taskiq_aiohttp.*":
                ("@app.lifespan and Depends(...); no Request in a worker", "changed"),
            "taskiq.instrumentation.*": 'StreamQ(tracing="link")',
        }),
        rows("context", {"taskiq.Context": systems.CONTEXT}),
        rows("schedule", {
            "taskiq.TaskiqScheduler taskiq.schedule_sources.*": "nothing: `streamq daemon` makes the runs",
            "taskiq_redis.RedisScheduleSource taskiq_redis.ListRedisScheduleSource": "app.schedules",
        }),
        rows("workflow", {"taskiq_pipelines.*": (systems.FLOW, "changed")}),
        rows("result", {
            "taskiq.TaskiqResult taskiq.AsyncTaskiqTask": "handle.result()",
            "taskiq.TaskiqResultTimeoutError": "ResultTimeout",
            "taskiq.gather": ("await asyncio.gather(*(handle.aresult() for handle in handles))", "changed"),
        }),
        rows("worker", {"taskiq.receiver.* taskiq.api.*": (systems.WORKER, "changed")}),
        rows("other", {
            "taskiq.serializers.*": (systems.JSON, "changed"),
            "taskiq.exceptions.*": ("streamq.errors", "changed"),
        }),
    ),
    app_methods=joined(
        rows("app", {"startup shutdown": "await app.aconnect(), await app.aclose(); neither is needed"}),
        rows("hook", {
            "on_event add_event_handler": systems.LIFESPAN,
            "with_middlewares add_middlewares": (systems.HOOKS, "changed"),
            "add_dependency_context": "app.overrides, or @app.lifespan",
        }),
        rows("result", {"with_result_backend": systems.RESULTS}),
    ),
    task_methods=joined(
        rows("enqueue", {"kiq": systems.SEND, "kicker": "task.options(...).enqueue(...)"}),
        rows("schedule", {
            "schedule_by_time": systems.AT,
            "schedule_by_cron schedule_by_interval": "app.schedules.put(name, Cron(...), task.bind(...))",
        }),
    ),
    loose=words("kiq kicker"),
    task_options=_OPTIONS,
    send_options={},
)  # fmt: skip

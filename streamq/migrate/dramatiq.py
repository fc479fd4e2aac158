"""What Dramatiq's names become here. Owns this table only."""

from __future__ import annotations

from typing import Final

from streamq.migrate import systems
from streamq.migrate.systems import System, joined, rows, words

_OPTIONS: Final = rows("option", {
    "actor_name": "name=",
    "max_retries": (systems.ATTEMPTS, "changed"),
    "min_backoff max_backoff jitter": "backoff=, a tenacity wait object",
    "retry_when": ("retry_on= and give_up_on= by class, or raise Retry(...)", "changed"),
    "throws": "give_up_on=",
    "time_limit": (f"{systems.TIMEOUT}, Dramatiq's is 10 min. A thread cannot be stopped", "changed"),
    "max_age": "expires=",
    "priority": ('priority="high", "normal" or "low"; over all workers', "changed"),
    "store_results result_ttl": systems.RESULTS,
    "queue_name": (systems.TYPES, "changed"),
    "broker actor_class options": systems.NOTHING,
    "pipe_ignore pipe_target": (systems.FLOW, "changed"),
    "on_success on_failure on_retry_exhausted": ("the end of the handler, or a hook (TaskEnded)", "changed"),
    "periodic": systems.CRON,
})  # fmt: skip

DRAMATIQ: Final = System(
    name="Dramatiq",
    roots=("dramatiq", "django_dramatiq", "periodiq", "dramatiq_abort", "dramatiq_crontab"),
    apps=words("dramatiq.brokers.redis.RedisBroker dramatiq.brokers.rabbitmq.RabbitmqBroker "
               "dramatiq.brokers.stub.StubBroker dramatiq.get_broker"),
    decorators=words("dramatiq.actor"),
    app_decorators=words("actor"),
    names=joined(
        rows("app", {
            "dramatiq.brokers.*": "StreamQ(name)",
            "dramatiq.set_broker dramatiq.get_broker": systems.NOTHING,
        }),
        rows("workflow", {
            "dramatiq.pipeline dramatiq.composition.pipeline": (systems.FLOW, "changed"),
            "dramatiq.group dramatiq.composition.group":
                (systems.GROUP, "changed"),
        }),
        rows("schedule", {"periodiq.* dramatiq_crontab.*": systems.CRON}),
        rows("result", {
            "dramatiq.results.*": systems.RESULTS,
            "dramatiq_abort.*": "handle.cancel()",
        }),
        rows("hook", {
            "dramatiq.middleware.current_message.CurrentMessage dramatiq.middleware.CurrentMessage":
                systems.CONTEXT,
            "dramatiq.middleware.AsyncIO dramatiq.middleware.asyncio.AsyncIO": systems.NOTHING,
            "dramatiq.middleware.*": (systems.HOOKS, "changed"),
            "dramatiq.Middleware": (systems.HOOKS, "changed"),
        }),
        rows("option", {
            "dramatiq.rate_limits.*":
                ("running= and start_rate=, or a Lane by key: tasks wait, none is refused", "changed"),
            "dramatiq.errors.Retry": systems.RETRY,
        }),
        rows("other", {
            "dramatiq.GenericActor dramatiq.generic.GenericActor":
                (systems.NO_CLASS, "changed"),
            "dramatiq.Message dramatiq.message.Message": ("task.bind(...)", "changed"),
            "dramatiq.encoder.*": (systems.JSON, "changed"),
            "dramatiq.errors.*": ("streamq.errors", "changed"),
        }),
        rows("test", {"dramatiq.Worker dramatiq.worker.Worker": (systems.TESTS, "changed")}),
    ),
    app_methods=joined(
        rows("enqueue", {"enqueue": (systems.BY_NAME, "changed")}),
        rows("hook", {"add_middleware": (systems.HOOKS, "changed")}),
        rows("test", {"join flush flush_all": (systems.TESTS, "changed")}),
    ),
    task_methods=joined(
        rows("enqueue", {"send": systems.SEND, "send_with_options": "task.options(...).enqueue(...)"}),
        rows("workflow", {"message message_with_options": ("task.bind(...)", "changed")}),
    ),
    loose=words("send_with_options message_with_options"),
    task_options=_OPTIONS,
    send_options=joined(_OPTIONS, rows("option", {"delay": 'options(delay="1m"): not in milliseconds'})),
    settings=rows("setting", {"DRAMATIQ_BROKER DRAMATIQ_RESULT_BACKEND": systems.URL}),
)  # fmt: skip

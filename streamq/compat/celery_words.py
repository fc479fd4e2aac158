"""Celery's options and attributes, and what to write here instead.

Owns the tables that `celery` refuses by: each name that Celery 5.7 has and `celery` does not. Imported only
when such a name is used. Must not make a name work.
"""

from __future__ import annotations

from typing import Final


def _table(words: dict[str, str]) -> dict[str, str]:
    """Return words by name, from names by words."""
    return {name: word for word, names in words.items() for name in names.split()}


_QUEUE: Final = (
    'queue belongs to the task type: @shared_task(queue="..."), and `streamq worker --queues` chooses'
)
_AMQP: Final = "there is no message broker: leave it out"
_FLOW: Final = "what runs after a task is a node of a flow: wf = app.flow(name); wf.chain(...); wf.start()"
_LIMIT: Final = 'timeout="1m" of the type, or task_type.options(timeout=...).enqueue(...)'
_ALWAYS: Final = "a task is settled when its handler has ended, and runs again if its worker dies, always"
_BACKOFF: Final = (
    "backoff= is a tenacity wait object; the default is exponential with full jitter, 1 s to 5 min"
)
_ATTEMPTS: Final = "max_attempts=4 is three retries: it counts the first attempt too"
_CLASS: Final = "there are no task classes: hooks (@app.around_attempt, @app.on) or Depends(...)"
_ENDS: Final = 'a hook: @app.on("completed"), @app.on("retried"), @app.on("dead"), or @app.around_attempt'
_CONTEXT: Final = "get_context() in the handler: id, attempt, type, worker, deadline"
_JSON: Final = "values are sent as JSON, and converted to the annotated types"
_RESULT: Final = "retention=0 keeps no result; errors are kept with dead letters"
_KNOWN: Final = "app.inspector.task(result.id) returns all that is known of a task"
_EVENTS: Final = "nothing to write: `streamq tail` shows what happens"

CALL: Final = _table({
    _QUEUE: "queue exchange routing_key router",
    _AMQP: "producer publisher connection delivery_mode mandatory immediate reply_to correlation_id",
    "an enqueue is retried for the app's patience: StreamQ(..., patience=5)": "retry retry_policy",
    "nothing to write: a hook (@app.around_enqueue) sees each call": "shadow user_id app_id cluster_id",
    "an argument of the task, or a hook: @app.around_enqueue": "headers stamped_headers",
    "a handler makes follow-ups: get_context().enqueue(other.bind(...))":
        "add_to_parent root_id parent_id",
    _FLOW: "link link_error chord group_id group_index replaced_task_nesting",
    _LIMIT: "time_limit soft_time_limit",
    _JSON: "serializer compression",
    _RESULT: "ignore_result",
    'task_id="..." is an idempotency key; the id is made by the server': "message_id",
})  # fmt: skip
"""Of `apply_async`."""

TASK: Final = _table({
    _QUEUE: "exchange routing_key",
    _CONTEXT: "bind request Request request_stack",
    _CLASS: "base abstract Strategy from_config",
    _ATTEMPTS: "max_retries retry_kwargs",
    "retry_on=(...): then only these are retried": "autoretry_for",
    "give_up_on=(...)": "dont_autoretry_for throws",
    _BACKOFF: "retry_backoff retry_backoff_max retry_jitter default_retry_delay",
    'timeout="1m": the attempt has failed, and may be retried': "time_limit soft_time_limit",
    _ALWAYS: "acks_late acks_on_failure acks_on_failure_or_timeout acks_on_timeout",
    "max_lost=1 never runs a task whose worker died": "reject_on_worker_lost retry_on_worker_lost",
    _RESULT: "ignore_result store_errors_even_if_ignored backend",
    _JSON:
        "serializer pydantic pydantic_strict pydantic_context pydantic_dump_kwargs typing resultrepr_maxsize",
    "status() always shows that a task is running": "track_started",
    _EVENTS: "send_events",
    _FLOW: "trail",
    "nothing to write: a task type is made when its module is imported": "lazy shared",
})  # fmt: skip
"""Of `shared_task`."""

TASK_ATTRIBUTES: Final = _table({
    "task_type.handler.options has the policy":
        "acks_late acks_on_failure acks_on_failure_or_timeout acks_on_timeout default_retry_delay expires "
        "ignore_result max_retries priority rate_limit reject_on_worker_lost resultrepr_maxsize "
        "retry_on_worker_lost send_events serializer soft_time_limit store_errors_even_if_ignored throws "
        "time_limit track_started trail typing",
    _CLASS: "abstract annotate add_around bind on_bound from_config Strategy start_strategy app backend",
    _ENDS: "after_return before_start on_failure on_retry on_success on_replace",
    _CONTEXT: "Request request request_stack push_request pop_request",
    "a hook: @app.around_enqueue": "shadow_name send_event",
    _FLOW: "replace add_to_chord add_trail signature_from_request subtask_from_request",
    "results are kept by the queue: retention=": "store_eager_result",
    "TaskDead: raised by get()": "MaxRetriesExceededError",
    "RedisUnavailable: raised by delay()": "OperationalError",
})  # fmt: skip
"""Of a shared task."""

RESULT_ATTRIBUTES: Final = _table({
    "get() waits for the return value; task_type has `aresult` for async code": "result",
    "ResultTimeout: raised by get()": "TimeoutError",
    _KNOWN: "name queue worker exists ignored",
    "result.handle is streamq's, and result.id can be stored": "as_list as_tuple",
    "`streamq cancel`, or app.admin.cancel([...])": "revoke_by_stamped_headers",
    "results are kept by the queue: there is no backend": "app backend supports_native_join",
    "get() raises TaskDead": "throw",
    _FLOW: "build_graph get_leaf graph iterdeps",
})  # fmt: skip
"""Of a result."""

"""The names of other task queues, and streamq's names for the same: for the text of an AttributeError.

Owns the tables, by class. Imported only when a name was not found, so it costs nothing. Must not make a name
work: one thing has one name here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NoReturn


def _table(words: Mapping[str, str]) -> dict[str, str]:
    """Return hints by name, from names by hint."""
    return {name: hint for hint, names in words.items() for name in names.split()}


_RECURRING: Final = (
    "@app.task(schedule=Cron(...)), or app.schedules.put(name, Every(...), task.bind()), repeats a task"
)
_FLOW: Final = "what runs after a task is a node of a flow: wf = app.flow(name); wf.chain(...); wf.start()"
_PROGRESS: Final = "get_context().progress(done, total) tells it in a handler, handle.events() yields it"

_TASK_TYPE: Final = _table({
    "enqueue(...) sends a task, or await aenqueue(...)":
        "delay kiq send put push submit defer publish enqueue_task enqueue_call perform_async",
    "options(delay=..., priority=...).enqueue(...) sends a task with settings of its own":
        "apply_async send_with_options with_options configure using set kicker",
    "options(delay=...) or options(at=...).enqueue(...) sends a task that is due later":
        "schedule enqueue_in enqueue_at defer_in defer_at delay_until perform_in perform_at",
    "bind(...) makes a call as a value, for app.enqueue_many([...])":
        "s si signature subtask message message_with_options chunks map starmap",
    "app.enqueue_many([task_type.bind(...), ...]) sends many": "enqueue_many delay_many batch_defer",
    "call it, task_type(...), to run it in this process":
        "apply run call call_local fn func function run_sync",
    "app.handle(task_id) is the handle of a task": "AsyncResult",
    "raise Retry(after=...) in the handler": "retry",
    _PROGRESS: "update_state",
    _RECURRING: "crontab cron periodic every",
    _FLOW: "chain then pipe link",
})  # fmt: skip

_HANDLE: Final = _table({
    "result(timeout=...) waits for the return value, or await aresult(...)":
        "get wait join get_result return_value wait_result latest_result result_value wait_for_result",
    "status() returns the state, or await astatus()":
        "state get_status get_state refresh info query is_finished is_failed is_started is_queued",
    "status() in ('completed', 'dead', 'cancelled', 'expired') is true when it has ended":
        "ready done finished is_ready is_done",
    "status() == 'completed' is true when it succeeded": "successful success is_success succeeded is_err",
    "status() == 'dead' is true when it failed for good": "failed is_failure failure",
    "cancel() ends the task, or await acancel()": "revoke abort terminate kill stop",
    "id is the task's id": "task_id job_id message_id key",
    "result() raises TaskDead, and app.inspector.task(handle.id).failures has each attempt's error":
        "traceback exception error exc_info maybe_throw maybe_reraise",
    "app.inspector.task(handle.id) returns all that is known of a task":
        "args kwargs meta date_done retries enqueued_at started_at ended_at date_created",
    "results expire by themselves after options(retention=...)": "forget delete collect ttl",
    "app.admin.requeue([handle.id]) puts a dead letter back": "requeue retry",
    "app.admin.run_now(handle.id) makes a scheduled task ready": "run_now execute_now",
    _PROGRESS: "progress update_state save_meta",
    _FLOW: "then add_done_callback add_callback on_success children parent",
})  # fmt: skip

_APP: Final = _table({
    "@app.task registers a handler":
        "actor job background register register_task shared_task add_task_type task_decorator function Task",
    "send(name, {...}) sends a task by the name of its type":
        "send_task enqueue aenqueue enqueue_job enqueue_call defer push put add_task",
    "enqueue_many([task_type.bind(...), ...]) sends many": "send_many enqueue_batch push_many group",
    "handle(task_id) is the handle of a task":
        "AsyncResult get_result result fetch_job get_job get_task job fetch_task",
    "inspector has the queries: stats(), tasks(), workers()":
        "inspect stats get_jobs jobs count info monitor get_queue_length workers tasks registered",
    "admin has the actions: cancel(), pause(), requeue_type(), purge_type()":
        "control purge cancel revoke abort pause resume empty flush requeue delete",
    "wait_idle(timeout=...) waits until no work is left, idle() checks":
        "join wait wait_until_finished is_empty",
    "the command `streamq worker module:app` runs the tasks, or `async with app.run_worker()`":
        "worker run start worker_main work start_worker run_worker_async Worker",
    "settings are arguments of StreamQ(...) and @app.task(...)":
        "conf config settings configure setup broker result_backend",
    "StreamQ(..., imports=[...]) names the modules that have task types":
        "autodiscover_tasks imports",
    "connect() and close(), await aconnect() and await aclose()":
        "startup shutdown on_after_configure open disconnect initialize connection open_async close_async",
    _RECURRING:
        "cron crontab periodic periodic_task schedule schedule_task scheduler add_periodic_task every",
    _FLOW: "chain chord canvas signature",
})  # fmt: skip

_ADMIN: Final = _table({
    "cancel(task_id) ends a task": "revoke abort terminate kill cancel_task",
    "requeue([task_id]), requeue_type(name) and requeue_selected(DeadSelection(...)) put dead letters back":
        "retry requeue_all retry_all requeue_dead retry_task",
    "purge([task_id]), purge_type(name) and purge_selected(DeadSelection(...)) delete dead letters":
        "delete empty flush clear discard discard_all purge_all purge_dead delete_task",
    "drain(worker) makes a worker finish its tasks and end": "shutdown stop stop_worker warm_shutdown",
    "pause(task_type) stops workers from taking tasks of a type": "pause_queue suspend cancel_consumer",
    "resume(task_type) ends the pause of a type": "unpause resume_queue add_consumer",
    "run_now(task_id) makes a scheduled task ready": "promote execute_now reschedule",
    "app.inspector has the queries": "inspect stats tasks workers",
})  # fmt: skip

_INSPECTOR: Final = _table({
    "stats() counts by task type: ready, running, scheduled, dead":
        "counts_by_type size count qsize len length queue_length info report get_stats",
    "tasks(state) lists tasks: tasks('running'), tasks('ready'), tasks('scheduled')":
        "active reserved scheduled running ready pending jobs get_jobs list_jobs list_tasks queued",
    "workers() lists the workers": "ping active_workers nodes get_workers",
    "types() lists the task types": "registered registered_tasks queues active_queues",
    "task(task_id) returns all that is known of a task":
        "query_task get_task job get_job fetch_job task_info",
    "tasks('dead') and dead_groups() list dead letters": "failed failures dead_letters dlq dead all_dead",
    "app.idle() checks whether no work is left, app.wait_idle(timeout=...) waits":
        "idle wait_idle join is_idle is_empty",
    "app.admin has the actions: cancel(), requeue(), purge()": "cancel revoke requeue purge pause resume",
    "server() is the server's INFO": "info_server redis_info",
})  # fmt: skip

_CONTEXT: Final = _table({
    "id is the task's id": "task_id job_id message_id request",
    "attempt counts from 1": "retries retry_count job_try attempts tries delivery_info failed_attempts",
    "raise Retry(after=...) to be run again later": "retry",
    "cancelled says whether to stop": "is_aborted is_cancelled aborted should_abort is_revoked should_stop",
    "type is the task type's name": "task name task_name",
    "worker is the worker's name": "hostname worker_name",
    "deadline is when the timeout strikes": "timelimit timeout time_limit",
    "scheduled_for is the time that a run of a schedule is for": "scheduled_at schedule_time eta due_at",
    "enqueued_at is when the task was accepted": "enqueue_time created_at",
    "logger is bound to the task": "log get_logger",
    "progress(done, total) and emit(value) tell those who watch the task": "update_state meta save_meta",
})  # fmt: skip

_SCHEDULES: Final = _table({
    "put(name, Every('10m'), task.bind()) makes a schedule, or changes it":
        "add create upsert update set add_periodic_task add_job schedule cron",
    "all() lists the schedules, get(name) shows one": "list ls jobs get_jobs list_jobs entries",
    "remove(name) deletes a schedule": "delete cancel unschedule remove_job clear",
    "run_now(name) makes a run at once": "trigger execute fire run run_job enqueue",
    "pause(name) and resume(name) stop it and take it up again": "disable enable stop start suspend unpause",
    "sync() registers what the code declares": "load reload setup_schedule register_all",
})  # fmt: skip

_OPTION: Final = _table(
    {
        "delay": "countdown defer_by enqueue_in in_",
        "at": "eta defer_until scheduled when schedule_at run_at",
        "max_attempts": "retries max_retries retry attempts max_tries tries",
        "timeout": "time_limit soft_time_limit job_timeout max_runtime execution_timeout",
        "backoff": "retry_backoff retry_delay min_backoff max_backoff retry_intervals retry_interval",
        "retry_on": "autoretry_for retry_for retry_exceptions",
        "give_up_on": "dont_autoretry_for throws dont_retry_for",
        "expires": "ttl max_age expire",
        "retention": "result_ttl result_expires keep_result ignore_result store_results result_timeout",
        "idempotency_key": "key idempotent dedup_key deduplication_id",
        "name": "task_name actor_name",
        "rate_limit": "ratelimit",
        "unique": "unique_by unique_until lock queueing_lock singleton concurrency_key once",
        "throttle": "unique_for",
        "max_backlog": "max_length maxsize queue_size",
        "schedule": "cron crontab periodic every repeat run_every",
        "queue": "queue_name",
        "lease": "visibility_timeout heartbeat_timeout",
    }
)
_SETTING: Final = _table({
    "the server is the second argument: StreamQ('shop', 'redis://host:6379/0')":
        "broker broker_url backend result_backend connection redis redis_url redis_settings host dsn uri",
    "imports=[...] names the modules that have task types": "include autodiscover packages tasks",
    "prefix=... starts the names of keys and channels": "namespace key_prefix queue_prefix",
    "@app.task(retention=...) says how long a result is kept": "result_ttl result_expires default_result_ttl",
    '@app.task(queue=...) is a label; `streamq worker --queues` chooses by it': "queue queues default_queue",
    "values are sent as JSON, and converted to the annotated types": "serializer json_serializer encoder",
    "hooks=[...] takes what runs around enqueue calls and handlers": "middleware middlewares plugins",
})  # fmt: skip
"""The arguments of the classes of other task queues, and of StreamQ."""
_COUNTS_ALL: Final = "max_attempts counts the first attempt too, so three retries are max_attempts=4"
_MORE: Final = dict.fromkeys(["retries", "max_retries", "retry"], _COUNTS_ALL) | {
    "ignore_result": "retention=0 keeps no result",
    "store_results": "retention=0 keeps no result",
}
_NO_OPTION: Final = _table({
    "a task's id is made by the server; idempotency_key names a task of yours": "task_id job_id message_id",
    'queue="..." of the task type is a label; `streamq worker --queues` chooses by it':
        "routing_key exchange broker channel",
    "get_context() in the handler returns the task's id and attempt": "bind pass_context context",
    "a task is settled when its handler has ended, always":
        "acks_late ack_late reject_on_worker_lost ack_type",
    "values are sent as JSON, and converted to the annotated types":
        "serializer encoder compression pydantic",
    "status() always shows that a task is running": "track_started",
    _FLOW: "link link_error on_success on_failure depends_on chain group_id callback",
})  # fmt: skip
_PER_CALL: Final = ("delay", "at", "pool", "shard_key", "idempotency_key", "idempotency_window")
_POLICY: Final = (
    "backoff", "retry_on", "give_up_on", "lease", "max_lost", "executor", "rate_limit",
    "max_backlog", "max_payload", "schedule", "queue", "within", "slots", "resources",
)  # fmt: skip


def option_hint(name: str, known: Sequence[str]) -> str:
    """Return what to write instead of an unknown option."""
    if "max_attempts" not in known:  # options of something other than a task
        return _nearest(name, known)
    meant = _OPTION.get(name, name)
    if meant in known:
        return f"did you mean {meant!r}? {_MORE.get(name, '')}".rstrip()
    if name in _NO_OPTION:
        return _NO_OPTION[name]
    if meant in _PER_CALL:
        return f"{meant} belongs to a call: task_type.options({meant}=...).enqueue(...)"
    if meant in _POLICY:
        return f"{meant} belongs to the task type: @app.task({meant}=...)"
    return _nearest(name, known)


def setting_hint(names: Iterable[str]) -> str | None:
    """Return what to write instead of the first of these arguments that another queue's class has."""
    return next(
        (f"StreamQ has no argument {one!r}: {_SETTING[one]}" for one in names if one in _SETTING), None
    )


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


COMMANDS: Final = _table({
    "`streamq stats` counts by task type, `streamq task list STATE` lists tasks":
        "ls list status info queues queue jobs tasks ps count show-queues inspect length",
    "`streamq dead purge` deletes dead letters, `streamq cancel ID` ends a task":
        "purge delete remove flush clear empty discard",
    "`streamq dead requeue` puts dead letters back": "requeue retry retry-all replay redrive resubmit",
    "`streamq cancel ID` ends a task": "revoke abort kill terminate",
    "`streamq task ID` shows a task": "show get result job describe",
    "`streamq worker APP` runs tasks": "run start serve work worker-pool consume consumer",
    "`streamq daemon` promotes delayed tasks and reclaims abandoned ones": "beat scheduler reclaim promote",
    "`streamq schedules` lists recurring tasks": "schedule cron crontab periodic recurring",
    "`streamq enqueue TYPE JSON` sends a task": "send call submit push add defer publish",
    "`streamq dashboard` serves web pages": "flower web ui monitor-web admin rq-dashboard",
    "`streamq top` watches live, `streamq tail` prints what happens": "monitor events watch logs log follow",
    "`streamq check` is for probes, `streamq doctor` looks at the set-up": "ping health healthcheck diagnose",
    "`streamq drain WORKER` ends a worker": "stop shutdown quit",
    "`streamq dead` lists dead letters": "dlq failed failures errors dead-letters",
    "`streamq wait` waits until no work is left": "join idle wait-idle until-idle",
})  # fmt: skip
"""The commands of other task queues, and streamq's."""

_FLOW_GRAPH: Final = {
    "apply_async": "start the flow: wf.start()",
    "delay": "start the flow: wf.start(); for a delayed node add task.options(delay=...).bind(...)",
    "run": "start the flow: wf.start(), or await wf.astart()",
    "add_step": "add a node: wf.add(task.bind(...))",
    "chord": "add a map and the node that takes its output: wf.add(total.bind(wf.map(parse, items).output))",
}
_FLOW_HANDLE: Final = {
    "get": "wait with handle.result(timeout=...)",
    "wait": "wait with handle.result(timeout=...)",
    "revoke": "end the flow: handle.cancel()",
    "children": "handle.nodes() has the nodes",
}
_FLOWS: Final = {
    "list": "app.flows.all()",
    "show": "app.flows.get(id)",
    "start": "wf = app.flow(name); wf.start()",
}

TABLES: Final = {
    "TaskType": _TASK_TYPE,
    "TaskHandle": _HANDLE,
    "StreamQ": _APP,
    "Admin": _ADMIN,
    "AsyncAdmin": _ADMIN,
    "Inspector": _INSPECTOR,
    "AsyncInspector": _INSPECTOR,
    "Context": _CONTEXT,
    "Schedules": _SCHEDULES,
    "AsyncSchedules": _SCHEDULES,
    "FlowGraph": _FLOW_GRAPH,
    "FlowHandle": _FLOW_HANDLE,
    "Flows": _FLOWS,
    "AsyncFlows": _FLOWS,
}


def missing(owner: str, name: str) -> NoReturn:
    """Raise the AttributeError for an unknown name of a class, with streamq's name for it."""
    hint = TABLES[owner].get(name)
    raise AttributeError(f"{owner} has no attribute {name!r}" + (f": {hint}" if hint else ""))

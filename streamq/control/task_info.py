"""One task with all that is stored of it.

Owns its description. Must not write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streamq import envelope, locks, memos
from streamq.calls import listing as listing_calls
from streamq.calls import live as live_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls import signals as signal_calls
from streamq.calls import steps as step_calls
from streamq.calls.live import Row
from streamq.calls.locate import locate
from streamq.client.task_event import TaskEvent, event_of, latest_progress
from streamq.control.task_rows import failed_attempts
from streamq.control.unreadable import Unreadable, whole
from streamq.errors import InvalidTaskId, ServerError
from streamq.flow import Flow
from streamq.flows.children import MOST_SHOWN, heads, running_for
from streamq.flows.flow_id import node_of
from streamq.flows.reading import FlowInfo
from streamq.keys import SUCCESSOR_DUE_MS, shard_keys, type_keys
from streamq.memos import Suspension
from streamq.model.delivery import Success
from streamq.model.reply import Located
from streamq.model.task import LIVING, State, TaskId
from streamq.payloads.reading import readable
from streamq.payloads.stage import MOST_OF_RESULT, About
from streamq.stored import count


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """Everything that is known of one task. failures: the errors of its attempts, oldest first.

    progress: what its handler told last of how far it is, while the task lives. told: the last hundred of all
    that it told, in its order, for an hour.
    suspended: what it waits for without a worker. memos: of its steps, by their names. mailbox: how many
    signals of each name it has not taken. flows: those that it runs, or that ran for it as a node of a flow.
    success: the attempt that completed it; its worker is a name, or `…` and the last digits of the name if it
    ended long ago. None if an older release completed the task.
    """

    id: str
    type: str
    state: State
    payload: bytes | None
    attempts_failed: int
    lost: int
    failures: list[dict[str, Any]]
    detail: dict[str, str]
    result: bytes | None
    success: Success | None = None
    progress: TaskEvent | None = None
    told: list[TaskEvent] = field(repr=False, default_factory=list["TaskEvent"])
    suspended: Suspension | None = None
    memos: dict[str, bytes] = field(repr=False, default_factory=dict[str, bytes])
    mailbox: dict[str, int] = field(default_factory=dict[str, int])
    fields: dict[str, bytes] = field(repr=False, default_factory=dict)
    flows: Sequence[FlowInfo] = ()


def task_info(app: str, task_id: str, unreadable: Unreadable) -> Flow[TaskInfo]:
    """Return what is stored of a task. Raises InvalidTaskId, and Damaged if a key that it needs cannot be
    read."""
    task = TaskId.parse(task_id)
    call = locate(type_keys(app, task.shard, task.type), task.local)
    located = yield from whole(call, f"task {task_id}")
    success = located.success
    if success is not None:
        success = success._replace(worker=(yield from _named(app, success.worker, unreadable)))
    rows: list[Row] = []
    if located.state != "unknown":
        keys = type_keys(app, task.shard, task.type)
        rows = yield from unreadable.ask(live_calls.newest(keys, task.local), list)
    claims = envelope.fields_dict(located.fields).get("c")
    lock = yield from _lock(app, task, claims, unreadable)
    found = replace(
        _task_info(app, task, located, success, lock),
        progress=latest_progress(rows, app, task) if located.state in LIVING else None,
        told=[event for row in reversed(rows) if (event := event_of(row, app, task)) is not None],
    )
    if located.state in LIVING or located.state == "dead":
        found = yield from _with_steps(app, task, found, unreadable)
    return replace(found, flows=(yield from _flows(app, task, found)))


def _flows(app: str, task: TaskId, info: TaskInfo) -> Flow[list[FlowInfo]]:
    """Return the flows that run for a task, by its memos; and those that ran for it, if it is a node."""
    s, node = shard_keys(app, task.shard), node_of(task.local)
    of_memos = [child for name in info.memos if (child := memos.child_of(name)) is not None]
    try:
        found = yield from heads(s, of_memos[:MOST_SHOWN])
        if node is not None:
            found += (yield from running_for(s, node[0], [node[1]]))[node[1]]
    except ServerError:  # of a flow that cannot be read; its own page says so
        return []
    return list({one.id: one for one in found}.values())


def progress_of(app: str, ids: Sequence[str], unreadable: Unreadable) -> Flow[dict[str, TaskEvent]]:
    """Return how far tasks are, of those whose handlers told it lately."""
    found: dict[str, TaskEvent] = {}
    for task_id in ids:
        try:
            task = TaskId.parse(task_id)
        except InvalidTaskId:  # a damaged heartbeat
            continue
        keys = type_keys(app, task.shard, task.type)
        rows = yield from unreadable.ask(live_calls.newest(keys, task.local), list)
        told = latest_progress(rows, app, task)
        if told is not None:
            found[task_id] = told
    return found


def _with_steps(app: str, task: TaskId, info: TaskInfo, unreadable: Unreadable) -> Flow[TaskInfo]:
    """Return the task with its memos, its mailbox, and what it waits for."""
    t, kept, first = type_keys(app, task.shard, task.type), dict[str, bytes](), 1
    while first:
        page = yield from unreadable.ask(
            step_calls.memos(t, task.local, first), lambda: step_calls.Memos(0, {})
        )
        kept, first = kept | page.by_name, page.following
    unread = yield from unreadable.ask(signal_calls.mailbox(t, task.local), dict[str, int])
    waits = info.state in ("scheduled", "parked")
    name = info.fields.get("s", b"").decode("utf-8", "replace") if waits else ""
    readable_ = {
        one: readable(memos.shown(one, raw), _about(app, task, one)) or b"" for one, raw in kept.items()
    }
    return replace(info, memos=readable_, mailbox=unread, suspended=memos.suspension(name, kept))


def _about(app: str, task: TaskId, memo: str) -> About:
    """Return what a memo holds: the result of a step, or the signal that a wait got."""
    signal = memos.signal_of(memo)
    if signal is None:
        return About(app, task.type, "memo", f"{task}\0{memo}")
    return About(app, task.type, "signal", f"{task}\0{signal}")


def _named(app: str, end: str, unreadable: Unreadable) -> Flow[str]:
    """Return a worker's whole name if it sends heartbeats, or did recently."""
    beats = yield from unreadable.ask(question_calls.workers(shard_keys(app, 0)), list)
    return next((name for name, _ in beats if name.endswith(f"-{end}")), f"…{end}")


def _lock(app: str, task: TaskId, claims: bytes | None, unreadable: Unreadable) -> Flow[dict[str, str]]:
    """Return the key of the task's lock, which task holds it, and which one waits for its end."""
    digest = locks.claimed(claims or b"")
    if not digest:
        return {}
    t = type_keys(app, task.shard, task.type)
    holder = yield from unreadable.ask(producer_calls.lock_holder(t, digest), str)
    other = str(task._replace(local=holder)) if holder else "no task"
    told = {"unique_key": digest.hex(), "held_by": "this task" if holder == task.local else other}
    follows = yield from unreadable.ask(listing_calls.follower(t, digest), str)
    if follows:
        told["followed_by"] = "this task" if follows == task.local else str(task._replace(local=follows))
    return told


def _waiting(detail: dict[str, str]) -> dict[str, str]:
    """Return the detail without the due time if the task waits for the end of another one."""
    waits = detail.get("due_ms") == str(SUCCESSOR_DUE_MS)
    return {name: value for name, value in detail.items() if not (waits and name == "due_ms")}


def _task_info(
    app: str, task: TaskId, located: Located, success: Success | None, lock: dict[str, str]
) -> TaskInfo:
    have = envelope.fields_dict(located.fields)
    failures = envelope.failures(have.get("f", b""), app, task.type)
    failed = success.attempt - 1 if success else failed_attempts(count(have.get("a")), failures)
    ended = {"ended_ms": str(success.at_ms)} if success else {}
    return TaskInfo(
        id=str(task),
        type=task.type,
        state=located.state,
        payload=readable(have.get("p"), About(app, task.type, "payload")),
        attempts_failed=failed,
        lost=count(have.get("l")),
        failures=failures,
        detail={**_waiting(located.detail), **lock, **ended},
        result=readable(located.result, About(app, task.type, "result", str(task), MOST_OF_RESULT)),
        success=success,
        fields=have,
    )

"""What a stranger tries first: names of other queues, tasks of asyncio, patches of a test."""

from __future__ import annotations

import inspect
import re
from typing import Any
from unittest import mock

import pytest

import streamq
from streamq import Context, FlowGraph, FlowHandle, Flows, InvalidOption, StreamQ
from streamq.migration_hints import TABLES

app = StreamQ("shop", "unix:///nowhere.sock")


@app.task
async def email(to: str) -> str:
    return to


handle = app.handle("email:0:n1-0")
context = Context(mock.Mock(id="email:0:n1-0"), 5, None, "w1")
OBJECTS: dict[str, Any] = {
    "TaskType": email,
    "TaskHandle": handle,
    "StreamQ": app,
    "Admin": app.admin,
    "Inspector": app.inspector,
    "Context": context,
    "Schedules": app.schedules,
}


@pytest.mark.parametrize(
    ("owner", "name", "hint"),
    [
        ("TaskHandle", "get", "result(timeout=...)"),
        ("TaskHandle", "wait", "result(timeout=...)"),
        ("TaskHandle", "join", "result(timeout=...)"),
        ("TaskHandle", "state", "status()"),
        ("TaskHandle", "ready", "status() in"),
        ("TaskHandle", "successful", "status() == 'completed'"),
        ("TaskHandle", "failed", "status() == 'dead'"),
        ("TaskHandle", "revoke", "cancel()"),
        ("TaskHandle", "traceback", "TaskDead"),
        ("TaskType", "delay", "enqueue("),
        ("TaskType", "apply_async", "options("),
        ("TaskType", "s", "bind("),
        ("TaskType", "retry", "raise Retry"),
        ("StreamQ", "send_task", "send("),
        ("StreamQ", "enqueue_job", "send("),
        ("StreamQ", "shared_task", "@app.task"),
        ("StreamQ", "broker", "StreamQ(...)"),
        ("TaskType", "enqueue_call", "enqueue("),
        ("StreamQ", "AsyncResult", "handle("),
        ("StreamQ", "autodiscover_tasks", "imports="),
        ("StreamQ", "crontab", "app.schedules.put("),
        ("Schedules", "upsert", "put("),
        ("Context", "scheduled_at", "scheduled_for"),
        ("Admin", "revoke", "cancel("),
        ("Admin", "retry_all", "requeue_type"),
        ("Inspector", "active", "tasks('running')"),
        ("Inspector", "qsize", "stats()"),
        ("Context", "retry", "raise Retry"),
        ("Context", "request", "id"),
    ],
)
def test_names_of_other_queues_are_answered_with_ours(owner: str, name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=rf"{owner} has no attribute '{name}': .*{re.escape(hint)}"):
        getattr(OBJECTS[owner], name)
    assert not hasattr(OBJECTS[owner], "nothing_like_it")


@pytest.mark.parametrize("owner", list(TABLES))
def test_no_hint_stands_for_a_name_that_is_there_and_none_leads_nowhere(owner: str) -> None:
    assert [name for name in TABLES[owner] if hasattr(getattr(streamq, owner), name)] == []
    for hint in TABLES[owner].values():
        for place, called in re.findall(
            r"\b(app\.admin\.|app\.inspector\.|app\.schedules\.|app\.|)(\w+)\(", hint
        ):
            home = {
                "app.admin.": app.admin,
                "app.inspector.": app.inspector,
                "app.": app,
                "app.schedules.": app.schedules,
            }.get(place)
            known = [home] if home is not None else [*OBJECTS.values(), streamq]
            words = ("task_type", "run", "Retry", "DeadSelection", "Worker", "StreamQ", "task")
            assert called in words or any(
                hasattr(one, called) for one in [*known, FlowGraph, FlowHandle, Flows]
            ), hint


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"singleton": True}, "did you mean 'unique'?"),
        ({"unique_for": 60}, "did you mean 'throttle'?"),
        ({"queue": "mails"}, "@app.task(queue=...)"),
        ({"routing_key": "mails"}, "streamq worker --queues"),
        ({"job_id": "a"}, "made by the server; idempotency_key"),
        ({"max_retries": 3}, "did you mean 'max_attempts'? max_attempts counts the first attempt too"),
        ({"lease": 3}, "@app.task(lease=...)"),
        ({"link": 3}, "a node of a flow"),
    ],
)
def test_options_of_other_queues(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(said)):
        email.options(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("broker", "StreamQ('shop', 'redis://host:6379/0')"),
        ("redis_settings", "second argument"),
        ("include", "imports=[...]"),
        ("result_expires", "@app.task(retention=...)"),
    ],
)
def test_arguments_of_the_classes_of_other_queues(given: str, said: str) -> None:
    arguments: dict[str, Any] = {given: "x"}
    with pytest.raises(InvalidOption, match=re.escape(said)):
        StreamQ("shop", **arguments)


def test_an_argument_that_no_queue_has_is_an_error_of_the_call() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'bogus'"):
        StreamQ("shop", bogus=1)  # type: ignore[call-arg]


def test_a_url_in_the_place_of_the_name_is_not_repeated() -> None:
    with pytest.raises(InvalidOption, match="the name comes first, then the URL") as found:
        StreamQ("redis://:hush@localhost")
    assert "hush" not in str(found.value)


def test_a_task_type_cannot_be_registered_again() -> None:
    with pytest.raises(InvalidOption, match="is a task type already"):
        app.task(email)


def test_options_in_the_wrong_place() -> None:
    wrong: Any = {"delay": 5}
    with pytest.raises(InvalidOption, match=re.escape("task_type.options(delay=...).enqueue(...)")):
        app.task(**wrong)
    with pytest.raises(InvalidOption, match="did you mean 'name'"):
        app.task(task_name="x")  # type: ignore[call-overload]


@pytest.mark.parametrize("owner", list(OBJECTS))
def test_every_public_method_can_be_patched(owner: str) -> None:
    """On the object itself, as a test does with what it has imported."""
    one = OBJECTS[owner]
    names = [
        name for name, member in inspect.getmembers(type(one), inspect.isfunction) if not name.startswith("_")
    ]
    for name in names:
        before = getattr(one, name)
        with mock.patch.object(one, name, new="patched"):
            assert getattr(one, name) == "patched"
        assert getattr(one, name) == before


def test_patches_reach_what_a_program_uses() -> None:
    with mock.patch.object(app.admin, "cancel", return_value="cancelled"):
        assert app.admin.cancel("email:0:n1-0") == "cancelled"
    with mock.patch.object(app, "inspector") as inspector:
        inspector.types.return_value = ["email"]
        assert app.inspector.types() == ["email"]
    with mock.patch(f"{__name__}.email.enqueue") as enqueue:
        email.enqueue("ada")
    enqueue.assert_called_once_with("ada")


@pytest.mark.parametrize(
    "what",
    [handle, app.flow_handle("import:0:1764547200000-402938475610"), app.find("email", key="k"),
     email.bind("a"), app.flow("import")],
    ids=["handle", "flow handle", "keyed task", "bound", "flow"],
)  # fmt: skip
async def test_what_is_awaited_by_mistake_says_what_to_await(what: Any) -> None:
    with pytest.raises(streamq.UsageError, match=r"write await \w+\.a\w+\("):
        await what

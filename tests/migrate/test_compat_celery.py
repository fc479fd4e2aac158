"""Celery's call sites over streamq: what works works on a real server, and all else names our word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamq import InvalidOption, InvalidTaskId, StreamQ, TaskDead, UsageError, get_context
from streamq.compat import celery
from streamq.options.table import POLICY
from streamq.testing import Queue


@pytest.fixture(autouse=True)
def _unattached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery, "_shared", celery._Shared())


@pytest.fixture
def app(url: str) -> Iterator[StreamQ]:
    app = StreamQ("shop", url)
    yield app
    app.close()


def test_a_task_from_delay_to_its_result(app: StreamQ) -> None:
    @celery.shared_task
    def add(a: int, b: int = 1) -> int:
        return a + b

    celery.attach(app)
    assert add.name == "tests.migrate.test_compat_celery.add"
    assert add(1, 2) == 3
    with Queue(app) as queue:
        result = add.delay(1, b=2)
        assert (result.state, result.ready(), result.successful(), result.failed()) == (
            "PENDING",
            False,
            False,
            False,
        )
        queue.run()
        assert (result.get(timeout=5), result.state, result.status) == (3, "SUCCESS", "SUCCESS")
        assert (result.ready(), result.successful(), result.failed()) == (True, True, False)
        again = add.AsyncResult(result.id)
        assert (again.get(), again.id, repr(again)) == (3, result.id, f"<AsyncResult {result.id}>")
        with pytest.raises(InvalidTaskId):
            add.AsyncResult("5a6f3c1e-6f0b-4b0e-8a38-1b7b7a6f2b43")


def test_apply_async(app: StreamQ) -> None:
    celery.attach(app)

    @celery.shared_task(name="email", timeout="1m")  # defined after its app was attached
    async def email(to: str, subject: str = "hello") -> str:
        return f"{subject} {to} {get_context().attempt}"

    with Queue(app) as queue:
        first = email.apply_async(("a",), {"subject": "s"}, countdown=60, task_id="order-1")
        same = email.apply_async(["a"], {"subject": "s"}, task_id="order-1")
        assert same.id == first.id
        assert (
            email.apply_async(args=("b",), eta=datetime.now(UTC) + timedelta(hours=1), priority="high").state
            == "PENDING"
        )
        assert queue.run() == []
        assert [task.result for task in queue.advance("2h")] == ["s a 1", "hello b 1"]
        assert first.get() == "s a 1"
        gone = email.apply_async(("c",), countdown=60)
        gone.revoke()
        assert (gone.state, gone.ready()) == ("REVOKED", True)
    assert email.task_type.handler.options.timeout == 60


def test_a_shared_task_runs_once_as_celerys_do(app: StreamQ) -> None:
    @celery.shared_task
    def fails() -> None:
        raise ValueError("no")

    celery.attach(app)
    assert fails.task_type.handler.options.timeout is None
    with Queue(app) as queue:
        result = fails.delay()
        (ended,) = queue.run(raise_errors=False)
        assert (ended.attempts, result.state, result.failed()) == (1, "FAILURE", True)
        with pytest.raises(TaskDead, match="ValueError: no"):
            result.get()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("queue", "queue belongs to the task type: @shared_task(queue="),
        ("link", "a node of a flow"),
        ("serializer", "values are sent as JSON"),
        ("headers", "an argument of the task, or a hook"),
        ("time_limit", "task_type.options(timeout=...).enqueue(...)"),
        ("retention", "task_type.options(...).enqueue(...) has 'retention'"),
    ],
)
def test_every_other_option_is_refused_with_our_word(option: str, said: str, app: StreamQ) -> None:
    celery.attach(app)
    email = celery.shared_task(name="email")(lambda: None)
    wrong: Any = {option: "x"}
    with pytest.raises(
        InvalidOption, match=re.escape(f"apply_async() has no option {option!r}: ") + ".*" + re.escape(said)
    ):
        email.apply_async(**wrong)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bind": True}, "get_context() in the handler"),
        ({"max_retries": 3}, "max_attempts=4 is three retries"),
        ({"time_limit": 3}, 'timeout="1m"'),
        ({"acks_late": True}, "a task is settled when its handler has ended"),
    ],
)
def test_options_of_celerys_tasks_are_refused_where_they_stand(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(said)):
        celery.shared_task(**options)


def test_every_other_name_is_refused_with_our_word(app: StreamQ) -> None:
    celery.attach(app)
    email: Any = celery.shared_task(name="email")(lambda to: None)
    with pytest.raises(AttributeError, match=re.escape("SharedTask has no attribute 's': bind(...)")):
        _ = email.s
    with pytest.raises(AttributeError, match="SharedTask has no attribute 'nonsense'$"):
        _ = email.nonsense
    result: Any = email.delay("a")
    with pytest.raises(AttributeError, match="AsyncResult has no attribute 'traceback': result"):
        _ = result.traceback
    with pytest.raises(InvalidOption, match="terminate=False"):
        result.revoke(terminate=False)
    with pytest.raises(InvalidOption, match="no time zone"):
        email.apply_async(("a",), eta=datetime(2030, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidOption, match="priority"):
        email.apply_async(("a",), priority=5)


def test_one_app_at_a_time(app: StreamQ) -> None:
    email = celery.shared_task(name="email")(lambda: None)
    with pytest.raises(
        UsageError, match=re.escape("'email' belongs to no app yet: call streamq.compat.celery.attach(app)")
    ):
        email.delay()
    with pytest.raises(UsageError, match="no app is attached"):
        email.AsyncResult("email:0:n1-0")
    celery.attach(app)
    celery.attach(app)
    with pytest.raises(UsageError, match="belong to app 'shop' already"):
        celery.attach(StreamQ("other", "unix:///nowhere.sock"))
    assert repr(email) == "<SharedTask 'email'>"


OF_MESSAGES = [
    "link",
    "link_error",
    "shadow",
    "retry",
    "retry_policy",
    "queue",
    "exchange",
    "routing_key",
    "serializer",
    "compression",
    "producer",
    "publisher",
    "connection",
    "router",
    "add_to_parent",
    "headers",
    "stamped_headers",
    "ignore_result",
    "time_limit",
    "soft_time_limit",
    "reply_to",
    "delivery_mode",
    "mandatory",
    "immediate",
    "root_id",
    "parent_id",
    "group_id",
    "group_index",
    "chord",
    "replaced_task_nesting",
    "correlation_id",
    "message_id",
    "user_id",
    "app_id",
    "cluster_id",
]
"""What Celery 5.7 and kombu read of the keywords of `apply_async`."""
OF_DECORATORS = [
    "bind",
    "base",
    "autoretry_for",
    "retry_kwargs",
    "retry_backoff",
    "retry_backoff_max",
    "retry_jitter",
    "dont_autoretry_for",
    "pydantic",
    "pydantic_strict",
    "pydantic_context",
    "pydantic_dump_kwargs",
    "exchange",
    "routing_key",
    "lazy",
    "shared",
]
"""Options of Celery's task decorators that are no attributes of its Task."""


def refused(error: Exception) -> bool:
    """Whether a text ends with our word, and neither guesses nor lists what there is."""
    return ": " in str(error) and "known are" not in str(error) and "did you mean" not in str(error)


def test_every_option_of_a_call_is_supported_or_refused_with_our_word(app: StreamQ) -> None:
    import inspect

    from celery.app.task import Task  # type: ignore[import-untyped]

    celery.attach(app)
    email = celery.shared_task(name="email")(lambda: None)
    ours = inspect.signature(celery.SharedTask.apply_async).parameters
    theirs = [
        *inspect.signature(Task.apply_async).parameters,
        *OF_MESSAGES,
        "countdown",
        "eta",
        "expires",
        "priority",
    ]
    for option in {*theirs} - {*ours, "self", "options"}:
        wrong: Any = {option: "x"}
        with pytest.raises(InvalidOption) as found:
            email.apply_async(**wrong)
        assert refused(found.value), found.value


def test_every_option_of_a_task_is_supported_or_refused_with_our_word() -> None:
    from celery.app.task import Task

    theirs = [
        name
        for name, value in list(vars(Task).items())
        if not name.startswith("_") and not callable(value) and not isinstance(value, classmethod)
    ]
    for option in {*theirs, *OF_DECORATORS} - {*POLICY, "name", "app", "context"}:
        wrong: Any = {option: "x"}
        with pytest.raises(InvalidOption) as found:
            celery.shared_task(**wrong)
        assert refused(found.value), found.value


def test_every_attribute_is_supported_or_refused_with_our_word(app: StreamQ) -> None:
    from celery.app.task import Task
    from celery.result import AsyncResult  # type: ignore[import-untyped]

    celery.attach(app)
    email = celery.shared_task(name="email")(lambda: None)
    result = email.AsyncResult("email:0:n1-0")
    for owner, theirs in ((email, Task), (result, AsyncResult)):
        for name in (one for one in dir(theirs) if not one.startswith("_")):
            if name in dir(type(owner)) or name == "name":
                continue
            with pytest.raises(AttributeError) as found:
                getattr(owner, name)
            assert refused(found.value), found.value


def test_expires_may_be_a_time(app: StreamQ) -> None:
    @celery.shared_task(name="email")
    def email() -> None: ...

    celery.attach(app)
    with Queue(app) as queue:
        later = email.apply_async(expires=datetime.now(UTC) + timedelta(hours=3), countdown=7200)
        found = app.inspector.task(later.id)
        assert found is not None
        lives = int(found.fields["x"]) / 1000 - datetime.now(UTC).timestamp()
        assert 3 * 3600 - 120 < lives < 3 * 3600 + 120  # from the call, though it is due in two hours
        assert len(queue.advance("2h")) == 1
        for over in (3600, datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) - timedelta(hours=1)):
            with pytest.raises(InvalidOption, match="is over before the task is due"):
                email.apply_async(expires=over, countdown=7200)
        with pytest.raises(InvalidOption, match="has no time zone"):
            email.apply_async(expires=datetime(2030, 1, 1))  # noqa: DTZ001

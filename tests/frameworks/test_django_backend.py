"""The backend of django.tasks: what Django promises its users, and what streamq adds."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.checks import Error
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

from streamq import InvalidOption, Item, StreamQError, Unique
from streamq.django import StreamQBackend, StreamQTask, get_app, task
from streamq.django.calls import type_name
from streamq.django.django_task import POLICY_NAMES
from streamq.django.names import (
    ROOT,
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from streamq.options.typed import PolicyOfAny
from tests.frameworks.conftest import home_at
from tests.running import QUICK, tending, until, work_off

READY, RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
FAILED, SUCCESSFUL = TaskResultStatus.FAILED, TaskResultStatus.SUCCESSFUL
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001


async def ended(*results: Any) -> None:
    """Run a worker and a daemon until these tasks have ended; the results are refreshed."""
    app = get_app()
    async with tending(app, QUICK), app.run_worker(concurrency=10):
        for result in results:
            for _ in range(2000):
                await result.arefresh()
                if result.is_finished:
                    break
                await asyncio.sleep(0.01)
            assert result.is_finished, result


def test_the_backend_says_what_it_can(site: Any) -> None:
    backend = task_backends["default"]
    assert isinstance(backend, StreamQBackend)
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority


def test_django_6_runs_the_same_tests_where_it_can() -> None:
    """Which django.tasks this run has tested."""
    if ROOT == "django_tasks":
        pytest.skip("Django 6 needs Python 3.12: this run has tested 5.2 with the backport django-tasks")
    assert ROOT == "django.tasks"


# -- enqueue -----------------------------------------------------------------------------------------------


def test_an_enqueued_task_is_ready(tasks: Any) -> None:
    result = tasks.add.enqueue(1, b=5)
    assert (result.status, result.args, result.kwargs, result.backend) == (READY, [1], {"b": 5}, "default")
    assert (result.attempts, result.errors, result.worker_ids, result.started_at) == (0, [], [], None)
    assert abs(result.enqueued_at - timezone.now()) < timedelta(seconds=30)
    assert not result.is_finished
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    assert tasks.add.get_result(result.id) == result
    assert task_backends["default"].get_result(result.id) == result


async def test_a_task_runs_and_its_result_says_all_of_it(tasks: Any) -> None:
    result = await tasks.add.aenqueue(1, b=5)
    await ended(result)
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 6, 1)
    again = await tasks.add.aget_result(result.id)
    assert (again.args, again.kwargs, again.return_value) == ([1], {"b": 5}, 6)
    assert again.enqueued_at <= again.started_at <= again.finished_at
    assert again.started_at == again.last_attempted_at
    [worker] = again.worker_ids
    assert worker
    assert get_app().handle(result.id).result() == 6  # a reader who knows nothing of Django


def test_refresh_copies_what_has_changed(tasks: Any) -> None:
    """A `def` task sent by name, and an `async def` one, from where no event loop runs."""
    results = [tasks.add.enqueue(1), tasks.nothing.enqueue()]
    kept = [(result.task, result.id, result.args, result.kwargs, result.backend) for result in results]
    work_off(get_app())
    assert [result.status for result in results] == [READY] * 2
    for result in results:
        result.refresh()
    assert [result.status for result in results] == [SUCCESSFUL] * 2
    assert [result.return_value for result in results] == [3, "nothing"]
    assert kept == [(one.task, one.id, one.args, one.kwargs, one.backend) for one in results]
    again = task_backends["default"].get_result(results[0].id)
    assert again == results[0]
    assert results[0].attempts == len(results[0].worker_ids) == 1


def test_a_task_can_be_called_without_the_queue(tasks: Any) -> None:
    assert tasks.add.call(1, b=4) == 5
    assert asyncio.run(tasks.nothing.acall()) == "nothing"
    assert asyncio.run(tasks.add.acall(2)) == 4
    assert (tasks.add.name, tasks.add.module_path) == ("add", "tests.frameworks.site.shop.tasks.add")


async def test_any_signature_comes_back_as_it_was_called(tasks: Any) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}), ((1, 2, 3), {}), ((), {"a": 1, "b": (2, 3)}), (({"x": 1},), {"args": 5}),
    ]  # fmt: skip
    results = [await tasks.noop.aenqueue(*args, **kwargs) for args, kwargs in calls]
    before = [(result.args, result.kwargs) for result in results]
    await ended(*results)
    assert [result.return_value for result in results] == [None] * 4
    stored = [await tasks.noop.aget_result(result.id) for result in results]
    assert [(result.args, result.kwargs) for result in stored] == before
    assert before[2] == ([], {"a": 1, "b": [2, 3]})


@pytest.mark.parametrize("value", [NAIVE, {1}, object(), b"\xff"])
def test_arguments_that_are_not_json_are_refused(tasks: Any, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        tasks.noop.enqueue(value)
    with pytest.raises((TypeError, ValueError)):
        tasks.noop.enqueue(named=value)
    assert get_app().inspector.types() == []


def test_a_call_that_the_function_cannot_take_is_refused_at_once(tasks: Any) -> None:
    with pytest.raises(TypeError, match="cannot take this call"):
        tasks.add.enqueue()


class Shop:
    def method(self) -> None: ...

    @classmethod
    def of_class(cls) -> None: ...

    def __call__(self) -> None: ...


def generator() -> Any:
    yield


async def async_generator() -> Any:
    yield


def test_functions_that_no_worker_can_import_are_refused(tasks: Any) -> None:
    def inner() -> None: ...

    async def async_inner() -> None: ...

    refused: list[Any] = [
        lambda: None, inner, async_inner, print, "name", Shop, Shop(), Shop().method, Shop.of_class,
        partial(in_main),
    ]  # fmt: skip
    for function in refused:
        with pytest.raises(InvalidTask):
            tasks.plain(function)
        with pytest.raises(InvalidTask):
            task(function)
    assert get_app().inspector.types() == []


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (Shop.method, "Shop.method is a method, and a worker has no object for 'self'"),
        (generator, "generator is a generator, whose body never runs"),
        (async_generator, "async_generator is a generator"),
    ],
)
def test_functions_that_a_worker_cannot_call_are_refused(tasks: Any, function: Any, told: str) -> None:
    for decorator in (tasks.plain, task):
        with pytest.raises(InvalidTask, match=told):
            decorator(function)
    assert get_app().inspector.types() == []


def in_main() -> None: ...


def test_a_function_of_the_program_itself_is_refused(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_main, "__module__", "__main__")
    with pytest.raises(InvalidTask, match="no worker can import"):
        tasks.plain(in_main).enqueue()


def no_context(name: str) -> None: ...


def test_a_task_that_takes_a_context_names_it_first(tasks: Any) -> None:
    with pytest.raises(InvalidTask, match="context"):
        tasks.plain(takes_context=True)(no_context)


@pytest.mark.parametrize("priority", [-101, 101, 1.5])
def test_priorities_have_limits(tasks: Any, priority: float) -> None:
    with pytest.raises(InvalidTask):
        tasks.add.using(priority=priority)


async def test_an_unknown_queue_is_refused(tasks: Any) -> None:
    with pytest.raises(InvalidTask, match="nowhere"):
        tasks.add.using(queue_name="nowhere")
    object.__setattr__(found := tasks.add.using(), "queue_name", "nowhere")
    with pytest.raises(InvalidTask):
        found.enqueue(1)
    with pytest.raises(InvalidTask):
        await found.aenqueue(1)


def test_with_no_list_of_queues_those_that_tasks_name_are_served(tasks: Any, url: str) -> None:
    with home_at(url, queues=[]) as home:
        assert home.known_queues() == {"default", "mail"}
        assert tasks.add.using(queue_name="mail").enqueue(1).task.queue_name == "mail"
        with pytest.raises(InvalidTask, match="no worker serves queue 'nowhere'"):
            tasks.add.using(queue_name="nowhere").enqueue(1)


def test_a_naive_time_is_refused_and_one_of_the_past_is_now(tasks: Any) -> None:
    with pytest.raises(InvalidTask, match="aware"):
        tasks.add.using(run_after=NAIVE)
    with override_settings(USE_TZ=False):
        result = tasks.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1)
        assert timezone.is_naive(tasks.add.get_result(result.id).enqueued_at)
    [due] = get_app().inspector.tasks("scheduled").rows
    assert due.id == result.id


async def test_a_task_that_runs_later_is_ready_until_then(tasks: Any) -> None:
    result = await tasks.add.using(run_after=timezone.now() + timedelta(seconds=0.3)).aenqueue(1)
    assert (await tasks.add.aget_result(result.id)).status == READY
    await ended(result)
    assert result.return_value == 3
    assert result.started_at - result.enqueued_at >= timedelta(seconds=0.25)


async def test_higher_priorities_run_first(tasks: Any) -> None:
    order = (-5, 0, 7)
    results = [await tasks.add.using(priority=one).aenqueue(one) for one in order]
    app = get_app()
    async with app.run_worker(concurrency=1):
        await until(lambda: len(tasks.calls) == 3)
    assert [first for first, _ in tasks.calls] == [7, 0, -5]
    assert len(results) == 3


async def test_a_task_is_given_its_context(tasks: Any) -> None:
    result = await tasks.with_context.aenqueue("Ada")
    await ended(result)
    assert result.return_value == {"id": result.id, "attempt": 1, "name": "Ada"}


# -- failures ----------------------------------------------------------------------------------------------


async def test_a_failed_task_shows_its_error(tasks: Any) -> None:
    results = [await tasks.fails.aenqueue(kind) for kind in ("complex", "exit", "plain")]
    await ended(*results)
    assert [result.status for result in results] == [FAILED] * 3
    classes = [result.errors[0].exception_class for result in results]
    assert classes == [tasks.Complex, SystemExit, ValueError]
    assert all("raise " in result.errors[0].traceback for result in results)
    assert "streamq/django" not in results[2].errors[0].traceback  # the user's frames only
    assert [(len(result.errors), result.attempts) for result in results] == [(1, 1)] * 3
    with pytest.raises(ValueError, match="failed"):
        _ = results[0].return_value
    assert all(one.enqueued_at <= one.started_at <= one.finished_at for one in results)


def test_ctrl_c_is_not_told_as_an_end_of_its_own(tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt passes through what is around a handler; the task it ended is a failed one."""
    heard: list[Any] = []
    task_finished.connect(receiver := lambda task_result, **_: heard.append(task_result.id))
    result, other = tasks.fails.enqueue("ctrl-c"), tasks.add.enqueue(1)
    work_off(get_app())
    task_finished.disconnect(receiver)
    result.refresh()
    other.refresh()
    assert (result.status, other.status) == (FAILED, SUCCESSFUL)
    assert result.errors[0].exception_class is KeyboardInterrupt
    assert heard == [other.id]


async def test_what_is_not_json_cannot_be_returned_and_is_not_tried_again(tasks: Any) -> None:
    results = [await tasks.returns.aenqueue(kind) for kind in ("complex", "bad", "set")]
    await ended(*results)
    assert results[0].return_value == {"a": [1, 2], "b": "text", "c": [None, True, 1.5]}
    for result in results[1:]:
        assert (result.status, result.attempts) == (FAILED, 1)
        assert issubclass(result.errors[0].exception_class, TypeError)
        assert "Unsupported type" in result.errors[0].traceback


async def test_a_retried_task_keeps_its_errors_and_a_worker_for_each_attempt(tasks: Any) -> None:
    result = await tasks.flaky.aenqueue(3)
    await ended(result)
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 3, 3)
    assert [one.exception_class for one in result.errors] == [ValueError, ValueError]
    assert result.enqueued_at <= result.started_at <= result.last_attempted_at <= result.finished_at


async def test_a_timeout_and_a_cancellation_are_failures(tasks: Any) -> None:
    finished: list[Any] = []
    task_finished.connect(receiver := lambda task_result, **_: finished.append(task_result.id))
    late = await tasks.slow.aenqueue()
    gone = await tasks.add.using(run_after=timezone.now() + timedelta(hours=1)).aenqueue(1)
    assert await get_app().handle(gone.id).acancel() == "cancelled"
    await ended(late, gone)
    await until(lambda: late.id in finished)
    task_finished.disconnect(receiver)
    assert issubclass(late.errors[0].exception_class, TimeoutError)
    assert issubclass(gone.errors[0].exception_class, StreamQError)


# -- results -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "nonsense", "a:0:n1-0", "a@b", "tests.frameworks.site.shop.tasks.add:0:n1-0"]
)
async def test_a_result_that_does_not_exist(tasks: Any, name: str) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        await tasks.add.aget_result(name)
    with pytest.raises(TaskResultDoesNotExist):
        await sync_to_async(task_backends["default"].get_result)(name)


def test_a_result_of_another_task(tasks: Any) -> None:
    result = tasks.add.enqueue(1)
    with pytest.raises(Exception, match="does not match"):
        tasks.noop.get_result(result.id)


async def test_signals_and_log_lines_tell_of_each_step(tasks: Any, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[str, str, Any]] = []

    def note(name: str) -> Any:
        return lambda sender, task_result, **_: seen.append((name, sender.__name__, task_result.status))

    signals = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}
    receivers = {name: note(name) for name in signals}
    for name, signal in signals.items():
        signal.connect(receivers[name])
    with caplog.at_level(logging.DEBUG, ROOT):
        good, bad = await tasks.add.aenqueue(1), await tasks.fails.aenqueue("plain")
        await ended(good, bad)
    for name, signal in signals.items():
        signal.disconnect(receivers[name])
    assert {name for name, _, _ in seen} == set(signals)
    assert {sender for _, sender, _ in seen} == {"StreamQBackend"}
    assert sorted(str(status) for name, _, status in seen if name == "finished") == ["FAILED", "SUCCESSFUL"]
    for result, last in ((good, "SUCCESSFUL"), (bad, "FAILED")):
        lines = [one.getMessage() for one in caplog.records if result.id in one.getMessage()]
        assert ["enqueued" in lines[0], "RUNNING" in lines[1], last in lines[2]] == [True] * 3
    assert any(one.exc_info and one.exc_info[0] is ValueError for one in caplog.records if one.name == ROOT)


async def test_a_broken_receiver_harms_no_task(tasks: Any) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("a receiver")

    for signal in (task_enqueued, task_started, task_finished):
        signal.connect(broken)
    result = await tasks.add.aenqueue(1)
    await ended(result)
    for signal in (task_enqueued, task_started, task_finished):
        signal.disconnect(broken)
    assert (result.status, result.attempts) == (SUCCESSFUL, 1)


# -- streamq's options ---------------------------------------------------------------------------------------


def test_the_decorator_takes_the_options_of_a_task_type(tasks: Any, site: Any) -> None:
    assert isinstance(tasks.flaky, StreamQTask)
    assert site.handler(tasks.flaky).options.max_attempts == 3
    assert site.handler(tasks.add).options.max_attempts == 2  # of DEFAULTS
    assert site.handler(tasks.mail).options.priority == "high"
    assert set(PolicyOfAny.__annotations__) == set(POLICY_NAMES)


def labelled() -> None: ...


def test_queue_is_another_word_for_the_queue_of_django(tasks: Any, site: Any) -> None:
    for found in (task(queue="mail")(labelled), task(queue="mail", queue_name="mail")(labelled)):
        assert found.queue_name == "mail"
        assert site.handler(found).options.queue == "mail"
        assert found.using(priority=3).queue_name == "mail"
    assert found.enqueue().task.queue_name == "mail"
    with pytest.raises(InvalidOption, match="queue='default' and queue_name='mail' name two queues"):
        task(queue="default", queue_name="mail")(labelled)
    with pytest.raises(InvalidTask, match="fax"):
        task(queue="fax")(labelled)


def test_a_batch_is_refused_and_the_way_to_one_is_told(tasks: Any, site: Any) -> None:
    with pytest.raises(InvalidOption, match=r"is one call, .* @get_app\(\)\.task\(batch=\.\.\.\)"):
        task(batch=10)(labelled)  # type: ignore[call-overload]
    taken: list[list[int]] = []

    def several(items: list[Item[int]]) -> None:
        taken.append([item.value for item in items])

    kind = get_app().task(batch=10, name="several")(several)
    handles = get_app().enqueue_many([kind.bind(number) for number in range(3)])
    work_off(get_app())
    assert sorted(number for one in taken for number in one) == [0, 1, 2]
    assert {handle.status() for handle in handles} <= {"completed", "unknown"}


def one_at_a_time(customer: int, amount: int = 0) -> None: ...


def test_wrong_options_are_named(tasks: Any) -> None:
    with pytest.raises(InvalidTask, match="max_attempts=0"):
        task(max_attempts=0)(one_at_a_time)
    with pytest.raises(InvalidOption, match="max_attempts"):
        task(max_atempts=3)(one_at_a_time)  # type: ignore[call-overload]
    with pytest.raises(InvalidTask, match="nonsense"):
        task(unique=Unique(by=("nonsense",)))(one_at_a_time)
    with pytest.raises(InvalidOption, match="idempotency_key"):
        tasks.add.using(idempotency_ky="a")
    with pytest.raises(Exception, match="run_after"):
        tasks.add.using(delay=5)


def test_unique_keys_know_the_arguments_by_name(tasks: Any) -> None:
    unique = task(unique=Unique(by=("customer",)))(one_at_a_time)
    first = unique.enqueue(7, amount=1)
    assert unique.enqueue(customer=7, amount=2).id == first.id
    assert unique.enqueue(8).id != first.id


def test_options_of_a_call(tasks: Any) -> None:
    once = tasks.add.using(idempotency_key="order-1")
    first = once.enqueue(1)
    assert once.using(priority=5).enqueue(1).id == first.id
    with pytest.raises(StreamQError, match="idempotency key"):
        once.enqueue(2)


def test_other_programs_may_send_by_name(tasks: Any) -> None:
    handle = get_app().send("tests.frameworks.site.shop.tasks.add", {"a": 1, "b": 2})
    result = tasks.add.get_result(handle.id)
    assert (result.args, result.kwargs) == ([], {"a": 1, "b": 2})


def test_a_task_can_be_pickled_if_django_can(tasks: Any) -> None:
    if not hasattr(StreamQTask, "_reconstruct"):
        pytest.skip("Task is picklable from Django 6.1 on")
    found = pickle.loads(pickle.dumps(tasks.flaky))  # noqa: S301
    assert (found.func, found.policy) == (tasks.flaky.func, tasks.flaky.policy)


def test_names_of_types_fit_whatever_the_path_is() -> None:
    assert type_name("shop.tasks.mail") == "shop.tasks.mail"
    assert type_name("shop.tasks.mail", "bulk") == "shop.tasks.mail--bulk"
    long, other = type_name("a" * 150), type_name("a" * 151)
    assert len(long) == len(other) == 100
    assert long != other
    assert type_name("shop.tasks.mail", "a b").startswith("shop.tasks.mail--a_b-")


# -- queues --------------------------------------------------------------------------------------------------


async def test_a_call_may_choose_another_queue(tasks: Any, site: Any) -> None:
    result = await tasks.add.using(queue_name="mail").aenqueue(1)
    assert result.id.startswith("tests.frameworks.site.shop.tasks.add--mail:")
    site.complete()
    types = site.types_of(["mail"])
    assert "tests.frameworks.site.shop.tasks.mail" in types
    assert "tests.frameworks.site.shop.tasks.add" not in types
    app = get_app()
    async with app.run_worker(types=types):
        await until(lambda: tasks.calls == [(1, 2)])
    assert (await tasks.add.aget_result(result.id)).task.queue_name == "mail"
    with pytest.raises(InvalidOption, match="no queue 'fax'"):
        site.types_of(["fax"])


# -- transactions ------------------------------------------------------------------------------------------


def test_on_commit_sends_nothing_before_the_commit(tasks: Any) -> None:
    with transaction.atomic():
        result = tasks.add.enqueue_on_commit(1, b=2)
        assert get_app().inspector.types() == []
        with pytest.raises(TaskResultDoesNotExist):
            tasks.add.get_result(result.id)
        with pytest.raises(TypeError):
            tasks.add.enqueue_on_commit(object())
    assert result.enqueued_at is not None
    found = tasks.add.get_result(result.id)
    assert (found.id, found.status, found.args, found.kwargs) == (result.id, READY, [1], {"b": 2})
    with transaction.atomic():
        tasks.add.enqueue_on_commit(3)
        transaction.set_rollback(True)
    assert len(get_app().inspector.tasks("ready").rows) == 1
    assert tasks.add.enqueue_on_commit(4).id.count(":") == 2  # no transaction: sent at once


async def test_on_commit_from_an_event_loop(tasks: Any) -> None:
    result = await tasks.add.aenqueue_on_commit(1)
    assert (await tasks.add.aget_result(result.id)).status == READY


def test_enqueue_waits_for_the_commit_where_the_settings_say_so(tasks: Any, url: str) -> None:
    with home_at(url, ENQUEUE_ON_COMMIT=True):
        with transaction.atomic():
            result = tasks.add.enqueue(1)
            assert get_app().inspector.types() == []
        assert tasks.add.get_result(result.id).status == READY
        assert tasks.add.enqueue(2).id.count(":") == 2


# -- connections -------------------------------------------------------------------------------------------


async def test_handlers_find_the_database_and_leave_no_connection(tasks: Any) -> None:
    order = await tasks.Order.objects.acreate(name="A7")
    seen: list[Any] = []

    def note(**_: Any) -> None:
        seen.append(connection.connection)

    task_finished.connect(note)
    results = [await tasks.pay_sync.aenqueue(order.pk), await tasks.pay.aenqueue(order.pk)]
    await ended(*results)
    task_finished.disconnect(note)
    assert [result.status for result in results] == [SUCCESSFUL] * 2
    await order.arefresh_from_db()
    assert order.paid in (1, 2)
    assert results[0].return_value == connection.vendor


async def test_async_attempts_do_not_share_one_thread(tasks: Any) -> None:
    """They meet at a barrier: with one thread for all, each would wait for the other for ever."""
    tasks.barrier.reset()
    results = [await tasks.in_two_threads.aenqueue(number) for number in (1, 2)]
    await ended(*results)
    assert sorted(result.return_value for result in results) == [1, 2]


# -- settings and checks -------------------------------------------------------------------------------------


def test_another_backend_can_take_over(tasks: Any) -> None:
    immediate = f"{ROOT}.backends.immediate.ImmediateBackend"
    with override_settings(TASKS={"default": {"BACKEND": immediate, "QUEUES": []}}):
        assert tasks.add.enqueue(1).return_value == 3
    result = tasks.add.enqueue(1)
    assert tasks.add.get_result(result.id).status == READY


def test_check_names_what_is_wrong(site: Any, url: str) -> None:
    call_command("check", fail_level="WARNING")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"URl": "redis://"}, "did you mean 'URL'"), ({"URL": "nonsense"}, "no scheme"),
        ({"SHARDS": 0}, "SHARDS"),
        ({"DEFAULTS": {"priority": "high"}}, "priority"), ({"DEFAULTS": {"max_attempts": 0}}, "max_attempts"),
        ({"ENQUEUE_ON_COMMIT": "nowhere"}, "nowhere"), ({"HOOKS": ["no.such.hook"]}, "no.such.hook"),
        ({"DEFAULTS": {"batch": 2}}, "batch is a task's own"), ({"DEFAULTS": {"queue": "mail"}}, "queue"),
        ({"IMPORTS": "shop"}, "imports"), ({"APP": "a b"}, "a b"),
    ]  # fmt: skip
    for options, expected in cases:
        backend = StreamQBackend("default", {"OPTIONS": options})
        found = list(backend.check())
        assert [type(one) for one in found] == [Error], options
        assert expected in found[0].msg
        assert found[0].hint
    [fault] = StreamQBackend("default", {"QUEUES": "mail", "OPTIONS": {}}).check()
    assert fault.id == "streamq.E003"
    assert "['mail']" in fault.hint


def test_check_deploy_asks_the_server(site: Any, url: str) -> None:
    def complaints() -> str:
        try:
            call_command("check", deploy=True, fail_level="ERROR")
        except SystemCheckError as error:
            return str(error)
        return ""

    assert "streamq.E010" not in complaints()
    with home_at("redis://127.0.0.1:1", PATIENCE=0.1):
        assert "streamq.E010" in complaints()


def test_a_worker_without_settings_says_so() -> None:
    assert os.environ["DJANGO_SETTINGS_MODULE"]
    other = override_settings(TASKS={"default": {"BACKEND": f"{ROOT}.backends.dummy.DummyBackend"}})
    with other, pytest.raises(InvalidOption, match="not streamq's"):
        get_app()

"""Task types and calls as values in a program's hands: what they say of themselves, and what they refuse."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import pytest

from streamq import Daemon, InvalidArguments, InvalidOption, StreamQ, UsageError

NOWHERE = "unix:///nowhere.sock"
app = StreamQ("shop", NOWHERE)
other = StreamQ("other", NOWHERE)


@app.task
async def email(to: str, *, urgent: bool = False) -> None:
    """Send an e-mail."""


@other.task
async def invoice(number: int) -> None: ...


def test_a_task_type_looks_like_its_function() -> None:
    assert repr(email) == "<TaskType 'email' of app 'shop'>"
    assert list(inspect.signature(email).parameters) == ["to", "urgent"]
    assert inspect.unwrap(email).__doc__ == "Send an e-mail."


@pytest.mark.parametrize(("name", "hint"), [("delay", "enqueue"), ("apply_async", "options"), ("s", "bind")])
def test_names_of_other_queues_are_answered_with_ours(name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=rf"no attribute '{name}': {hint}"):
        getattr(email, name)
    assert not hasattr(email, "nothing_like_it")


def test_a_name_given_as_if_it_were_the_function_is_refused() -> None:
    with pytest.raises(InvalidOption, match="name="):
        app.task("email")  # type: ignore[call-overload]
    with pytest.raises(InvalidOption):
        app.task(name="")(email.handler.function)


@pytest.mark.parametrize(
    ("function", "kind"),
    [(lambda: None, "a lambda"), (partial(print, 1), "a partial object")],
    ids=["lambda", "partial"],
)
def test_a_function_without_a_name_needs_one(function: Any, kind: str) -> None:
    with pytest.raises(InvalidOption, match=rf"{kind} has no name to be the task type's: pass it, @app.task"):
        app.task(function)
    name = "work_" + kind[2]
    assert repr(app.task(name=name)(function)) == f"<TaskType '{name}' of app 'shop'>"


@pytest.mark.parametrize("wrong", [[email], ["email"], [None]])
def test_bulk_calls_must_be_bound(wrong: list[object]) -> None:
    with pytest.raises(InvalidArguments, match=r"task_type\.bind"):
        app.enqueue_many(wrong)  # type: ignore[arg-type]


async def test_a_call_of_another_app_is_refused_before_anything_is_sent() -> None:
    calls = [email.bind("a"), invoke := invoice.bind(1)]
    with pytest.raises(InvalidArguments, match="'invoice' belongs to app 'other': the workers of 'shop'"):
        app.enqueue_many(calls)
    with pytest.raises(InvalidArguments, match="to app 'other'"):
        await app.aenqueue_many([invoke])


def test_a_daemon_takes_an_address() -> None:
    with pytest.raises(UsageError, match=r"Daemon\(app\.address\)"):
        Daemon(app)  # type: ignore[arg-type]

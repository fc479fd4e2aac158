"""Task handles as values, and ids where an operator's call takes them."""

from __future__ import annotations

import pickle

import pytest

from streamq import StreamQ, UnknownTaskType, UsageError, Worker, WorkerOptions


def test_handles_of_one_task_are_equal(app: StreamQ) -> None:
    handle, other = app.send("email"), app.send("email")
    assert handle == app.handle(handle.id) != other
    assert {handle, app.handle(handle.id), other} == {handle, other}
    assert handle != StreamQ("elsewhere", str(app.address)).handle(handle.id)
    assert handle != handle.id


def test_a_handle_is_kept_by_its_id(app: StreamQ) -> None:
    with pytest.raises(TypeError, match=r"keep its id, and make another by app.handle\(id\)"):
        pickle.dumps(app.send("email"))


def test_one_id_is_taken_for_one(app: StreamQ) -> None:
    handle = app.send("email")
    assert app.admin.requeue(handle.id) == 0  # it is no dead letter, and was looked for
    assert app.admin.purge(handle.id) == 0


def test_a_type_that_is_not_there_cannot_be_paused(app: StreamQ) -> None:
    app.send("email")
    with pytest.raises(UnknownTaskType, match="app 'shop' has no task type 'mail'; it has: email"):
        app.admin.pause("mail")


def test_a_worker_of_nothing_is_refused(app: StreamQ) -> None:
    app.task(name="email")(lambda: None)
    with pytest.raises(UsageError, match="serves nothing"):
        Worker(app, WorkerOptions(types=()))

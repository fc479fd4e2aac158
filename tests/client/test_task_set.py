"""Task types of a package that knows no app."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streamq import DuplicateTaskType, InvalidArguments, InvalidOption, StreamQ, TaskSet, UsageError
from streamq.testing import Queue
from tests.running import working


async def test_its_types_are_the_apps_once_it_has_included_them(url: str) -> None:
    tasks, app = TaskSet(), StreamQ("shop", url)

    @tasks.task(max_attempts=4)
    async def email(to: str) -> str:
        return f"sent to {to}"

    urgent = email.options(priority="high")  # before the set has an app
    with pytest.raises(UsageError, match="no app has included: call app.include"):
        email.enqueue("a")
    with pytest.raises(UsageError, match="no app has included"):
        await email.aenqueue("a")
    assert await email("b") == "sent to b"

    @app.lifespan
    async def pool(app: StreamQ) -> AsyncIterator[None]:
        yield

    app.include(tasks, prefix="mail.")
    assert list(app.registry.handlers) == ["mail.email"]
    assert app.registry.handlers["mail.email"].options.max_attempts == 4
    assert app.registry.handlers["mail.email"].is_wrapped
    assert email.name == urgent.name == "mail.email"
    with pytest.raises(InvalidArguments, match=r"mail\.email\(to"):
        email.enqueue()  # type: ignore[call-arg]
    async with working(app):
        assert await (await email.aenqueue("a")).aresult(10) == "sent to a"
        assert await urgent.enqueue("c").aresult(10) == "sent to c"
        assert await (await app.asend("mail.email", {"to": "d"})).aresult(10) == "sent to d"
        [handle] = await app.aenqueue_many([email.bind("e")])
        assert await handle.aresult(10) == "sent to e"


def test_two_sets_with_the_same_names_have_prefixes(url: str) -> None:
    app, sets = StreamQ("shop", url), [TaskSet(), TaskSet()]
    for tasks in sets:

        @tasks.task
        def work() -> None: ...

    app.include(sets[0], prefix="a.")
    app.include(sets[1], prefix="b.")
    with Queue(app) as queue:
        for name in ("a.work", "b.work"):
            app.send(name)
        assert sorted(task.type for task in queue.run()) == ["a.work", "b.work"]


def test_what_cannot_be_included_is_refused() -> None:
    tasks, app = TaskSet(), StreamQ("shop")

    @tasks.task
    def work() -> None: ...

    with pytest.raises(DuplicateTaskType, match="already has a task type 'work'"):

        @tasks.task(name="work")
        def other() -> None: ...

    assert repr(tasks) == "<TaskSet of 1 task types, of no app yet>"
    with pytest.raises(InvalidOption, match="is not a valid name"):
        app.include(tasks, prefix="mail:")
    again = TaskSet()
    again.task(work.handler.function)
    app.include(again)
    with pytest.raises(UsageError, match="a set belongs to one app"):
        StreamQ("other").include(again)
    with pytest.raises(UsageError, match="has already included this TaskSet"):
        again.task(name="late")(lambda: None)


def test_an_include_that_failed_leaves_the_names_as_they_were() -> None:
    tasks, app, other = TaskSet(), StreamQ("shop"), StreamQ("other")

    @tasks.task
    def first() -> None: ...

    @tasks.task
    def work() -> None: ...

    @app.task(name="mail.work")
    def taken() -> None: ...

    with pytest.raises(DuplicateTaskType, match=r"'mail\.work'"):
        app.include(tasks, prefix="mail.")
    other.include(tasks, prefix="mail.")
    assert sorted(other.registry.handlers) == ["mail.first", "mail.work"]

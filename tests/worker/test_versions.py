"""Versions, upcasters and aliases: a deployment that changes arguments or names breaks no queued task. Code
that is too old for a task leaves it alone."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamq import (
    DecodeError,
    DuplicateTaskType,
    InvalidOption,
    KeyRing,
    StreamQ,
    TaskDead,
    TaskSet,
    get_context,
)
from streamq.cli import main
from streamq.testing.recorder import recording
from streamq.worker import newer_versions, too_new
from tests.conftest import command
from tests.letters import all_dead
from tests.running import clean, serving, tending, until, work_off, working


class Old:
    """The program of version 1."""

    def __init__(self, url: str, **more: Any) -> None:
        self.app, self.seen = StreamQ("shop", url, **more), list[Any]()
        self.email: Any = self.app.task(name="email", retention=600)(self._email)

    async def _email(self, to: str) -> str:
        self.seen.append(to)
        return f"old {to}"


class New:
    """The program of version 3: `to` became `recipients`, and then there was `subject`."""

    def __init__(self, url: str, **more: Any) -> None:
        self.app, self.seen = StreamQ("shop", url, **more), list[Any]()
        self.email: Any = self.app.task(name="email", retention=600, version=3)(self._email)
        self.email.upcast(1)(lambda given: {"recipients": [given["to"]]})
        self.email.upcast(2)(lambda given: {**given, "subject": "no subject"})

    async def _email(self, recipients: list[str], subject: str) -> str:
        self.seen.append((recipients, subject))
        return f"new {recipients[0]}"


async def test_old_tasks_run_on_new_code(url: str) -> None:
    old, new = Old(url), New(url)
    first = old.email.enqueue("ada")
    second = old.app.send("email", {"to": "bob"})
    command(url, "XADD", "streamq:{shop:0}:email:normal", "*", "p", '{"recipients":["cleo"]}', "V", "2")
    command(url, "HINCRBY", "streamq:{shop:0}:email:counters", "accepted", 1)
    third = new.email.enqueue(["dan"], "hello")
    assert new.app.inspector.task(third.id).fields["V"] == b"3"
    assert "V" not in new.app.inspector.task(first.id).fields
    async with serving(new.app):
        assert [await one.aresult(20) for one in (first, second, third)] == ["new ada", "new bob", "new dan"]
        await until(lambda: len(new.seen) == 4)
    assert sorted(new.seen) == [
        (["ada"], "no subject"), (["bob"], "no subject"), (["cleo"], "no subject"), (["dan"], "hello"),
    ]  # fmt: skip
    clean(new.app)


async def test_a_rolling_deployment_kills_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given many queued v1 tasks, when v2 workers with an upcaster replace v1 one by one, then none is dead
    and none runs on the wrong code."""
    monkeypatch.setattr(too_new, "FIRST_OF_VERSION", 0.05)
    monkeypatch.setattr(newer_versions, "AGAIN", 0.1)
    olds, news = [Old(url) for _ in range(2)], [New(url) for _ in range(2)]
    handles = [olds[0].email.enqueue(f"a{n}") for n in range(200)]
    async with serving(olds[0].app):
        async with working(olds[1].app):
            handles += [olds[0].email.enqueue(f"b{n}") for n in range(100)]
        async with working(news[0].app):
            handles += [news[0].email.enqueue([f"c{n}"], "x") for n in range(100)]
            handles += [olds[0].email.enqueue(f"d{n}") for n in range(100)]
            results = [await one.aresult(60) for one in handles]
    assert len(results) == 500
    assert [one for one in olds[0].seen + olds[1].seen if one[0] == "c"] == []
    assert {one[0][0] for one in news[0].seen} >= {f"c{n}" for n in range(100)}
    assert all_dead(news[0].app.inspector, "email") == []
    clean(news[0].app)


async def test_newer_tasks_wait_visibly_and_nobody_spins(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given v2 tasks and only v1 workers, then they wait, visibly, and v1 does not spin."""
    from tests.doctor.looks import look, one

    monkeypatch.setattr(newer_versions, "AGAIN", 0.1)
    new, old = New(url), Old(url)
    handles = [new.email.enqueue([f"{n}"], "x") for n in range(30)]
    with capture_logs() as log:
        async with tending(old.app), working(old.app) as worker:
            command(
                url, "HSET", "streamq:{shop:0}:email:policy", "version", "3"
            )  # a new producer came after it
            await until(lambda: any(entry["event"] == "type.left_alone" for entry in log))
            # This process takes nothing of the type, not even what it could run.
            waiting = StreamQ("shop", url).send("email", {"to": "v1"})
            await until(lambda: "version:3" in str(old.app.inspector.workers()[0].details))
            finding = one(look(url), "newer tasks of shop")
            assert "email (needs version:3)" in finding.finding
            assert "newer than any worker" in finding.finding
            assert waiting.status() == "ready"
            handed = partial(command, url, "HGET", "streamq:{shop:0}:email:counters", "handed_back")
            await until(lambda: old.app.inspector.type_stats("email").running == 0)
            before = handed()  # what was fetched before the type was left alone
            await asyncio.sleep(1)  # long enough for a worker that spins to be seen
            assert handed() == before
            assert int(before) <= 30  # type: ignore[call-overload]
            assert [entry["needs"] for entry in log if entry["event"] == "task.too_new"] == ["version:3"]
            # The roll-back: the type has the old version again.
            command(url, "HDEL", "streamq:{shop:0}:email:policy", "version")
            assert await waiting.aresult(20) == "old v1"
            assert worker.ready.is_set()
    assert old.seen == ["v1"]
    assert {new.app.inspector.task(handle.id).attempts_failed for handle in handles} == {0}
    for handle in handles:
        new.app.admin.run_now(handle.id)
    async with serving(new.app):
        assert [await handle.aresult(20) for handle in handles] == [f"new {n}" for n in range(30)]
    clean(new.app)


async def test_an_edited_dead_letter_keeps_its_version(url: str) -> None:
    old, new = Old(url), New(url)
    old.email.enqueue("a")
    new.email.enqueue(["a"], "s")
    for wrong in (("p", "{}"), ("p", '{"recipients":7}', "V", "3")):
        command(url, "XADD", "streamq:{shop:0}:email:normal", "*", *wrong)
        command(url, "HINCRBY", "streamq:{shop:0}:email:counters", "accepted", 1)
    async with serving(new.app):
        await until(lambda: len(all_dead(new.app.inspector, "email")) == 2)
    for letter in all_dead(new.app.inspector, "email"):
        fields = dict(zip(letter.fields[::2], letter.fields[1::2], strict=True))
        edited = b'{"recipients": ["b"], "subject": "t"}' if b"V" in fields else b'{"to": "c"}'
        again = new.app.admin.resubmit(str(letter.id), edited)
        assert again is not None
        assert new.app.inspector.task(again).fields.get("V") == fields.get(b"V")
    async with serving(new.app):
        await until(lambda: len(new.seen) == 4)
    assert sorted(new.seen)[2:] == [(["b"], "t"), (["c"], "no subject")]
    clean(new.app)


async def test_an_upcaster_that_fails_makes_a_dead_letter(url: str) -> None:
    app = StreamQ("shop", url)

    @app.task(version=2, name="email")
    async def email(to: str) -> str:
        return to

    @email.upcast(1)
    def upcast(given: dict[str, Any]) -> dict[str, Any]:
        if given["to"] == "nothing":
            return None  # type: ignore[return-value] # pyright: ignore[reportReturnType]
        return {"to": given["address"]}

    old = Old(url)
    wrong, missing = old.email.enqueue("nothing"), old.email.enqueue("x")
    async with serving(app):
        with pytest.raises(TaskDead, match="the upcaster from version 1 returned NoneType"):
            await wrong.aresult(20)
        with pytest.raises(TaskDead, match="KeyError: 'address'"):
            await missing.aresult(20)
    assert {letter.reason for letter in all_dead(app.inspector, "email")} == {"arguments"}


async def test_it_goes_with_seals_processes_schedules_and_follow_ups(url: str) -> None:
    ring = KeyRing(current="a", keys={"a": bytes(32)})
    old, new = Old(url, keys=ring), New(url, keys=ring)
    handle = old.email.enqueue("ada")
    with recording(new.app) as recorded:
        new.email.enqueue(["x"], "y")
    assert next(iter(recorded)).arguments == {"recipients": ["x"], "subject": "y"}

    @new.app.task(name="asks")
    async def asks() -> str:
        from streamq import get_context

        [follow_up] = get_context().enqueue_many([new.email.bind(["f"], "u")])
        return str(follow_up.id)

    asked = asks.enqueue()
    async with serving(new.app):
        assert await handle.aresult(20) == "new ada"
        follow_up = await asked.aresult(20)
        assert await new.app.handle(follow_up).aresult(20) == "new f"
    clean(new.app)


async def test_an_unknown_argument_waits_for_newer_code(url: str) -> None:
    """Given a producer that is deployed before its workers, then its tasks wait, and none is dead."""
    app: Any = StreamQ("shop", url)
    strict, loose = (
        app.task(name=name, extra=extra)(_to) for name, extra in (("strict", "refuse"), ("loose", "ignore"))
    )
    assert (strict.name, loose.name) == ("strict", "loose")
    other = StreamQ("shop", url)
    given = {"to": "ada", "cc": "bob"}
    async with working(app) as worker:
        assert await other.send("loose", given).aresult(20) == "ada"
        handle = other.send("strict", given)
        await until(lambda: handle.status() == "scheduled")
        [count] = worker.parts.runner.attempts.too_new.counts()
    assert (count["type"], count["needs"]) == ("strict", "argument:cc")
    newer = StreamQ("shop", url)

    @newer.task(name="strict")
    async def both(to: str, cc: str = "") -> str:
        return f"{to} {cc}"

    newer.admin.run_now(handle.id)
    async with working(newer):
        assert await handle.aresult(20) == "ada bob"
    assert newer.inspector.type_stats("strict").dead == 0


async def test_an_argument_that_nobody_knows_dies_after_an_hour(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(too_new, "HOUR_OF_VERSION", 0)
    app: Any = StreamQ("shop", url)
    app.task(name="strict")(_to)
    async with working(app):
        with pytest.raises(TaskDead, match="cc unknown") as dead:
            await StreamQ("shop", url).send("strict", {"to": "ada", "cc": "bob"}).aresult(20)
    assert dead.value.reason == "arguments"


async def test_results_and_memos_are_upcast(url: str) -> None:
    first = StreamQ("shop", url)

    @first.task(name="quote", version=2, retention=600, max_attempts=3, backoff=lambda _: 0.01)
    async def old(fail: bool = False) -> int:
        amount = await get_context().step("price", lambda: 700)
        if fail:
            raise ValueError("the deploy comes now")
        return amount

    second = StreamQ("shop", url)

    @second.task(name="quote", version=3, retention=600)
    async def new(fail: bool = False) -> dict[str, int]:
        return await get_context().step("price", cents)

    @new.upcast_result(2)
    def in_cents(value: int) -> dict[str, int]:
        return {"cents": value}

    @new.upcast_memo(2)
    def memo_in_cents(name: str, value: int) -> dict[str, int]:
        assert name == "price"
        return {"cents": value}

    async with working(first):
        done = old.enqueue()
        assert await done.aresult(20) == 700
        failed = old.options(max_attempts=9).enqueue(True)
        await until(lambda: failed.status() == "scheduled")
    assert second.handle(done.id).result(20) == {"cents": 700}
    assert StreamQ("shop", url).handle(done.id).result(20) == 700  # without the code: as it was stored
    second.admin.run_now(failed.id)
    async with working(second):
        assert await second.handle(failed.id).aresult(20) == {"cents": 700}
    with pytest.raises(
        DecodeError, match="the result is of version 3, and this program's code of version 2:"
    ):
        first.handle(failed.id).result(20)
    with pytest.raises(InvalidOption, match=r"upcast_result\(3\) of task type 'quote'"):
        new.upcast_result(3)


def test_a_memo_of_newer_code_waits_for_it(url: str) -> None:
    """Given a task whose step newer code made, when old code gets its next attempt, then it is handed
    back."""
    shapes: dict[int, Any] = {1: int, 2: str}

    def program(version: int) -> tuple[StreamQ, Any]:
        app = StreamQ("shop", url)

        def price() -> Any:
            return shapes[version](700)

        price.__annotations__["return"] = shapes[version]

        @app.task(name="quote", version=version, retention=600)
        async def quote() -> str:
            found = await get_context().step("price", price)
            await get_context().wait("go")
            return f"{found!r}"

        return app, quote

    (old, its), (new, _) = program(1), program(2)
    handle = its.enqueue()
    work_off(new)
    handle.signal("go")
    work_off(old)
    info = old.inspector.task(handle.id)
    assert (info.state, info.attempts_failed, info.fields["k"]) == ("scheduled", 0, b"1")
    new.admin.run_now(handle.id)
    work_off(new)
    assert handle.result(5) == "'700'"


def cents() -> dict[str, int]:
    raise AssertionError("the step was stored by the code before")


async def _to(to: str) -> str:
    return to


async def test_a_renamed_type_serves_both_names(url: str) -> None:
    """Given a rename and a handle of the old name, then status, result, cancel work."""
    old = Old(url)
    waiting, later = old.email.enqueue("ada"), old.email.options(delay="1h").enqueue("bob")
    app, seen = StreamQ("shop", url), list[str]()

    @app.task(name="mail.send", aliases=["email"], retention=60, max_attempts=1)
    async def send(to: str) -> str:
        seen.append(to)
        if to == "fail":
            raise ValueError(to)
        return f"renamed {to}"

    failing = old.email.enqueue("fail")
    assert send.enqueue("cleo").id.startswith("mail.send:")
    assert app.send("email", {"to": "dan"}).id.startswith("mail.send:")
    async with serving(app):
        assert await app.handle(waiting.id).aresult(20) == "renamed ada"
        with pytest.raises(TaskDead):
            await app.handle(failing.id).aresult(20)
        await until(lambda: len(seen) == 4)
    assert app.handle(later.id).status() == "scheduled"
    assert app.handle(later.id).cancel() == "cancelled"
    assert app.admin.requeue([failing.id]) == 1
    async with serving(app):
        await until(lambda: seen.count("fail") == 2)
    clean(app)


def test_an_alias_of_another_type_is_refused(url: str) -> None:
    app: Any = StreamQ("shop", url)
    app.task(name="email")(_to)
    with pytest.raises(
        DuplicateTaskType, match="'email' is the name of the task type 'email' .* an alias of 'send'"
    ):
        app.task(name="send", aliases=["email"])(_other)
    app.task(name="letter", aliases=["post"])(_other)
    with pytest.raises(
        DuplicateTaskType, match="'post' is an alias of the task type 'letter' .* the name of 'post'"
    ):
        app.task(name="post")(_third)
    with pytest.raises(DuplicateTaskType, match="'post' is an alias of the task type 'letter'"):
        app.task(name="parcel", aliases=["post"])(_third)
    with pytest.raises(InvalidOption, match="'email' is the name of the task type itself"):
        StreamQ("shop", url).task(name="email", aliases=["email"])(_to)
    with pytest.raises(
        DuplicateTaskType, match="'letter' is the name of the task type 'letter' .* an alias of 'chain'"
    ):
        app.task(name="chain", aliases=["fresh", "letter"])(_third)
    assert set(app.registry.handlers) == {"email", "letter", "post"}  # nothing is registered by half
    assert app.task(name="twice", aliases=["old", "old"])(_third).name == "twice"
    other: Any = StreamQ("bank", url)  # another app has names of its own
    assert other.task(name="post", aliases=["letter"])(_third).name == "post"
    tasks: Any = TaskSet()
    tasks.task(name="parcels", aliases=["email"])(_third)
    with pytest.raises(DuplicateTaskType, match="'email' is the name .* an alias of 'parcels'"):
        app.include(tasks)
    for wrong in ("email", ["a b"], [7], 3, ["email@eu"]):
        with pytest.raises(InvalidOption, match="aliases=.*: must be a list of task types"):
            app.task(name="x", aliases=wrong)(_to)


async def _other(to: str) -> str:
    return to + "!"


async def _third(to: str) -> str:
    return to + "?"


def test_what_cannot_be_is_refused(url: str) -> None:
    app: Any = StreamQ("shop", url)
    email: Any = app.task(name="email", version=2)(_to)
    for wrong in (0, 2, 3, True, "1"):
        with pytest.raises(InvalidOption, match="must be a version from 1 to before version=2"):
            email.upcast(wrong)
    email.upcast(1)(dict)
    with pytest.raises(InvalidOption, match=r"upcast\(1\) .* there is one already"):
        email.upcast(1)(lambda given: given)
    with pytest.raises(
        InvalidOption, match="version=3: task type 'email' is defined in this program, with version 2"
    ):
        email.options(version=3)
    with pytest.raises(InvalidOption, match="version=0"):
        app.task(name="other", version=0)(_to)
    with pytest.raises(InvalidOption, match="extra='drop': must be one of refuse, ignore"):
        app.task(name="other", extra="drop")(_to)
    sent = app.send("elsewhere", {}, version=4)
    assert app.inspector.task(sent.id).fields["V"] == b"4"


def test_a_plain_task_is_stored_as_ever(url: str) -> None:
    old = Old(url)
    assert old.app.inspector.task(old.email.enqueue("ada").id).fields == {"p": b'{"to":"ada"}'}
    assert old.email.handler.read is None


async def test_a_former_name_is_retired_when_it_is_empty(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Old(url)
    waiting = old.email.enqueue("ada")
    app = StreamQ("shop", url)
    app.task(name="mail.send", aliases=["email"], version=2, retention=60)(_to)
    await _declares_an_alias(url, app, capsys, waiting.id)
    assert main(["types", "retire", "email", "--yes", "--url", url]) == 2
    assert "results of it are kept" in capsys.readouterr().err
    assert main(["types", "retire", "email", "--results", "--yes", "--json", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out) == {"app": "shop", "retired": ["email"]}
    assert app.inspector.types() == ["mail.send"]
    assert main(["types", "retire", "nothing", "--yes", "--url", url]) == 3
    assert main(["types", "retire", "--yes", "--url", url]) == 2


async def _declares_an_alias(
    url: str, app: StreamQ, capsys: pytest.CaptureFixture[str], waiting: str
) -> None:
    """Serve both names, and be asked to retire one meanwhile."""
    app.admin.pause("email")
    async with serving(app):
        capsys.readouterr()
        assert main(["types", "--json", "--url", url]) == 0
        rows = {row["type"]: row for row in json.loads(capsys.readouterr().out)["types"]}
        assert (rows["email"]["alias_of"], rows["email"]["version"]) == ("mail.send", 2)
        assert (rows["mail.send"]["alias_of"], rows["email"]["waiting"]) == (None, 1)
        assert main(["types", "retire", "email", "--yes", "--url", url]) == 2
        assert "serves it as an alias of 'mail.send'. Take it out of aliases" in capsys.readouterr().err
        app.admin.resume("email")
        await until(lambda: app.handle(waiting).status() == "completed")
    capsys.readouterr()

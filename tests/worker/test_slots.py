"""Whatever happens in a slot ends in an outcome, and the slot takes the next task."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from tenacity import wait_fixed

from streamq import StreamQ, TaskDead, WorkerOptions
from streamq.worker.attempts import Attempts
from streamq.worker.outcomes import Outcomes
from tests.running import clean, serving
from tests.worker import handlers

ONE = WorkerOptions(concurrency=1, block=0.3, heartbeat=0.2)


class Base(BaseException):
    pass


class Unshown(Exception):
    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


class Unpickled(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")
        self.kept = lambda: None


class Meta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        raise KeyboardInterrupt


class Traceless(Exception):
    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise Base


def _recursion() -> None:
    _recursion()


def _deep_group() -> BaseException:
    group: BaseException = ValueError()
    for _ in range(3000):
        group = BaseExceptionGroup("g", [group])
    return group


RAISED: list[BaseException] = [
    MemoryError(), RecursionError(), SystemExit(1), KeyboardInterrupt(), Base(), Unshown(), Unpickled(1, 2),
    Traceless(), _deep_group(), asyncio.CancelledError(), asyncio.InvalidStateError(),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["async", "thread"])
@pytest.mark.parametrize("raised", RAISED, ids=lambda raised: type(raised).__name__)
async def test_whatever_a_handler_raises_is_an_outcome(
    app: StreamQ, raised: BaseException, kind: str
) -> None:
    async def on_loop() -> None:
        raise raised

    def in_thread() -> None:
        raise raised

    function: Any = on_loop if kind == "async" else in_thread
    task = app.task(name="raises", max_attempts=2, backoff=wait_fixed(0))(function)
    await _dies(app, task, "attempts", 2)


async def _dies(app: StreamQ, task: Any, reason: str, attempts: int) -> None:
    @app.task
    async def next_() -> int:
        return 1

    async with serving(app, ONE):
        handle = await task.aenqueue()
        with pytest.raises(TaskDead) as caught:
            await handle.aresult(10)
        assert caught.value.reason == reason
        assert await (await next_.aenqueue()).aresult(5) == 1
    assert len(app.inspector.task(handle.id).failures) == attempts
    clean(app)


async def test_policies_that_cannot_judge_count_the_attempt(app: StreamQ) -> None:
    kind: Any = Meta("Kind", (Exception,), {})

    @app.task(max_attempts=2, retry_on=kind)
    async def raises() -> None:
        raise ValueError

    await _dies(app, raises, "attempts", 2)


class Odd:
    """A result whose look is not to be trusted."""

    def __init__(self, what: type[BaseException]) -> None:
        self.what = what

    def __getattribute__(self, name: str) -> Any:
        if name in ("__dict__", "__class__"):
            raise object.__getattribute__(self, "what")
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("what", [RuntimeError, RecursionError])
async def test_a_result_whose_encoding_raises_is_an_outcome(app: StreamQ, what: type[BaseException]) -> None:
    @app.task(max_attempts=2, backoff=wait_fixed(0))
    async def odd() -> Any:
        return Odd(what)

    await _dies(app, odd, "result", 1)


async def test_arguments_that_end_the_process_do_not(app: StreamQ, monkeypatch: pytest.MonkeyPatch) -> None:
    """A validator of the user's runs outside the handler: the slot forgot its delivery."""

    @app.task(max_attempts=3)
    async def picky(x: int = 0) -> None: ...

    def broken(_payload: bytes) -> Any:
        raise SystemExit(3)

    monkeypatch.setattr(picky.handler, "arguments", broken)
    await _dies(app, picky, "arguments", 1)


@pytest.mark.parametrize("error", [MemoryError, SystemExit, Base, RuntimeError])
async def test_a_fault_outside_the_attempt_is_an_outcome(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    before, calls = Attempts.run, [0]

    async def faulty(self: Attempts, attempt: Any) -> Any:
        if attempt.held.delivery.type == "any_":
            calls[0] += 1
            raise error
        return await before(self, attempt)

    @app.task(max_attempts=2, backoff=wait_fixed(0))
    async def any_() -> None: ...

    monkeypatch.setattr(Attempts, "run", faulty)
    await _dies(app, any_, "attempts", 2)
    assert calls == [2]


async def test_the_judgement_itself_may_fail(app: StreamQ, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Outcomes, "failed", broken)

    @app.task(max_attempts=1)
    async def raises() -> None:
        raise ValueError

    await _dies(app, raises, "attempts", 0)


async def test_context_variables_that_cannot_be_compared(app: StreamQ) -> None:
    class Uncomparable:
        def __eq__(self, other: object) -> bool:
            raise SystemExit

        __hash__ = None  # type: ignore[assignment]

    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")

    @app.task
    async def sets() -> int:
        variable.set(Uncomparable())
        return 2

    async with serving(app, ONE):
        for _ in range(3):
            assert await (await sets.aenqueue()).aresult(5) == 2


@pytest.mark.parametrize("what", ["Unpickled", "Unshown", "Base", "MemoryError", "result"])
async def test_in_a_process_too(app: StreamQ, what: str) -> None:
    app_ = handlers.at(str(app.address))
    async with serving(app_, ONE):
        handle = await handlers.raises.aenqueue(what)
        with pytest.raises(TaskDead) as caught:
            await handle.aresult(20)
        assert caught.value.reason == ("result" if what == "result" else "attempts")
        assert (await (await handlers.where.aenqueue()).aresult(20))[1] == 1
    clean(app_)

"""Handlers that raise, log and answer what cannot be passed on: each ends as a failure of its own task."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Generator
from functools import partial
from typing import Any

import pytest
from tenacity import wait_fixed

from streamq import InvalidOption, Retry, StreamQ, TaskDead, get_context, retry
from streamq.telemetry import logs
from tests.running import clean, serving, working


async def dead(app: StreamQ, function: Any, **policy: Any) -> str:
    """How the only attempt of a task ends, and that the slot is there for the next."""
    task: Any = app.task(name="hostile", max_attempts=1, timeout=30, **policy)(function)
    async with serving(app):
        handle = await task.aenqueue()
        with pytest.raises(TaskDead) as caught:
            await handle.aresult(10)
    clean(app)
    return str(caught.value)


def _generator_exit() -> None:
    raise GeneratorExit


async def test_a_generator_exit_does_not_end_the_slot(app: StreamQ) -> None:
    """Guard: it cannot travel through a future (executors)."""
    assert "the handler raised GeneratorExit" in await dead(app, _generator_exit)


async def test_a_message_that_utf8_does_not_have(app: StreamQ, capfd: pytest.CaptureFixture[str]) -> None:
    """The name of a file may have lone surrogates, and the log is JSON."""

    async def fails() -> None:
        raise FileNotFoundError("no \ud800 here")

    logs.configure("info", "json")
    assert "no ? here" in await dead(app, fails)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["message"] for line in lines if line["event"] == "task.dead"] == ["no ? here"]


async def test_a_long_message_is_cut_in_the_log_too(app: StreamQ, capfd: pytest.CaptureFixture[str]) -> None:
    async def fails() -> None:
        raise ValueError("x" * 100_000)

    logs.configure("info", "json")
    await dead(app, fails)
    assert max(map(len, capfd.readouterr().err.splitlines())) < 2000


async def test_what_a_handler_logs_cannot_fail_it(app: StreamQ, capfd: pytest.CaptureFixture[str]) -> None:
    @app.task
    async def log_oddly() -> str:
        get_context().logger.info("odd", text="\ud800", number=2**70, keys={(1, 2): 3})
        return "done"

    logs.configure("info", "json")
    async with working(app):
        assert await (await log_oddly.aenqueue()).aresult(5) == "done"
    [line] = [line for line in capfd.readouterr().err.splitlines() if '"odd"' in line]
    assert json.loads(line)["number"] == str(2**70)


NO_WAITS = [float("nan"), float("inf"), -1, 1e300, None, "soon", "raises"]


@pytest.mark.parametrize("by", ["backoff", "Retry", "a group"])
@pytest.mark.parametrize("wait", NO_WAITS, ids=str)
async def test_a_wait_that_is_no_duration_is_the_default(
    app: StreamQ, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wait: Any, by: str
) -> None:
    """NaN left the task running for ever, infinity scheduled it for ever, the others were dead letters."""
    monkeypatch.setattr(retry, "_default", lambda: wait_fixed(0.01))
    monkeypatch.setattr(retry, "LONGEST_BACKOFF", 0.01)  # what is large and finite is cut

    def backoff(_: object) -> Any:
        if wait == "raises":
            raise SystemExit
        return wait

    async def fails() -> None:
        if by == "Retry":
            raise Retry(after=wait)
        if by == "a group":
            raise ExceptionGroup("two", [Retry(after=wait), ValueError()])
        raise ValueError

    app.task(name="again", max_attempts=3, backoff=backoff if by == "backoff" else None)(fails)
    logs.configure("info", "json")
    async with serving(app):
        handle = await app.asend("again")
        with pytest.raises(TaskDead) as got:
            await handle.aresult(5)
    assert got.value.reason == "attempts"
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    warned = 0 if (wait == 1e300 and by == "backoff") or (wait is None and by != "backoff") else 2
    assert [line["level"] for line in lines if line["event"] == "task.wait_invalid"] == ["warning"] * warned
    assert [line["attempt"] for line in lines if line["event"] == "task.retried"] == [1, 2]
    clean(app)


async def test_a_coroutine_that_nobody_awaits(app: StreamQ) -> None:
    """A decorator that forgets to be async hides that its function is."""

    async def sends() -> None:
        await asyncio.sleep(0)

    def wrapper() -> Coroutine[Any, Any, None]:
        return sends()

    assert "make what wraps it async def as well" in await dead(app, wrapper)


async def _agenerator() -> AsyncGenerator[int]:
    yield 1


def _generator() -> Generator[int]:
    yield 1


class _Sends:
    async def __call__(self, x: int) -> int:
        return x


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (_generator, "is a generator"),
        (_agenerator, "is a generator"),
        (partial(_generator), "is a generator"),
        ("email", r"write @app.task\(name='email'\)"),
        (5, "5 is not a function"),
        (int, "has no introspectable signature"),
    ],
)
def test_what_is_no_handler_is_refused_at_import(app: StreamQ, function: Any, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        app.task(name="any")(function)


async def test_objects_and_partials_run_as_what_they_are(app: StreamQ) -> None:
    """An object whose __call__ is async runs on the loop."""
    app.task(name="object")(_Sends())
    app.task(name="partial")(partial(_Sends.__call__, _Sends()))
    async with working(app):
        for name in ("object", "partial"):
            assert await (await app.asend(name, {"x": 3})).aresult(5) == 3

"""What an app would send, without a server."""

from __future__ import annotations

import pkgutil
from datetime import UTC, date, datetime
from importlib import import_module
from types import ModuleType

import pytest

from streamq import IdempotencyConflict, PayloadError, StreamQ, UsageError, testing
from streamq.testing import recording


@pytest.fixture
def app() -> StreamQ:
    return StreamQ("shop", "redis://nowhere.invalid:1/0", shards=3)


def test_calls_are_kept_as_the_handler_would_get_them(app: StreamQ) -> None:
    @app.task
    def remind(to: str, on: date, times: int = 1) -> None: ...

    with recording(app) as sent:
        remind.enqueue("ada@example.org", date(2026, 12, 1))
        remind.options(delay="5m", priority="high").enqueue("bob@example.org", on=date(2026, 12, 2), times=3)
        app.enqueue_many([remind.bind("eve@example.org", date(2026, 12, 3))])
        app.send("elsewhere", {"n": 1})
    assert len(sent) == 4
    assert [task.type for task in sent] == ["remind", "remind", "remind", "elsewhere"]
    first = sent.assert_one(remind, to="ada@example.org")
    assert first.arguments == {"to": "ada@example.org", "on": date(2026, 12, 1)}
    assert sent.assert_one("remind", delay="5m", priority="high").arguments["times"] == 3
    assert sent.of("elsewhere", n=1)
    sent.assert_none(remind, to="nobody@example.org")
    with pytest.raises(AssertionError, match=r"1 task expected, 3 found remind\(\)\. Sent:\n  SentTask\("):
        sent.assert_one(remind)
    with pytest.raises(AssertionError, match=r"no task expected, 1 found remind\(to='eve@example.org'\)"):
        sent.assert_none(remind, to="eve@example.org")


async def test_async_calls_due_times_and_keys(app: StreamQ) -> None:
    @app.task
    async def charge(order: str) -> None: ...

    at = datetime(2027, 1, 1, tzinfo=UTC)
    with recording(app) as sent:
        await charge.options(at=at).aenqueue("A7")
        first = await charge.options(idempotency_key="A8").aenqueue("A8")
        again = charge.options(idempotency_key="A8").enqueue("A8")
        with pytest.raises(IdempotencyConflict):
            await charge.options(idempotency_key="A8").aenqueue("another")
    assert again.duplicate
    assert again.id == first.id
    assert len(sent) == 2
    assert sent.assert_one(charge, order="A7").at_ms == int(at.timestamp() * 1000)
    assert sent.assert_one(charge, idempotency_key="A8").delay == 0


def test_wrong_calls_fail_as_always_and_nothing_can_be_asked(app: StreamQ) -> None:
    @app.task
    def work(n: int) -> None: ...

    with recording(app) as sent:
        with pytest.raises(PayloadError):
            work.enqueue("x")  # type: ignore[arg-type]
        handle = work.enqueue(1)
        with pytest.raises(UsageError, match=r"recorded, not sent.*streamq.testing.Queue"):
            handle.status()
    assert len(sent) == 1


def test_the_name_is_a_function_whatever_was_imported_before() -> None:
    import_module("streamq.testing.recorder")
    assert not isinstance(testing.recording, ModuleType)
    names = {info.name for info in pkgutil.iter_modules(testing.__path__)}
    assert not names & set(testing.__all__)

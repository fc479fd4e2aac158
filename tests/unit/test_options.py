"""Options: what is taken, and what every wrong value is told."""

from __future__ import annotations

import re
import time
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from tenacity import wait_fixed

from streamq import Address, InvalidOption, InvalidURL, RateLimit, StreamQ, TaskOptions, WorkerOptions
from streamq.migration_hints import _NO_OPTION, _OPTION
from streamq.model.delivery import Overrides
from streamq.options.call import CallOptions, call_options
from streamq.options.checks import seconds
from streamq.options.service import DaemonOptions
from streamq.options.table import OPTIONS, PER_CALL, POLICY, STORED
from streamq.options.task import task_options
from streamq.options.typed import PerCall, Policy
from streamq.options.words import sentences


@pytest.mark.parametrize(
    ("given", "want"),
    [(5, 5.0), (0.25, 0.25), ("90s", 90.0), ("5m", 300.0), ("1h30m", 5400.0), ("250ms", 0.25),
     ("1d", 86400.0), ("1h 5m", 3900.0), ("1.5h", 5400.0), ("2w", 1209600.0), (timedelta(minutes=2), 120.0)],
)  # fmt: skip
def test_durations(given: Any, want: float) -> None:
    assert seconds(given, "x") == want


@pytest.mark.parametrize(
    "given", ["soon", "", "m5", "5m!", -1, float("nan"), float("inf"), True, None, [1], "-5m"]
)
def test_wrong_durations_are_named(given: Any) -> None:
    with pytest.raises(InvalidOption, match="timeout="):
        seconds(given, "timeout")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_attempt": 3}, "@task has no option 'max_attempt': did you mean 'max_attempts'?"),
        ({"zzz": 3}, "@task has no option 'zzz': known are "),
        ({"max_attempts": 0}, "max_attempts=0: must be a whole number of at least 1"),
        ({"max_attempts": 2.5}, "must be a whole number"),
        ({"max_attempts": True}, "must be a whole number"),
        ({"timeout": 0}, "timeout=0: must be at least 0.001 s"),
        ({"retention": -1}, "retention=-1"),
        ({"lease": 0.01}, "lease=0.01: must be at least 0.2 s"),
        ({"backoff": 5}, "backoff=5: must be a tenacity wait object"),
        ({"retry_on": "OSError"}, "retry_on='OSError': must be exception classes"),
        ({"priority": "urgent"}, "priority='urgent': must be one of high, normal, low"),
        ({"executor": "fork"}, "executor='fork': must be 'auto', 'thread' or 'process'"),
        ({"rate_limit": "100"}, "rate_limit='100': not a rate. Write '100/1m'"),
        ({"rate_limit": "0/s"}, "rate_limit='0/s'"),
        ({"lease": 10**400}, "lease=1000"),
        ({"timeout": 10**5000}, "timeout=a huge number"),
        ({"max_backlog": 0}, "max_backlog=0"),
        ({"max_payload": 0}, "max_payload=0"),
    ],
)
def test_a_wrong_policy_is_refused_at_import(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(said)):
        task_options(given)
    with pytest.raises(InvalidOption, match=re.escape(said)):
        StreamQ("shop", "redis://nowhere").task(**given)


def test_a_policy_is_frozen_and_complete() -> None:
    found = task_options({
        "max_attempts": 3, "timeout": "1m", "backoff": wait_fixed(1), "retry_on": OSError,
        "give_up_on": [KeyError],
        "expires": "1d", "retention": 0, "lease": 5, "max_lost": 2, "priority": "high", "executor": "process",
        "rate_limit": "100/1m", "max_backlog": 10, "max_payload": 100,
    })  # fmt: skip
    assert (found.retry_on, found.give_up_on) == ((OSError,), (KeyError,))
    assert "Up to 3 attempts; the wait between them: wait_fixed." in sentences(found.policy()["words"])
    assert {name: value for name, value in found.policy().items() if name != "words"} == {
        "lease_ms": "5000", "max_lost": "2", "rate_limit": "100", "rate_period_ms": "60000",
        "max_backlog": "10",
    }  # fmt: skip
    assert TaskOptions().timeout == 30


@pytest.mark.parametrize(
    ("text", "want"), [("100/1m", (100, 60.0)), ("5/s", (5, 1.0)), ("7/1h30m", (7, 5400.0))]
)
def test_rate_limits(text: str, want: tuple[int, float]) -> None:
    assert RateLimit.parse(text) == RateLimit(*want)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"delay": -1}, "delay=-1: must be at least 0 s"),
        ({"delay": "200y"}, "not a duration. Write"),
        ({"at": datetime(2030, 1, 1)}, "has no time zone: use datetime.now(UTC)"),  # noqa: DTZ001
        ({"at": 5}, "at=5: must be a datetime with a time zone"),
        ({"at": datetime(9999, 1, 1, tzinfo=UTC)}, "at most 100 years ahead"),
        ({"at": datetime.now(UTC), "delay": 5}, "delay and at exclude each other"),
        ({"expires": 0}, "expires=0"),
        ({"priority": "x"}, "priority='x'"),
        ({"max_attempts": 0}, "max_attempts=0"),
    ],
)
def test_wrong_options_of_a_call(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(said)):
        call_options(**given)


def test_an_unknown_option_of_a_call_has_a_hint() -> None:
    app = StreamQ("shop", "redis://nowhere")
    with pytest.raises(InvalidOption, match=r"options\(\) has no option 'delai': did you mean 'delay'"):
        app.bound("email", {}, delai=5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("countdown", "delay"), ("eta", "at"), ("retries", "max_attempts")],
)
def test_the_words_of_other_queues_have_a_hint(theirs: str, ours: str) -> None:
    app: Any = StreamQ("shop", "redis://nowhere")
    with pytest.raises(InvalidOption, match=f"no option '{theirs}': did you mean '{ours}"):
        app.bound("email", {}, **{theirs: 5})


def test_every_word_of_other_queues_means_an_option() -> None:
    """Guard: an option that is renamed would leave a hint that leads nowhere."""
    ours = {f.name for f in fields(TaskOptions)} | PerCall.__annotations__.keys() | {"name"}
    assert set(_OPTION.values()) <= ours
    assert not (_OPTION.keys() | _NO_OPTION.keys()) & ours


def test_a_moment_before_1970_is_due_now(app: StreamQ) -> None:
    assert app.bound("email", {}, at=datetime(1900, 1, 1, tzinfo=UTC)).task.due == 0
    handle = app.send("email", {}, at=datetime(1900, 1, 1, tzinfo=UTC))
    assert handle.status() in ("scheduled", "ready")


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (WorkerOptions, {"concurrency": 0}),
        (WorkerOptions, {"drain_timeout": -1}),
        (WorkerOptions, {"process_slots": 0}),
        (DaemonOptions, {"claim_interval": 0}),
        (DaemonOptions, {"batch": 0}),
    ],
)
def test_wrong_settings_of_processes(kind: Any, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(given))):
        kind(**given)


def test_durations_of_processes_are_seconds_in_whatever_form_they_are_given() -> None:
    worker = WorkerOptions(drain_timeout="1m", block=timedelta(seconds=2))
    assert (worker.drain_timeout, worker.block, worker.heartbeat) == (60.0, 2.0, 5.0)
    assert DaemonOptions(claim_interval="500ms").claim_interval == 0.5
    assert RateLimit(5, "1m") == RateLimit.parse("5/60") == RateLimit.parse("5/m")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (30, 30), ("30", 30), ("30s", 30), (" 30 s", 30),
        ("30 seconds", 30), ("0.5", 0.5), (".5", 0.5), ("5m", 300),
        ("5min", 300), ("1h30m", 5400), ("1 hour 30 minutes", 5400), ("250ms", 0.25), ("2 days", 172800),
        (timedelta(minutes=1), 60), ("0", 0),
    ],
)  # fmt: skip
def test_a_duration_is_the_same_in_every_form(given: Any, found: float) -> None:
    assert seconds(given, "delay") == found
    assert call_options(delay=given).delay == found


@pytest.mark.parametrize(
    "given", ["", "-5", "5 5", "1e3", "nan", "inf", "5m30", "٣", "1,5", "5y", "s", True, None, -1]
)
def test_what_is_no_duration(given: Any) -> None:
    with pytest.raises(InvalidOption, match="delay="):
        seconds(given, "delay")


def test_the_server_url_takes_the_same_durations() -> None:
    address = Address.parse("redis://h/0?socket_timeout=2s&socket_connect_timeout=1.5")
    assert (address.arguments["socket_timeout"], address.arguments["socket_connect_timeout"]) == (2.0, 1.5)
    with pytest.raises(InvalidURL, match="socket_timeout"):
        Address.parse("redis://h/0?socket_timeout=0")


def test_one_type_is_not_taken_for_its_letters() -> None:
    with pytest.raises(
        InvalidOption, match=re.escape("types='email': must be several names. Write ('email',)")
    ):
        WorkerOptions(types="email")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "9" * 200_000,
        "1" * 200_000 + "s",
        "1.1" * 60_000,
        "1s" * 100_000,
        " " * 200_000,
        "٣s",
        "1m" * 32 + "x",
    ],
)
def test_a_long_duration_is_refused_at_once(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidOption, match="Write '90s'") as caught:
        seconds(text, "older")
    with pytest.raises(InvalidOption, match="Write "):
        RateLimit.parse("5/" + text)
    assert time.monotonic() - began < 2
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", ["9" * 5000 + "/s", "0/s", "1000001/s"])
def test_a_rate_with_too_many_digits_is_refused(value: str) -> None:
    with pytest.raises(InvalidOption, match="Write '100/1m'"):
        RateLimit.parse(value)


def test_a_number_that_no_float_holds_is_no_duration() -> None:
    with pytest.raises(InvalidOption, match="at most 100 years"):
        seconds(10**400, "delay")


@pytest.mark.parametrize("name", ["max_attempts", "max_lost", "max_backlog", "max_payload"])
def test_numbers_in_options_are_bounded(name: str) -> None:
    assert getattr(task_options({name: 10**9}), name) == 10**9
    with pytest.raises(InvalidOption, match=name):
        task_options({name: 10**30})


def test_numbers_of_calls_services_and_rate_limits_are_bounded() -> None:
    with pytest.raises(InvalidOption, match="max_attempts"):
        call_options(max_attempts=10**30)
    with pytest.raises(InvalidOption, match="concurrency"):
        WorkerOptions(concurrency=10**30)
    for count, period in (
        (10**30, 1.0), (1_000_001, 1.0), (0, 1.0), (-(10**5000), 1.0), (True, 1.0), (2.5, 1.0),
        (5, float("nan")), (5, float("inf")), (5, 0), (5, "soon"), (5, None),
    ):  # fmt: skip
        with pytest.raises(InvalidOption, match="rate_limit"):
            RateLimit(cast("int", count), cast("float", period))


# -- declared once -----------------------------------------------------------------------------------


def test_what_type_checkers_know_is_what_the_table_declares() -> None:
    """A new option is a field with its row; what callers may pass stands where checkers look for it."""
    assert Policy.__annotations__.keys() == {*POLICY}
    assert PerCall.__annotations__.keys() == {*PER_CALL}
    assert [f.name for f in fields(TaskOptions)] == [*POLICY]
    assert {*STORED} == {*Overrides._fields}
    of_call = {option.field or name for name, option in PER_CALL.items() if option.stored is None}
    assert {f.name for f in fields(CallOptions)} == {*of_call, "overrides"}
    # Of a type `lane` says what its lanes are, of a call which one.
    for name in (POLICY.keys() & PER_CALL.keys()) - {"lane"}:
        mine, theirs = Policy.__annotations__[name], PerCall.__annotations__[name]
        assert _text(theirs) == f"{_text(mine).removesuffix(' | None')} | None"


def _text(annotation: Any) -> str:
    return str(getattr(annotation, "__forward_arg__", annotation))


def test_every_option_says_what_it_is() -> None:
    for option in OPTIONS:
        assert option.policy or option.per_call
        assert option.doc
        assert not option.doc.endswith(".")
        if option.policy:
            assert f"{option.name}: {option.doc}." in (TaskOptions.__doc__ or "")
    page = (Path(__file__).parents[2] / "ops/docs/site/tasks.md").read_text()
    assert [name for name in POLICY if f"`{name}`" not in page] == []


def test_what_is_stored_is_what_its_check_takes() -> None:
    """A worker of this release believes whatever a call of this release can have set, and no more."""
    for name, (least, _) in STORED.items():
        check = PER_CALL[name].check
        assert check(least, name) == least
        with pytest.raises(InvalidOption):
            check(least - 0.001 if least < 1 else 0, name)

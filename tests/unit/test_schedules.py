"""Schedules without a server: what they may be, when they are due, and what a missed time becomes."""

from __future__ import annotations

import builtins
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq import Cron, Every, InvalidOption, Schedule, StreamQ, UsageError
from streamq.errors import DecodeError
from streamq.options.schedule import MISFIRES
from streamq.schedules import arithmetic, definition, plan, registration, state
from streamq.schedules.definition import Definition, defined
from streamq.schedules.plan import MOST_AT_ONCE, Move
from streamq.schedules.registration import Stored
from streamq.schedules.state import REMEMBERED, Paused, State

MADRID = ZoneInfo("Europe/Madrid")
HOUR = 3_600_000
DAY = 24 * HOUR


def ms(*moment: int, tz: Any = MADRID, fold: int = 0) -> int:
    return round(datetime(*moment, tzinfo=tz, fold=fold).timestamp() * 1000)  # type: ignore[misc,arg-type]


def times(schedule: Schedule, after: int, number: int, anchor: int = 0) -> list[int]:
    return list(islice(arithmetic.times(schedule, anchor, after), number))


def daily(expression: str, after: int, number: int = 3) -> list[str]:
    found = times(Schedule(Cron(expression, tz="Europe/Madrid")), after, number)
    return [f"{datetime.fromtimestamp(at / 1000, MADRID):%d %H:%M%z}" for at in found]


# -- what they may be
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cron("0 3 * *"), "has 4 fields, not 5"),
        (
            lambda: Cron("0 0 3 * * *"),
            "has 6 fields, not 5: minute, hour, .* For less than a minute use Every",
        ),
        (lambda: Cron(""), "has 0 fields"),
        (
            lambda: Cron("61 3 * * *"),
            "Cron.'61 3 . . .'.: Bad minute. Write minute 0-59, hour 0-23, day of month 1-31 or L, ",
        ),
        (lambda: Cron("0 25 * * *"), "Bad hour. Write minute"),
        (lambda: Cron("0 3 * 13 *"), "Bad month. Write minute"),
        (lambda: Cron("0 3 * * 8"), "Bad day-of-week. Write minute .* day of week 0-7 or SUN-SAT"),
        (lambda: Cron("*/0 * * * *"), "Bad minute"),
        (lambda: Cron("@daily"), "has 1 fields, not 5"),
        (
            lambda: Cron("0 3 * * *", tz="Mars/X"),
            "tz='Mars/X': there is no such time zone; write an IANA name",
        ),
        (lambda: Cron("0 3 * * *", tz="localtime"), "there is no such time zone"),
        (lambda: Every(float("nan")), "Every=nan: must be at least 1 s"),
        (lambda: Every(float("inf")), "Every=inf: must be at least 1 s and at most 100 years"),
        (lambda: Cron("0 3 * * FOO"), "Bad day-of-week"),
        (lambda: Cron("0 3 31 2 *"), "Bad day-of-month"),
        (lambda: Cron("0 0 L/LW * *"), "Bad day-of-month|cannot be read"),
        (lambda: Cron("0 0 * * MON#9"), "Bad day-of-week"),
        (lambda: Cron("9" * 180 + " * * * *"), "Bad minute|cannot|Exceeds"),
        (lambda: Cron("* " * 300), "write the expression as text"),
        (lambda: Cron(5), "write the expression as text"),  # type: ignore[arg-type]
        (lambda: Cron("0 3 * * *", tz="Mars/Olympus"), "there is no such time zone; write an IANA name"),
        (lambda: Cron("0 3 * * *", tz="Europe"), "there is no such time zone"),
        (lambda: Cron("0 3 * * *", tz="../etc/passwd"), "there is no such time zone"),
        (lambda: Cron("0 3 * * *", tz=""), "there is no such time zone"),
        (lambda: Cron("0 3 * * *", tz=None), "write the zone's name"),  # type: ignore[arg-type]
        (lambda: Every("soon"), "Every='soon': not a duration"),
        (lambda: Every(0.5), "Every=0.5: must be at least 1 s"),
        (lambda: Every(-1), "Every=-1: must be at least"),
        (lambda: Schedule("10m"), "'10m' is no schedule: write Cron"),  # type: ignore[arg-type]
        (lambda: Schedule(Every(5), misfire="never"), "misfire='never': must be one of last, skip, all"),  # type: ignore[arg-type]
        (lambda: Schedule(Every(5), overlap="x"), "overlap='x': must be one of skip, allow, queue_one"),  # type: ignore[arg-type]
        (lambda: Schedule(Every(5), times=0), "times=0: must be a whole number of at least 1"),
        (lambda: Schedule(Every(5), jitter="x"), "jitter='x'"),
        (lambda: Schedule(Every(5), jitter="6s"), "jitter=6 s: longer than the interval"),
        (lambda: Schedule(Every(5), grace=0), "grace=0: must be at least 1 s"),
        (lambda: Schedule(Every(5), start=datetime(2027, 1, 1)), "has no time zone"),  # noqa: DTZ001
        (
            lambda: Schedule(
                Every(5), start=datetime(2027, 1, 2, tzinfo=UTC), end=datetime(2027, 1, 1, tzinfo=UTC)
            ),
            "end=.*: must be later than start",
        ),
    ],
)
def test_what_a_schedule_may_not_be(make: Any, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        make()


def test_a_handler_that_needs_arguments_cannot_be_declared() -> None:
    app = StreamQ("shop")
    with pytest.raises(InvalidOption, match="a schedule calls it without arguments, and n has no default"):

        @app.task(schedule=Every("10m"))
        def report(n: int, more: str = "") -> None: ...

    with pytest.raises(InvalidOption, match="schedule='10m': write Cron"):
        app.task(schedule="10m")  # type: ignore[call-overload]


def test_without_cronsim_a_declaration_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cronsim":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert str(Every("10m")) == "every 10 min"
    with pytest.raises(UsageError, match=r"Cron needs cronsim: pip install 'streamq\[cron\]'"):
        Cron("0 3 * * *")


# -- when they are due
# -----------------------------------------------------------------------------------------


def test_a_fixed_time_that_the_clock_leaps_over_is_due_after_the_leap_and_once() -> None:
    assert daily("30 2 * * *", ms(2027, 3, 27, 12)) == ["28 03:00+0200", "29 02:30+0200", "30 02:30+0200"]


def test_a_fixed_time_that_comes_twice_is_due_at_the_first() -> None:
    want = ["31 02:30+0200", "01 02:30+0100", "02 02:30+0100"]
    assert daily("30 2 * * *", ms(2027, 10, 30, 12)) == want
    # Also where it is asked between the two.
    assert daily("30 2 * * *", ms(2027, 10, 31, 2, 45)) == [*want[1:], "03 02:30+0100"]
    assert daily("30 2 * * *", ms(2027, 10, 31, 2, 10, fold=1)) == [*want[1:], "03 02:30+0100"]


def test_each_hour_goes_by_real_time() -> None:
    assert daily("0 * * * *", ms(2027, 3, 28, 0, 30), 3) == [
        "28 01:00+0100",
        "28 03:00+0200",
        "28 04:00+0200",
    ]
    assert daily("15 * * * *", ms(2027, 10, 31, 1, 20), 4) == [
        "31 02:15+0200", "31 02:15+0100", "31 03:15+0100", "31 04:15+0100",
    ]  # fmt: skip
    assert daily("*/30 2 * * *", ms(2027, 3, 27, 12), 2) == ["29 02:00+0200", "29 02:30+0200"]


def test_without_a_zone_it_is_utc() -> None:
    assert Cron("0 3 * * *").tz == "UTC"
    assert times(Schedule(Cron("0  3 * * *")), 0, 2) == [3 * HOUR, 27 * HOUR]


@given(
    expression=st.sampled_from(["30 2 * * *", "0 * * * *", "*/7 * * * *", "0 2,3 * * SUN", "15 1-3 29 2 *"]),
    zone=st.sampled_from(
        ["UTC", "Europe/Madrid", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata"]
    ),
    start=st.integers(1_700_000_000_000, 1_900_000_000_000),
)
def test_times_only_go_up_and_asking_again_tells_the_same(expression: str, zone: str, start: int) -> None:
    schedule = Schedule(Cron(expression, tz=zone))
    found = times(schedule, start, 5)
    assert found == sorted(set(found))
    assert found[0] > start
    for before, after in pairwise(found):
        assert arithmetic.after(schedule, 0, before) == after


def test_an_interval_does_not_drift() -> None:
    schedule = Schedule(Every("10m"))
    assert times(schedule, 5, 2, anchor=5) == [600_005, 1_200_005]
    assert times(schedule, 1_900_000, 1, anchor=5) == [2_400_005]
    begins = Schedule(Every("10m"), start=datetime(2027, 1, 1, tzinfo=UTC))
    assert times(begins, 0, 2, anchor=5) == [ms(2027, 1, 1, tz=UTC), ms(2027, 1, 1, 0, 10, tz=UTC)]


def test_start_and_end_bound_it() -> None:
    bound = Schedule(
        Cron("0 3 * * *"), start=datetime(2027, 1, 2, tzinfo=UTC), end=datetime(2027, 1, 3, 3, tzinfo=UTC)
    )
    assert times(bound, 0, 5) == [ms(2027, 1, 2, 3, tz=UTC), ms(2027, 1, 3, 3, tz=UTC)]
    assert (
        arithmetic.after(Schedule(Cron("0 0 1 1 *")), 0, 253_402_300_700_000) is None
    )  # after the year 9999


def test_jitter_is_the_same_on_every_host_and_less_than_asked() -> None:
    schedule = Schedule(Every("1h"), jitter="5m")
    late = [arithmetic.due(schedule, "nightly", n * HOUR) - n * HOUR for n in range(50)]
    assert late[:3] == [arithmetic.due(schedule, "nightly", n * HOUR) - n * HOUR for n in range(3)]
    assert all(0 <= one < 300_000 for one in late)
    assert len(set(late)) > 40


# -- what is to be done
# ----------------------------------------------------------------------------------------


def steps(schedule: Schedule, found: State, now: int) -> list[Move]:
    made: list[Move] = []
    while (move := plan.step(schedule, "s", found, now)) is not None:
        made.append(move)
        found = replace(found, next=move.next, last=move.upto)
    return made


def runs_of(made: list[Move]) -> list[int]:
    return [move.run // HOUR for move in made if move.run is not None]


def hourly(**more: Any) -> Schedule:
    return Schedule(Every("1h"), **more)


DUE = State(revision=1, anchor=0, next=HOUR)


def test_nothing_is_due_before_its_time() -> None:
    assert steps(hourly(), DUE, HOUR - 1) == []
    assert steps(hourly(), replace(DUE, next=None), 9 * HOUR) == []


def test_a_run_that_is_little_late_is_made() -> None:
    for misfire in MISFIRES:
        assert steps(hourly(misfire=misfire), DUE, HOUR + 60_000) == [Move(HOUR, 0, HOUR, 2 * HOUR, 2 * HOUR)]


@pytest.mark.parametrize(
    ("misfire", "runs", "skipped"), [("last", [6], 5), ("all", [1, 2, 3, 4, 5, 6], 0), ("skip", [], 6)]
)
def test_after_six_hours_without_a_daemon(misfire: Any, runs: list[int], skipped: int) -> None:
    made = steps(hourly(misfire=misfire), DUE, 6 * HOUR + HOUR // 2)
    assert runs_of(made) == runs
    assert sum(move.skipped for move in made) == skipped
    assert made[-1].next == 7 * HOUR


def test_skip_makes_the_run_that_is_within_its_grace() -> None:
    made = steps(hourly(misfire="skip"), DUE, 6 * HOUR + 1000)
    assert (runs_of(made), sum(move.skipped for move in made)) == ([6], 5)


@pytest.mark.parametrize("misfire", MISFIRES)
@pytest.mark.parametrize("when", [Every("1m"), Cron("* * * * *")])
def test_a_long_absence_is_counted_whole_in_bounded_steps(misfire: Any, when: Any) -> None:
    schedule, minute = Schedule(when, misfire=misfire), 60_000
    missed = 2500
    made = steps(schedule, State(revision=1, next=minute), missed * minute + minute - 1)
    runs = [move.run for move in made if move.run is not None]
    late_enough = 1 if misfire == "skip" else 0  # the last is within its grace
    assert len(runs) == {"last": 1, "skip": late_enough, "all": MOST_AT_ONCE}[misfire]
    assert runs == sorted(runs)
    assert sum(move.skipped for move in made) + len(runs) == missed
    assert len(made) < 110


def test_the_end_of_a_series_is_the_end() -> None:
    ends = hourly(end=datetime.fromtimestamp(2 * HOUR / 1000, UTC), misfire="all")
    made = steps(ends, DUE, 9 * HOUR)
    assert (runs_of(made), made[-1].next, made[-1].due) == ([1, 2], None, None)


# -- what becomes of a row
# -------------------------------------------------------------------------------------


def of(schedule: Schedule, payload: bytes = b"{}") -> Definition:
    return defined(schedule, "report", "n", (), payload)


def stored(change: registration.Change | None, wanted: Definition) -> Stored:
    assert change is not None
    return Stored(change.state, wanted.fingerprint, wanted)


def test_the_same_again_changes_nothing() -> None:
    wanted = of(hourly())
    first = registration.put("s", wanted, None, 5)
    assert first is not None
    assert (first.state.next, first.due, first.state.revision) == (HOUR + 5, HOUR + 5, 1)
    assert registration.put("s", wanted, stored(first, wanted), 99) is None
    declared = registration.declare("s", wanted, None, 5)
    assert registration.declare("s", wanted, stored(declared, wanted), 99) is None


def test_an_old_release_brings_no_definition_back() -> None:
    old, new = of(hourly()), of(Schedule(Every("2h")))
    row = stored(registration.declare("s", old, None, 0), old)
    row = stored(registration.declare("s", new, row, 10), new)
    assert registration.declare("s", old, row, 20) is None
    assert registration.declare("s", new, row, 30) is None


def test_twenty_definitions_are_remembered() -> None:
    all_ = [of(Schedule(Every(n + 1))) for n in range(REMEMBERED + 2)]
    row = stored(registration.declare("s", all_[0], None, 0), all_[0])
    for wanted in all_[1:]:
        row = stored(registration.declare("s", wanted, row, 0), wanted)
    assert registration.declare("s", all_[1], row, 0) is None
    assert registration.declare("s", all_[0], row, 0) is not None


def test_code_touches_nothing_that_was_put() -> None:
    by_call, by_code = of(hourly()), of(Schedule(Every("2h")))
    row = stored(registration.put("s", by_call, None, 0), by_call)
    assert registration.declare("s", by_code, row, 5) is None
    declared = stored(registration.declare("s", by_code, None, 0), by_code)
    taken = registration.put("s", by_code, declared, 5)
    assert taken is not None
    assert (taken.state.origin, taken.state.next) == ("call", declared.state.next)


def test_a_deploy_puts_off_no_run() -> None:
    old, new = of(hourly(), b"1"), of(hourly(overlap="allow"), b"2")
    row = stored(registration.declare("s", old, None, 5), old)
    change = registration.declare("s", new, row, HOUR)
    assert change is not None
    assert change.state.next == row.state.next


def test_a_time_that_was_dealt_with_does_not_come_again_when_the_clock_was_set_back() -> None:
    old, new = of(Schedule(Cron("0 * * * *"))), of(Schedule(Cron("*/30 * * * *")))
    row = stored(registration.declare("s", old, None, 0), old)
    row = row._replace(state=replace(row.state, last=8 * HOUR, next=9 * HOUR))
    change = registration.declare("s", new, row, 3 * HOUR)
    assert change is not None
    assert change.state.next == 8 * HOUR + HOUR // 2


def test_a_pause_is_not_made_up_for() -> None:
    wanted = of(hourly())
    first = registration.put("s", wanted, None, 0)
    assert first is not None
    stopped = registration.paused(first.state, Paused("ada", "", 1))
    assert stopped.due is None
    resumed = registration.resumed("s", stopped.state, wanted, 5 * HOUR + 1)
    assert (resumed.state.next, resumed.due, resumed.state.paused) == (6 * HOUR, 6 * HOUR, None)


def test_an_orphan_is_removed_after_an_hour_and_not_before() -> None:
    wanted = of(hourly())
    row = registration.declare("s", wanted, None, 0)
    assert row is not None
    orphan = registration.announced("s", row.state, wanted, 1000, by_code=False)
    assert orphan is not None
    assert orphan.due == row.due  # it goes on meanwhile
    assert not registration.over(orphan.state, 1000 + HOUR - 1)
    assert registration.over(orphan.state, 1000 + HOUR)
    back = registration.announced("s", orphan.state, wanted, 5000, by_code=True)
    assert back is not None
    assert back.state.orphan is None
    assert registration.announced("s", back.state, wanted, 5000, by_code=True) is None


# -- what is stored
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(Cron("0 3 * * *", tz="Europe/Madrid"), misfire="all", overlap="cancel"),
        Schedule(
            Every("10m"), jitter="1m", grace="2h", times=5,
            start=datetime(2027, 1, 1, tzinfo=UTC), end=datetime(2027, 2, 1, tzinfo=UTC),
        ),
    ],
)  # fmt: skip
def test_a_definition_comes_back_as_it_was(schedule: Schedule) -> None:
    wanted = defined(schedule, "report", "h", (("x", "60000"), ("m", '{"timeout":5}')), b"{}")
    assert definition.read(wanted.stored()) == wanted
    assert wanted.fingerprint != defined(schedule, "report", "h", (), b"{}").fingerprint


def test_a_state_comes_back_as_it_was() -> None:
    full = State(
        5, "code", 1, 2, 3, "n1-0", "report", 4, 5, 6, 7, {"misfire": 2}, 3, 9, Paused("ada", "why", 4), 8,
        ("a", "b"), leaving=True,
    )  # fmt: skip
    assert state.read(full.stored()) == full
    assert state.read(State(revision=1).stored()) == State(revision=1)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists) | st.binary()
)
def test_whatever_is_stored_is_read_or_refused(value: Any) -> None:
    raws = [value] if isinstance(value, bytes) else []
    try:
        raws += [
            orjson.dumps(value),
            orjson.dumps({"revision": 1, "next": value, "skipped": value, "paused": value}),
        ]
        whole = orjson.loads(Definition(hourly(), "report").stored())
        raws += [orjson.dumps({**whole, name: value}) for name in whole]
    except TypeError:  # an integer that JSON does not hold
        pass
    for raw in raws:
        state.read(raw)
        try:
            definition.read(raw)
        except DecodeError as error:
            assert "damaged" in str(error)


def test_a_time_in_the_far_future_is_no_fault() -> None:
    far = Schedule(Every(timedelta(days=30_000)))
    assert times(far, 0, 1) == [30_000 * DAY]

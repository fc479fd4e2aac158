"""What the dashboard remembers of the last hour and day is what it would read anew, and it is bounded."""

from __future__ import annotations

import pytest

from streamq import StreamQ
from streamq.calls import rollup as rollup_calls
from streamq.calls.call import Call
from streamq.calls.rollup import MINUTE_MS, QUARTER_MS
from streamq.control.rollups import Span
from streamq.dashboard.history import ALL, SETTLED_MS, History, HistoryReader
from streamq.keys import type_keys

STEPS: dict[Span, tuple[int, int]] = {"hour": (MINUTE_MS, 60), "day": (QUARTER_MS, 96)}


def filled(app: StreamQ) -> None:
    """Two types with something in every slice of the last day."""
    run, now = app._client.transport.run, app.inspector.now_ms()
    for weight, name in enumerate(("email", "charge"), 1):
        app.send(name, {})
        keys = type_keys("shop", 0, name)
        for span, (step, number) in STEPS.items():
            for at in range(now // step - number - 1, now // step + 1):
                key = keys.minute(at) if span == "hour" else keys.quarter(at)
                fields = {"accepted": 3 * weight, "completed": at % 5, "retried": 1, f"run:{at % 40}": 7}
                args = [part for pair in fields.items() for part in pair]
                run(Call(None, (key,), ("HSET", key, *args), int))


def look(app: StreamQ, history: History, later_ms: int = 0) -> HistoryReader:
    found = history.reader(app.inspector)
    found._now_ms += later_ms
    return found


@pytest.mark.parametrize("span", ["hour", "day"])
@pytest.mark.parametrize("types", [["email"], ["charge", "email"]])
def test_what_is_remembered_is_what_would_be_read(app: StreamQ, span: Span, types: list[str]) -> None:
    filled(app)
    history = History()
    name = types[0] if len(types) == 1 else ALL
    step, number = STEPS[span]
    for later in (0, 0, step, step, 5 * step, number * step // 2, 3 * number * step):
        known = look(app, history, later)
        fresh = look(app, History(), 0)
        fresh._now_ms = known._now_ms
        seen, want = known.points(types, span, name), fresh.points(types, span, name)
        assert [point.start_ms for point in seen] == [point.start_ms for point in want]
        assert seen == want
        assert number - 1 <= len(seen) <= number
        assert len(history._finished[span, name]) <= number


def test_what_is_over_is_read_once(app: StreamQ, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(app)
    history, read = History(), list[int]()
    rollups = rollup_calls.rollups

    def counted(keys: list[str]) -> Call[list[dict[str, int]]]:
        read.append(len(keys))
        return rollups(keys)

    monkeypatch.setattr("streamq.calls.rollup.rollups", counted)
    for _ in range(3):
        recent, points = look(app, history).hour("email")
        assert (len(recent), sum(point.done for point in points) > 0) == (5, True)
    assert read[0] == 60
    assert max(read[1:]) <= 6


def test_a_slice_that_ended_just_now_may_still_change(app: StreamQ) -> None:
    filled(app)
    history = History()
    found = look(app, history)
    found.hour("email")
    over = history._finished["hour", "email"]
    assert max(over) + MINUTE_MS + SETTLED_MS < found._now_ms


def test_nothing_is_known_of_an_empty_queue(app: StreamQ) -> None:
    assert look(app, History()).points([], "hour", ALL) == []

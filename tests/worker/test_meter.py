"""What the meter counts of each task, and measures of some."""

from __future__ import annotations

import time

from streamq.model import Completed, Delivery, Outcome
from streamq.telemetry.sums import Sums
from streamq.worker.holdings import Held
from streamq.worker.meter import ENOUGH, Meter

LABELS = ("shop", "email")


def run(meter: Meter, number: int, local: str = "n1700000000000-0") -> None:
    for n in range(number):
        held = Held(Delivery("email", 0, f"n1700000000000-{n}", local, b"{}"))
        held.started = time.monotonic() - 0.02
        meter.finished(held, Completed())


def made() -> tuple[Meter, Sums, list[Outcome]]:
    passed_on: list[Outcome] = []
    sums = Sums()
    # The server's clock says that each became ready 1.5 s before it started.
    meter = Meter(sums, "shop", ["email"], lambda _, outcome: passed_on.append(outcome),
                  lambda _, __: 1_700_000_001_500)  # fmt: skip
    return meter, sums, passed_on


def test_few_are_all_measured_and_passed_on() -> None:
    meter, sums, passed_on = made()
    run(meter, 10)
    found = sums.snapshot()
    counts, total = found.histograms["streamq_task_wait_seconds", *LABELS, "normal"]
    assert (sum(counts), total) == (10, 15.0)
    counts, total = found.histograms["streamq_task_duration_seconds", *LABELS]
    assert sum(counts) == 10
    assert 0.2 <= total < 5
    assert found.counters["streamq_task_attempts_total", *LABELS, "completed"] == len(passed_on) == 10


def test_of_many_one_stands_for_the_rest_and_none_is_left_uncounted() -> None:
    meter, sums, _ = made()
    run(meter, 10 * ENOUGH)
    meter.adapt()
    run(meter, 10 * ENOUGH)
    found = sums.snapshot()
    assert found.counters["streamq_task_attempts_total", *LABELS, "completed"] == 20 * ENOUGH
    counts, total = found.histograms["streamq_task_wait_seconds", *LABELS, "normal"]
    assert abs(sum(counts) - 20 * ENOUGH) <= 10
    assert total == sum(counts) * 1.5
    meter.adapt()
    run(meter, 5)
    meter.adapt()
    before = sum(sums.snapshot().histograms["streamq_task_duration_seconds", *LABELS][0])
    run(meter, 5)  # it is quiet again: each counts for itself
    assert sum(sums.snapshot().histograms["streamq_task_duration_seconds", *LABELS][0]) == before + 5


def test_the_first_attempt_of_a_delayed_task_tells_its_lateness() -> None:
    meter, sums, _ = made()
    run(meter, 3, local="d1700000001000-7")
    counts, total = sums.snapshot().histograms["streamq_task_lateness_seconds", *LABELS]
    assert (sum(counts), total) == (3, 1.5)

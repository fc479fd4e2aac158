"""What the meter counts of each task, and measures of some."""

from __future__ import annotations

import pytest

from streamq.model.delivery import Delivery
from streamq.model.outcome import Completed
from streamq.telemetry.counters import Counters
from streamq.worker.attempt_metrics import ENOUGH, AttemptMetrics

LABELS = ("shop", "email")


def run(meter: AttemptMetrics, number: int, local: str = "n1700000000000-0") -> None:
    for n in range(number):
        task = Delivery("email", 0, f"n1700000000000-{n}", local, b"{}")
        meter.attempt_ended(task, Completed(), 0.02)


def made() -> tuple[AttemptMetrics, Counters]:
    sums = Counters()
    # The server's clock says that each became ready 1.5 s before it started.
    return AttemptMetrics(sums, "shop", ["email"], lambda _, __: 1_700_000_001_500), sums


def test_few_are_all_measured() -> None:
    meter, sums = made()
    run(meter, 10)
    found = sums.snapshot()
    counts, total = found.histograms["streamq_task_wait_seconds", *LABELS, "normal"]
    assert (sum(counts), total) == (10, 15.0)
    counts, total = found.histograms["streamq_task_duration_seconds", *LABELS]
    assert sum(counts) == 10
    assert total == pytest.approx(0.2)
    assert found.counters["streamq_task_attempts_total", *LABELS, "completed"] == 10


def test_of_many_one_stands_for_the_rest_and_none_is_left_uncounted() -> None:
    meter, sums = made()
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
    meter, sums = made()
    run(meter, 3, local="d1700000001000-7")
    counts, total = sums.snapshot().histograms["streamq_task_lateness_seconds", *LABELS]
    assert (sum(counts), total) == (3, 1.5)

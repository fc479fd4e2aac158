"""How a busy worker measures: so many tasks at most, each of which stands for as many as were left out."""

from __future__ import annotations

import time

from streamq.model.delivery import Delivery
from streamq.model.outcome import Completed
from streamq.worker.latency_sampler import ENOUGH, LatencySampler


def ended(tally: LatencySampler, number: int) -> None:
    task = Delivery("email", 0, f"n{int(time.time() * 1000)}-0", "n1-0", b"{}")
    for _ in range(number):
        tally.attempt_ended(task, Completed(), 0.0)


def counted(tally: LatencySampler) -> int:
    """How many runs the next report tells of."""
    found = 0
    for call in tally.drain(int(time.time() * 1000)):
        names, numbers = call.args[2::2], call.args[3::2]
        found += sum(
            int(number) for name, number in zip(names, numbers, strict=True) if str(name).startswith("run:")
        )
    return found


def test_few_are_all_measured() -> None:
    tally = LatencySampler("shop", 0.0)
    ended(tally, 100)
    assert counted(tally) == 100
    assert tally.drain(0) == []


def test_many_are_measured_in_part_and_counted_about_right() -> None:
    tally = LatencySampler("shop", 0.0)
    for _ in range(3):
        ended(tally, 40_000)
        assert len(tally._measured) <= ENOUGH
        assert abs(counted(tally) - 40_000) < 40_000 * 0.05


def test_it_comes_back_to_measuring_all() -> None:
    tally = LatencySampler("shop", 0.0)
    ended(tally, 40_000)
    for _ in range(12):
        counted(tally)
    ended(tally, tally._left)
    counted(tally)
    ended(tally, 50)
    assert counted(tally) == 50


def test_it_is_sent_as_often_as_a_heartbeat() -> None:
    """It is drained several times a second, and each sending is a command a task type."""
    tally = LatencySampler("shop", 5.0)
    now = int(time.time() * 1000)
    ended(tally, 3)
    assert len(tally.drain(now)) == 1
    ended(tally, 3)
    assert tally.drain(now + 4_999) == []
    assert len(tally.drain(now + 5_000)) == 1
    ended(tally, 3)
    assert len(tally.drain(now - 3_600_000)) == 1  # the server's clock was set back

"""The simulation of ops/capacity: where one thing limits, it says what arithmetic says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CAPACITY = Path(__file__).resolve().parents[2] / "ops" / "capacity"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CAPACITY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def simulate() -> Any:
    before = list(sys.path)
    yield load("simulate")
    sys.path[:] = before
    del sys.modules["simulate"]


@pytest.mark.parametrize(
    ("worker_us", "server_us", "workers", "masters", "cores", "expected"),
    [
        (20, 1, 1, 3, 8, 50_000),  # the worker
        (20, 1, 4, 3, 16, 200_000),  # four of them
        (1, 20, 8, 1, 16, 50_000),  # the master
        (1, 20, 8, 3, 16, 150_000),  # three of them
        (10, 10, 4, 4, 2, 100_000),  # two cores for all
    ],
)
def test_what_limits_sets_the_rate(
    simulate: Any, worker_us: float, server_us: float, workers: int, masters: int, cores: int, expected: int
) -> None:
    costs = simulate.Costs(worker_us, server_us)
    assert simulate.Simulation(costs, workers, masters, cores).rate() == pytest.approx(expected, rel=0.05)


def test_fetching_ahead_hides_the_servers_time(simulate: Any) -> None:
    """One worker and one master, each with a core: they work at the same time."""
    costs = simulate.Costs(20, 15)
    assert simulate.Simulation(costs, 1, 1, 2).rate() == pytest.approx(50_000, rel=0.05)


def test_a_plan_is_printed_from_measured_costs(tmp_path: Path) -> None:
    cost = {
        "producer_us": 20, "enqueue_us": 5, "run_us": 9, "worker_us": 15, "waiting_bytes": 110,
        "left_bytes": 85, "in_bytes": 155, "out_bytes": 166,
    }  # fmt: skip
    features = ("plain, in bulk (`enqueue_many`)", "plain, one call each", "result kept", "delayed")
    file = tmp_path / "costs.json"
    file.write_text(json.dumps([{"feature": feature, **cost} for feature in features]))
    words = [sys.executable, str(CAPACITY / "plan.py"), str(file)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "| result kept | 100,000 | 3.3 | 3 | 3 |" in said
    assert "30.6 GB" in said


def test_too_few_tasks_are_refused() -> None:
    """They took no CPU time that could be counted, and the simulation divided by it."""
    for script, words in (("simulate", ["--check"]), ("measure", [])):
        command = [sys.executable, str(CAPACITY / f"{script}.py"), *words, "--count", "8000"]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        assert said.returncode == 2
        assert "8000 tasks take too little CPU time to be measured; take" in said.stderr


def test_a_cost_that_the_ticks_cannot_tell_is_an_error() -> None:
    ticks = load("ticks")
    assert ticks.each_us(0.2, 10_000, "the worker") == pytest.approx(20)
    for seconds, tasks in ((0.0, 8000), (0.05, 8000), (1.0, 0)):
        with pytest.raises(ticks.TooFewTasks, match=r"of the CPU time of the worker.*larger --count"):
            ticks.each_us(seconds, tasks, "the worker")
    del sys.modules["ticks"]


def test_a_plan_from_costs_of_nothing_is_refused(tmp_path: Path) -> None:
    free = {"feature": "plain, in bulk (`enqueue_many`)", "worker_us": 0.0, "enqueue_us": 1.0, "run_us": 1.0}
    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps([free]))
    said = subprocess.run(
        [sys.executable, str(CAPACITY / "plan.py"), str(costs)], capture_output=True, text=True, check=False
    )
    assert said.returncode == 1
    assert "says that a task costs nothing; measure with a larger --count" in said.stderr

"""Metrics of real processes, read by Prometheus's own parser and checked by its own linter."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from streamq import StreamQ
from streamq.telemetry.catalogue import METRICS
from streamq.telemetry.counters import MAX_EXCEPTION_CLASSES, Counters, Snapshot
from streamq.telemetry.exposition import render
from tests.processes.conftest import alive
from tests.running import wait_until
from tests.sample_names import exported

PROMTOOL = shutil.which("promtool")


def send(jobs: StreamQ, number: int, seconds: float = 0.0, **options: Any) -> None:
    jobs.enqueue_many([jobs.bound("work", {"seconds": seconds}, **options)] * number)


def test_a_group_adds_up_what_its_processes_did(jobs: StreamQ, group: Any) -> None:
    process, endpoint = group("--processes", "2", "--concurrency", "5")
    send(jobs, 40, 0.02)
    send(jobs, 2, -1)  # time.sleep refuses: the attempt fails and is retried
    done = ("streamq_task_attempts_total", "jobs", "work", "completed")
    found = endpoint.shows(
        {
            done: 42,
            ("streamq_task_duration_seconds_count", "jobs", "work"): 42,
            ("streamq_task_wait_seconds_count", "jobs", "work", "normal"): 42,
            ("streamq_worker_slots", "jobs"): 10,
            ("streamq_worker_processes",): 2,
            ("streamq_ready", "worker"): 1,
        }
    )
    assert found["streamq_task_duration_seconds_sum", "jobs", "work"] >= 40 * 0.02
    wait_until(lambda: endpoint.value("streamq_event_loop_lag_seconds_count") > 0)
    process.terminate()
    assert process.wait(20) == 0


def test_what_a_killed_process_had_added_up_is_kept(jobs: StreamQ, group: Any) -> None:
    _, endpoint = group("--processes", "2", "--concurrency", "5")
    send(jobs, 30, 0.02)
    done = ("streamq_task_attempts_total", "jobs", "work", "completed")
    wait_until(lambda: endpoint.value(*done) == 30)
    for pid in alive(jobs):
        os.kill(pid, signal.SIGKILL)
    restarts = ("streamq_worker_process_restarts_total", "crashed")
    wait_until(lambda: endpoint.value(*restarts) == 2)
    wait_until(lambda: endpoint.status("/ready") == 200)
    assert endpoint.value(*done) == 30
    send(jobs, 5)
    wait_until(lambda: endpoint.value(*done) == 35)


def test_a_daemon_tells_what_is_in_the_queue(jobs: StreamQ, daemon: Any) -> None:
    send(jobs, 3)
    send(jobs, 2, delay=3600)
    send(jobs, 1, delay=0.3)
    _, endpoint = daemon()
    depth = ("streamq_queue_tasks", "jobs", "work")
    found = endpoint.shows(
        {
            (*depth, "ready"): 4,
            (*depth, "scheduled"): 2,
            ("streamq_tasks_accepted_total", "jobs", "work"): 6,
            ("streamq_daemon_promoted_total", "jobs", "work"): 1,
            ("streamq_redis_up",): 1,
        }
    )
    assert 0 < found["streamq_queue_oldest_seconds", "jobs", "work", "ready"] < 60
    assert found["streamq_redis_memory_used_bytes",] > 0
    wait_until(lambda: endpoint.value("streamq_daemon_rounds_total", "reclaim", "ok") > 0)
    backlog = endpoint.ask("/backlog?app=jobs&type=work").json
    assert (backlog["backlog"], backlog["ready"], backlog["scheduled"]) == (4, 4, 2)
    assert endpoint.ask("/backlog?app=nobody").json["backlog"] == 0


def test_the_daemon_beside_the_workers_tells_the_queue_too(jobs: StreamQ, group: Any) -> None:
    _, endpoint = group("--with-daemon")
    send(jobs, 2, delay=3600)
    endpoint.shows(
        {("streamq_queue_tasks", "jobs", "work", "scheduled"): 2, ("streamq_workers", "jobs", "alive"): 1}
    )
    assert endpoint.ask("/backlog").json["scheduled"] == 2


def test_lateness_and_exceptions_are_counted(jobs: StreamQ, group: Any) -> None:
    _, endpoint = group("--with-daemon", "--concurrency", "5")
    jobs.send("work", {"seconds": 0}, delay=0.2)
    jobs.send("work", {"seconds": None}, max_attempts=1)  # fails
    endpoint.shows(
        {
            ("streamq_task_lateness_seconds_count", "jobs", "work"): 1,
            ("streamq_task_attempts_total", "jobs", "work", "dead"): 1,
            ("streamq_task_exceptions_total", "jobs", "work", "DecodeError"): 1,
        }
    )


def everything() -> Snapshot:
    """A value of each metric."""
    sums, found = Counters(), Snapshot()
    for metric in METRICS.values():
        labels = ["x"] * len(metric.labels)
        if metric.kind == "histogram":
            sums.histogram(metric.name, *labels).observe(0.3)
        else:
            found.set(metric.name, *labels, value=1)
    found.add(sums.snapshot())
    return found


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool on the PATH")
def test_promtool_finds_no_fault_with_names_and_units() -> None:
    text = render(everything())[1]
    checked = subprocess.run(
        [str(PROMTOOL), "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_a_scraper_that_wants_openmetrics_gets_it() -> None:
    kind, text = render(everything(), "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    families: Any = open_metrics(text.decode())  # type: ignore[no-untyped-call]
    names = {sample.name for family in families for sample in family.samples}
    assert {name for name in names if not exported(name)} == set()


def test_every_metric_is_exported_somewhere() -> None:
    """Guard: the catalogue promises nothing that no code sets."""
    root = Path(__file__).resolve().parents[2] / "streamq"
    sources = [path.read_text() for path in root.rglob("*.py") if path.name != "catalogue.py"]
    told = set(re.findall(r'"(streamq_[a-z_]+)"', "\n".join(sources)))
    from_counters = {name for name in METRICS if name.startswith("streamq_tasks_")}
    assert set(METRICS) - from_counters <= told


def test_snapshots_travel_and_add_up() -> None:
    once = everything()
    twice = Snapshot.from_json(once.to_json())
    twice.add(once)
    assert twice.counters["streamq_task_attempts_total", "x", "x", "x"] == 2
    assert twice.counters["streamq_tasks_accepted_total", "x", "x"] == 1  # all daemons say the same
    assert sum(twice.histograms["streamq_task_duration_seconds", "x", "x"][0]) == 2


def test_a_release_that_knows_more_does_not_upset_an_older_one() -> None:
    assert (
        Snapshot.from_json({"counters": [[["streamq_new_total"], 1]], "gauges": [], "histograms": []})
        == Snapshot()
    )


def test_exceptions_are_bounded() -> None:
    sums = Counters()
    for n in range(MAX_EXCEPTION_CLASSES + 5):
        sums.count_exception("a", "t", f"E{n}")
    counted = sums.snapshot().counters
    assert len(counted) == MAX_EXCEPTION_CLASSES + 1
    assert counted["streamq_task_exceptions_total", "a", "t", "other"] == 5


def test_who_asks_for_nothing_loads_nothing() -> None:
    """Guard: a producer, and a worker without a port, do not pay for what they do not use."""
    program = """if True:
        import sys
        from streamq import StreamQ, Worker
        app = StreamQ("shop", "unix:///nowhere.sock")
        @app.task
        async def email() -> None: ...
        worker = Worker(app)
        assert "prometheus_client" not in sys.modules
        assert not worker._config.metered and app.registry.tracer is None
    """
    subprocess.run([sys.executable, "-c", program], check=True)

"""Processes with a port, as an operator starts them, and what they answer."""

from __future__ import annotations

import http.client
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamq import StreamQ
from streamq.telemetry.catalogue import METRICS
from tests.ports import free_port
from tests.processes.conftest import Start, alive, jobs, start
from tests.running import wait_until
from tests.sample_names import base

__all__ = ["jobs", "start"]


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    content_type: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Endpoint:
    """A process with a port on loopback."""

    port: int

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, response.read(), response.getheader("Content-Type", ""))
        finally:
            connection.close()

    def status(self, path: str) -> int:
        """0 while nobody listens."""
        with suppress(OSError, http.client.HTTPException):
            return self.ask(path).status
        return 0

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Samples by name and the values of their labels, in the catalogue's order; without the buckets."""
        answer = self.ask("/metrics")
        assert answer.status == 200, answer
        return {
            (
                sample.name,
                *(sample.labels[label] for label in METRICS[base(sample.name)].labels),
            ): sample.value
            for family in text_string_to_metric_families(answer.body.decode())
            for sample in family.samples
            if not sample.name.endswith("_bucket")
        }

    def value(self, *key: str) -> float:
        return self.metrics().get(key, 0.0)

    def shows(self, wanted: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
        """Wait until all of these are shown at once: what happened is told by several samples and reports,
        and one may be there before another. Answers all."""
        found: dict[tuple[str, ...], float] = {}

        def all_there() -> bool:
            found.update(self.metrics())
            return all(found.get(key) == value for key, value in wanted.items())

        wait_until(all_there)
        return found


@pytest.fixture
def group(start: Start, jobs: StreamQ) -> Any:
    """Start a worker group with a port; returns when it is ready and its heartbeats are there, with its
    process."""

    def run(*args: str, **environment: str) -> tuple[Any, Endpoint]:
        endpoint = Endpoint(free_port())
        where = ("--metrics-port", str(endpoint.port))
        process = start("worker", "tests.processes.jobs:app", *where, *args, **environment)
        processes = int(args[args.index("--processes") + 1]) if "--processes" in args else 1
        wait_until(lambda: endpoint.status("/ready") == 200 and len(alive(jobs)) == processes)
        return process, endpoint

    return run


@pytest.fixture
def daemon(start: Start) -> Any:
    """The same with a daemon."""

    def run(*args: str) -> tuple[Any, Endpoint]:
        endpoint = Endpoint(free_port())
        process = start("daemon", "--metrics-port", str(endpoint.port), "--claim-interval", "200ms", *args)
        wait_until(lambda: endpoint.status("/ready") == 200)
        return process, endpoint

    return run


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """What all processes have logged."""
    return lambda: "".join(path.read_text() for path in sorted(tmp_path.glob("*.log")))

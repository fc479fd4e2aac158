"""What a task costs, by feature: time of the server and of the worker, network, memory.

    python ops/capacity/measure.py [--count 20000] [--json]

Run it at the top of a checkout. Starts a server of its own (redis-server where it is on the PATH, else the
embedded Valkey) and ends it. Prints the table of ops/capacity.md. Times are CPU time of the whole process
(INFO cpu, /proc), so what the kernel spends on its sockets is in them, and what others do on the machine is
in them only as far as it slows the cores down. Takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]

import redis
import tasks
from ticks import TooFewTasks, at_least, each_us, process_seconds

from streamq.app.app import StreamQ
from streamq.app.task_type import TaskType
from streamq.bench import measure, record
from streamq.bench.side import TEXT
from tests.ports import free_port
from tests.topology.servers import Node, server_binary, server_words

LEAST: Final = 10_000
"""Tasks of each feature: 14 µs of a worker for each are 14 of the kernel's ticks."""
PAYLOAD: Final = len(b'{"stamp":0,"text":""}') + len(TEXT)


@dataclass(frozen=True)
class Feature:
    """A way to use a task type; `runs`: how many attempts a task makes; `daemon`: whether one must run."""

    name: str
    type: str
    options: dict[str, Any]
    runs: int = 1
    daemon: bool = False
    each: bool = False


FEATURES: Final = (
    Feature("plain, in bulk (`enqueue_many`)", "plain", {}),
    Feature("plain, one call each", "plain", {}, each=True),
    Feature("result kept", "kept", {}),
    Feature("`def` handler, on a thread", "in_thread", {}),
    Feature("priority", "plain", {"priority": "high"}),
    Feature("expires, its own timeout", "plain", {"expires": "1h", "timeout": 30}),
    Feature("delayed", "plain", {"delay": 2.0}, daemon=True),
    Feature("one retry", "fails_once", {}, runs=2, daemon=True),
    Feature("ends as a dead letter", "dies", {}),
    Feature("rate limit", "limited", {}),
    Feature("idempotency key", "plain", {"idempotency_key": True}),
)


@dataclass
class Cost:
    """Of one task: microseconds of CPU, bytes of memory and network."""

    feature: str
    producer_us: float
    enqueue_us: float
    waiting_bytes: float
    run_us: float
    worker_us: float
    left_bytes: float
    in_bytes: float
    out_bytes: float


class Bench:
    """One server and the app on it."""

    def __init__(self, node: Node) -> None:
        self.url = f"redis://{node.address}/0"
        self.client: Any = redis.Redis.from_url(self.url)
        self.app = StreamQ(tasks.app.name, self.url)
        self.app.registry.handlers.update(tasks.app.registry.handlers)

    def server(self) -> tuple[float, int, int, int]:
        """CPU seconds, bytes received, bytes sent, bytes of memory."""
        found = self.client.info("everything")
        cpu = found["used_cpu_user"] + found["used_cpu_sys"]
        return cpu, found["total_net_input_bytes"], found["total_net_output_bytes"], found["used_memory"]

    def send(self, feature: Feature, count: int) -> None:
        task = TaskType[Any, Any, Any](self.app, self.app.registry.get(feature.type))
        if feature.each:
            for _ in range(count):
                task.enqueue(0, TEXT)
            return
        for start in range(0, count, 3000):
            number = min(3000, count - start)
            self.app.enqueue_many([self._bound(task, feature) for _ in range(number)])

    @staticmethod
    def _bound(task: Any, feature: Feature) -> Any:
        options = feature.options
        if "idempotency_key" in options:
            options = {"idempotency_key": f"order:{uuid4()}"}
        return task.options(**options).bind(0, TEXT)

    def cost(self, feature: Feature, count: int) -> Cost:
        self.client.flushall()
        self.send(feature, 10)  # the type is registered
        before, began = self.server(), time.process_time()
        self.send(feature, count)
        spent, sent = time.process_time() - began, self.server()
        with measure.recording() as folder, self._serving(feature):
            measure.wait_for(folder, count // 10)
            [pid] = pids_of(self.app, 1)
            at, cpu = record.count(folder), process_seconds(pid)
            measure.wait_for(folder, count + 10)
            cpu = process_seconds(pid) - cpu
            self._settled(feature.type, count + 10)
        done = self.server()
        return Cost(
            feature.name, spent / count * 1e6, (sent[0] - before[0]) / count * 1e6,
            (sent[3] - before[3]) / count, (done[0] - sent[0]) / count * 1e6,
            each_us(cpu, count + 10 - at, "the worker"), (done[3] - before[3]) / count,
            (done[1] - before[1]) / count, (done[2] - before[2]) / count,
        )  # fmt: skip

    def _settled(self, task_type: str, count: int) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            counters = self.app.inspector.type_stats(task_type).counters
            if counters.get("completed", 0) + counters.get("dead", 0) >= count:
                return
            time.sleep(0.1)
        raise TimeoutError(f"{task_type}: not settled")

    @contextmanager
    def _serving(self, feature: Feature) -> Generator[None]:
        with ExitStack() as stack:
            stack.enter_context(started(self.url, "worker", "tasks:app"))
            if feature.daemon:
                stack.enter_context(started(self.url, "daemon"))
            yield


@contextmanager
def started(url: str, *command: str, **environment: str) -> Generator[None]:
    """A command of streamq, ended by SIGTERM at the end. What it logs of failing tasks is thrown away."""
    variables = {**os.environ, "STREAMQ_URL": url, "PYTHONPATH": os.pathsep.join(sys.path[:2]), **environment}
    words = [sys.executable, "-m", "streamq", *command, "--log-level", "error"]
    process = subprocess.Popen(words, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def pids_of(app: StreamQ, workers: int) -> list[int]:
    """The worker processes, once all have sent their first heartbeat."""
    deadline = time.monotonic() + 10
    while len(found := app.inspector.workers()) < workers and time.monotonic() < deadline:
        time.sleep(0.02)
    return [int(worker.details["pid"]) for worker in found]


def table(costs: list[Cost]) -> str:
    head = (
        "| feature | producer µs | server µs: enqueue | server µs: run | worker µs | bytes waiting "
        "| bytes left | network in | network out |\n|" + " --- |" * 9
    )
    rows = [
        f"| {c.feature} | {c.producer_us:.1f} | {c.enqueue_us:.1f} | {c.run_us:.1f} | {c.worker_us:.1f} "
        f"| {c.waiting_bytes:.0f} | {c.left_bytes:.0f} | {c.in_bytes:.0f} | {c.out_bytes:.0f} |"
        for c in costs
    ]
    return "\n".join([head, *rows])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=at_least(LEAST), default=20_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with running() as node:
        bench = Bench(node)
        costs: list[Cost] = []
        for feature in FEATURES:
            sys.stderr.write(f"{feature.name}\n")
            try:
                costs.append(bench.cost(feature, args.count))
            except TooFewTasks as error:
                sys.exit(f"{feature.name}: {error}")
        bench.app.close()
        bench.client.close()
    if args.json:
        print(json.dumps([asdict(cost) for cost in costs]))
    else:
        print(f"A payload has {PAYLOAD} bytes; {args.count:,} tasks of each; {server_binary().name}.\n")
        print(table(costs))
    return 0


@contextmanager
def running() -> Generator[Node]:
    """A server without persistence."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        node = Node(port, Path(folder), server_words(server_binary(), port, {}))
        node.start()
        try:
            yield node
        finally:
            node.stop()


if __name__ == "__main__":
    sys.exit(main())

"""Run the demo with real processes on the embedded server, and compute the account.

Owns the processes: producer, worker group, daemon. Ends only what it started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamq import environment
from streamq.calls.audit import consumers
from streamq.control.inspector import Inspector
from streamq.demo import ledger
from streamq.demo.account import Account, draw_up
from streamq.embedded import EmbeddedServer
from streamq.errors import StreamQError
from streamq.keys import type_keys
from streamq.model.task import State
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport

APP: Final = "demo"
NORMAL: Final = "n"
"""The letter of the streams that hold the demo's tasks."""
LONGEST: Final = 60.0
"""Seconds without any progress after which the demo gives up."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the demo. `note` describes the latest event."""

    done: int
    total: int
    note: str


def run(tasks: int, show: Callable[[Progress], None]) -> Account:
    """Run the scenario with this many tasks. Raise StreamQError if it does not finish."""
    with tempfile.TemporaryDirectory(prefix="streamq-demo-") as folder, EmbeddedServer() as server:
        return _Scenario(tasks, Path(folder), server.url, show).run()


class _Scenario:
    def __init__(self, tasks: int, folder: Path, url: str, show: Callable[[Progress], None]) -> None:
        self._tasks = tasks
        self._folder = folder
        self._show = show
        self._url = url
        self._environment = os.environ | {
            environment.URL.name: url,
            ledger.DIRECTORY: str(folder),
            environment.ENV.name: "dev",
        }
        self._transport = SyncTransport(Address.parse(url))
        self._inspector = Inspector(self._transport, APP, 1)
        self._killed = False

    def run(self) -> Account:
        worker = ("worker", "streamq.demo.tasks:app", "--processes", "2", "--concurrency", "20")
        try:
            with (
                self._process("-m", "streamq", *worker, "--process-slots", "1"),
                self._process("-m", "streamq", "daemon", "--claim-interval", "500ms"),
            ):
                self._until(lambda: len(self._workers()) == 2, "starting two workers and a daemon")
                started = time.monotonic()
                with self._process("-m", "streamq.demo.producer", str(self._tasks)) as producer:
                    self._until(lambda: self._ended() >= self._tasks, "running", self._kill_one)
                    took = time.monotonic() - started
                    producer.wait(10)
            return self._account(took)
        finally:
            self._transport.close()

    @contextmanager
    def _process(self, *arguments: str) -> Generator[subprocess.Popen[bytes]]:
        log = self._folder / f"{arguments[-1]}-{time.monotonic_ns()}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, *arguments],
                env=self._environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _until(
        self, condition: Callable[[], bool], note: str, between: Callable[[], str | None] = lambda: None
    ) -> None:
        """Wait for a condition, as long as there is progress."""
        last, since = -1, time.monotonic()
        while not condition():
            note = between() or note
            done = self._ended()
            self._show(Progress(done, self._tasks, note))
            if done != last:
                last, since = done, time.monotonic()
            if time.monotonic() - since > LONGEST:
                raise StreamQError(
                    f"the demo made no progress for {LONGEST:g} s while {note}: {self._last_words()}"
                )
            time.sleep(0.05)
        self._show(Progress(self._ended(), self._tasks, note))

    def _last_words(self) -> str:
        lines = [line for path in self._folder.glob("*.log") for line in path.read_text().splitlines()[-3:]]
        return " / ".join(lines)[-1500:]

    def _workers(self) -> dict[str, int]:
        """Return the process id of each live worker by its name."""
        found = [one for one in self._inspector.workers() if one.alive and "pid" in one.details]
        return {one.name: int(one.details["pid"]) for one in found}

    def _holds(self, worker: str) -> bool:
        """Return whether the worker holds deliveries."""
        keys = [type_keys(APP, 0, name) for name in self._inspector.types()]
        held = [row for t in keys for row in self._transport.run(consumers(t, NORMAL))]
        return any(name == worker and pending for name, pending, _ in held)

    def _counters(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for one in self._inspector.stats():
            for name, value in one.counters.items():
                total[name] = total.get(name, 0) + value
        return total

    def _ended(self) -> int:
        counters = self._counters()
        return counters.get("completed", 0) + counters.get("dead", 0)

    def _kill_one(self) -> str | None:
        """Kill a worker that holds tasks with SIGKILL, in the middle of the run. A worker without tasks may
        continue."""
        if self._killed or self._ended() < self._tasks * 0.3:
            return None
        for name, pid in self._workers().items():
            os.kill(pid, signal.SIGSTOP)  # stopped, so that it keeps what it holds until it is killed
            if self._holds(name):
                os.kill(pid, signal.SIGKILL)
                self._killed = True
                return f"killed worker process {pid} with SIGKILL"
            os.kill(pid, signal.SIGCONT)
        return None

    def _account(self, seconds: float) -> Account:
        events = list(ledger.read(self._folder))
        accepted = {event["task"] for event in events if event["event"] == "accepted"}
        states: dict[str, State] = {task: self._inspector.task(task).state for task in accepted}
        return draw_up(events, states, self._counters(), seconds)

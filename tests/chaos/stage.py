"""The processes of a run: worker groups, daemons, producers. Started, restarted, and ended, by their ids.

Owns every process it started and none else. Decides no fault.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.chaos import blob_rules, clock, featured, history, orders, sabotage, tasks
from tests.chaos.servers import ROOT, Servers

GROUPS: Final = 2
PROCESSES: Final = 2
DAEMONS: Final = 2
PRODUCERS: Final = 3
WORKER: Final = (
    "-m", "streamq", "worker", "tests.chaos.featured:app", "--processes", str(PROCESSES),
    "--concurrency", "8", "--process-slots", "1", "--drain-timeout", "3s", "--log-format", "json",
)  # fmt: skip
DAEMON: Final = (
    "-m", "streamq", "daemon", "--claim-interval", "500ms", "--tidy-interval", "2s", "--log-format", "json",
)  # fmt: skip
STARTS_WITHIN: Final = 10.0
"""Seconds until Python has come so far that a program heeds SIGTERM: before, it ends of it at once."""
ENDS_WITHIN: Final = 25.0
"""Seconds that a process may take to end after SIGTERM: drain, grace, and a server that is away."""


class Seat:
    """One program that is to be there, whichever process it is at the moment."""

    def __init__(
        self, name: str, arguments: tuple[str, ...], environment: dict[str, str], folder: Path
    ) -> None:
        self.name = name
        self.environment = environment
        self.folder = folder
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None
        self.busy = asyncio.Lock()
        self._started = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def start(self) -> None:
        if self.process is not None:
            self.process.wait()
        self._started = time.monotonic()
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.arguments], env=self.environment, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process alone."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    async def ended(self) -> int | None:
        """Wait for the end after SIGTERM; its exit code, or None where it had to be killed."""
        assert self.process is not None
        young = time.monotonic() - self._started < STARTS_WITHIN
        deadline = time.monotonic() + ENDS_WITHIN
        while (code := self.process.poll()) is None and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        if code is None:
            self.destroy()
        return 0 if young and code == -signal.SIGTERM else code

    def destroy(self) -> None:
        """Kill the process with its whole session."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def workers(self) -> list[int]:
        """The worker processes of a group by their ids."""
        return [pid for pid in _children(self.pid) if "spawn_main" in _command(pid)]


async def gone(pids: list[int]) -> bool:
    """Wait for processes that nobody supervises any more; those that do not end are killed: False."""
    deadline = time.monotonic() + ENDS_WITHIN
    while left := [pid for pid in pids if "spawn_main" in _command(pid)]:
        if time.monotonic() > deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return False
        await asyncio.sleep(0.1)
    return True


class Stage:
    """All seats of a run."""

    def __init__(
        self,
        folder: Path,
        servers: Servers,
        seed: int,
        previous: Path | None,
        sabotaged: str | None,
        conducts: tuple[str, ...],
        rate: float,
        *,
        plain: bool = False,
    ) -> None:
        self.folder, self.servers, self.previous = folder, servers, previous
        self.types = list(tasks.TYPES if plain else featured.TYPES)
        self._base = os.environ | {
            history.DIRECTORY: str(folder / "history"),
            tasks.SHARDS: str(servers.shards),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if plain:
            self._base[featured.PLAIN] = "1"
        else:
            self._base[blob_rules.STORE] = blob_rules.url(folder)
        if sabotaged:
            self._base[sabotage.NAME] = sabotaged
        if conducts:
            self._base[orders.CONDUCTS_ONLY] = ",".join(conducts)
        self.groups = [self._group(n) for n in range(GROUPS)]
        self.daemons = [
            self._seat("daemon-0", DAEMON, "daemons"),
            self._seat("daemon-1", ("-m", "tests.chaos.daemon", servers.url("daemons")), "daemons"),
        ]
        self.producers = [
            self._seat(f"producer-{n}", self._producer(n, 0, seed, rate), "producers")
            for n in range(PRODUCERS)
        ]
        self._lives = [0] * PRODUCERS
        self._seed, self._rate = seed, rate

    def _seat(self, name: str, arguments: tuple[str, ...], role: str, **more: str) -> Seat:
        environment = self._base | {"STREAMQ_URL": self.servers.url(role)} | more
        return Seat(name, arguments, environment, self.folder)

    def _group(self, number: int) -> Seat:
        file = self.folder / f"clock-{number}"
        clock.create(file)
        return self._seat(f"group-{number}", WORKER, "workers", **{clock.FILE: str(file)})

    def _producer(self, number: int, life: int, seed: int, rate: float) -> tuple[str, ...]:
        way = "async" if number % 2 else "sync"
        return ("-m", "tests.chaos.producer", f"p{number}.{life}", str(seed), way, str(rate / PRODUCERS))

    def start(self) -> None:
        (self.folder / "history").mkdir()
        for seat in (*self.daemons, *self.groups, *self.producers):
            if self.previous and seat in (self.groups[0], self.daemons[0]):
                self.switch(seat)  # a run begins in the middle of a deploy
            seat.start()

    def switch(self, seat: Seat) -> None:
        """Let the next process of a seat run the other release's code."""
        assert self.previous is not None
        old = f"{self.previous}{os.pathsep}{ROOT}"
        seat.environment["PYTHONPATH"] = str(ROOT) if self.runs_previous(seat) else old

    def runs_previous(self, seat: Seat) -> bool:
        return seat.environment["PYTHONPATH"] != str(ROOT)

    def jump(self, number: int, seconds: float) -> None:
        """Set the wall clock of a worker group's host."""
        clock.jump(self.folder / f"clock-{number}", seconds)

    def restart_producer(self, number: int) -> None:
        """A new producer in place of one that was killed: it does not know what its forerunner asked for."""
        self._lives[number] += 1
        seat = self.producers[number]
        seat.arguments = self._producer(number, self._lives[number], self._seed, self._rate)
        seat.start()

    async def supervise(self) -> None:
        """Start daemons anew that ended by themselves, as a host's supervisor would, and note it."""
        while True:
            for seat in self.daemons:
                if seat.process is not None and not seat.busy.locked():
                    if (code := seat.process.poll()) is None:
                        continue
                    history.write("ended", whom=seat.name, code=code, previous=self.runs_previous(seat))
                    seat.start()
            await asyncio.sleep(0.25)

    def close(self) -> None:
        for seat in (*self.producers, *self.groups, *self.daemons):
            seat.destroy()


def _children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(text) for text in listed.split()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""

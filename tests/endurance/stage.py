"""The server, the worker groups and the daemons of a run, each a program of its own.

Owns what it starts, and ends it. Decides nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis

from streamq.embedded import EmbeddedServer
from tests.chaos import history
from tests.chaos.stage import Seat
from tests.endurance import tasks
from tests.ports import free_port

ROOT: Final = Path(__file__).resolve().parents[2]


def said(text: str) -> None:
    """Progress, beside the result on standard output."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Stage:
    """One server and the programs around it, in a folder that takes their logs and ledgers."""

    def __init__(self, folder: Path, server: EmbeddedServer, port: int) -> None:
        self.folder, self.server, self.port = folder, server, port
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client = redis.Redis(port=port, socket_timeout=30)
        self.seats: list[Seat] = []

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    @property
    def history(self) -> Path:
        return self.folder / "history"

    def seat(self, name: str, *arguments: str, app: str = "endurance") -> Seat:
        """A program with this app, not yet started."""
        about = {
            "STREAMQ_URL": self.url, tasks.APP: app, tasks.LEDGER: str(self.ledger),
            history.DIRECTORY: str(self.history), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        found = Seat(name, arguments, os.environ | about, self.folder)
        self.seats.append(found)
        return found

    def group(self, name: str, processes: int, *, app: str = "endurance") -> Seat:
        """A worker group as it is run in production, with default settings."""
        arguments = ("worker", "tests.endurance.tasks:app", "--processes", str(processes))
        return self.seat(name, "-m", "streamq", *arguments, "--log-format", "json", app=app)

    def daemon(self) -> Seat:
        return self.seat("daemon", "-m", "streamq", "daemon", "--log-format", "json")

    async def end(self) -> list[str]:
        """End all programs; tells of those that ended badly."""
        running = [seat for seat in self.seats if seat.process is not None and seat.process.poll() is None]
        for seat in running:
            seat.kill(signal.SIGTERM)
        codes = [(seat.name, await seat.ended()) for seat in running]
        return [f"{name} ended with {code}" for name, code in codes if code != 0]

    def close(self) -> None:
        for seat in self.seats:
            seat.destroy()
        self.client.close()


@contextmanager
def staged(folder: Path, **config: str) -> Iterator[Stage]:
    """A server on a port of its own, Redis where its binary is on the PATH.

    Without latency-tracking: for each kind of command that it runs for the first time it would keep a
    histogram of 24 KB.
    """
    for name in ("ledger", "history"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    binary, port = shutil.which("redis-server"), free_port()
    before = os.environ.get(history.DIRECTORY)
    told = {"latency-tracking": "no"} | config
    with EmbeddedServer(port=port, config=told, binary=Path(binary) if binary else None) as server:
        stage = Stage(folder, server, port)
        os.environ[history.DIRECTORY] = str(stage.history)
        try:
            yield stage
        finally:
            stage.close()
            os.environ.pop(history.DIRECTORY)
            if before is not None:
                os.environ[history.DIRECTORY] = before

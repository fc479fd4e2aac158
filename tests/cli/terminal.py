"""A terminal for a command: what it draws, the keys that are pressed, and the modes it is left in."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Terminal:
    """`streamq ...` on a terminal of its own, or another program."""

    def __init__(
        self, *args: str, program: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 200, 0, 0))
        self._theirs = theirs
        self.before = self.modes()
        self.seen = ""
        base = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [*program, *args] if program else [sys.executable, "-c", _CONTROLLING, *args],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=base | {"PYTHONPATH": str(ROOT), "TERM": "xterm"} | dict(environment or {}),
        )  # fmt: skip

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._theirs)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def read(self, seconds: float = 0.1) -> str:
        """What was drawn since, if anything was."""
        ready, _, _ = select.select([self._ours], [], [], seconds)
        found = os.read(self._ours, 65536).decode("utf-8", "replace") if ready else ""
        self.seen += found
        return found

    def until(self, text: str, limit: float = 15.0) -> None:
        """Read until this has been drawn."""
        deadline = time.monotonic() + limit
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.seen[-3000:]!r}"
            self.read()

    def ended(self, limit: float = 15.0) -> int:
        """Read until the command has ended; answers its exit code."""
        deadline = time.monotonic() + limit
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.seen[-3000:]
            self.read()
        while self.read(0.0):
            pass
        return self.process.returncode


_CONTROLLING = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from streamq.cli import main
sys.exit(main(sys.argv[1:]))
"""

"""Run one part of the session: a process, its lines in the log, and its end.

Owns the process. It is the leader of its own session, so that Ctrl-C in the terminal reaches only the parent.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import orjson

from streamq.dev.log import Log
from streamq.dev.plan import Plan, Report

LONGEST_LINE: Final = 1 << 20
LINGER: Final = 1.0
"""Seconds to wait for the last lines of a process that has ended: a handler's child may hold the pipe open
for ever."""


class Part:
    """A process of `streamq.dev.inside`. `on_report` is called with what the process reports to the
    session."""

    def __init__(
        self,
        name: str,
        log: Log,
        environment: Mapping[str, str],
        on_report: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._log, self._environment, self._on_report = log, environment, on_report
        self._process: Process | None = None
        self._mark = ""
        self._reading: asyncio.Task[None] | None = None

    async def start(self, plan: Plan) -> None:
        self._mark = plan.mark
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streamq.dev.inside", self.name, plan.text(),
            stdin=PIPE, stdout=PIPE, stderr=STDOUT, env=self._environment, start_new_session=True,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read(process))

    async def wait(self) -> int:
        """Wait until the process has ended and its output is read. Returns its exit code, negative if a
        signal ended it."""
        if self._process is None:
            return 0
        code = await self._process.wait()
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=LINGER)
            self._reading.cancel()
        return code

    async def end(self, seconds: float) -> None:
        """Send SIGTERM; if it takes longer, SIGKILL to the process and its children."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            self._log.write("dev", f"the {self.name} did not end within {seconds:g} s: killing it")
            self.kill()
        await self.wait()

    def kill(self) -> None:
        """Kill the process and whatever it has started."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        rest = b""
        while found := await process.stdout.read(65536):
            *lines, rest = (rest + found).split(b"\n")
            for line in lines:
                self._line(line.decode("utf-8", "replace"))
            if len(rest) > LONGEST_LINE:
                self._line(rest.decode("utf-8", "replace"))
                rest = b""
        if rest:
            self._line(rest.decode("utf-8", "replace"))

    def _line(self, line: str) -> None:
        if self._mark and line.startswith(self._mark):
            with suppress(ValueError):
                self._on_report(orjson.loads(line[len(self._mark) :]))
        else:
            self._log.write(self.name, line.rstrip("\r"))

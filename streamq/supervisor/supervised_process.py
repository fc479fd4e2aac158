"""One process of a group: how it is started, what it reports at start-up, and when it is restarted.

Owns the process handle, its pipes and the restart delay. Must not decide why the group ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Final

from streamq.supervisor.spec import Launch

_SPAWN = get_context("spawn")
STABLE_AFTER: Final = 30.0
"""Seconds that a process must live for its next crash to be restarted without delay."""
LONGEST_DELAY: Final = 30.0

EntryPoint = Callable[[Launch, Connection | None, Connection | None], None]
"""Takes the launch, the pipe for reports (None: no reports) and the pipe for the start-up message."""


class SupervisedProcess:
    """One process that the group keeps running; a restart replaces `process`."""

    def __init__(self, name: str, entry_point: EntryPoint, launch: Launch, *, is_worker: bool) -> None:
        self.name = name
        self.is_worker = is_worker
        self._entry_point, self._launch = entry_point, launch
        self._crashes = 0
        self._started = 0.0
        self.was_stable: bool = False
        self.terminated: bool = False
        self.start_at: float | None = 0.0
        self.process: SpawnProcess | None = None
        self.startup_pipe: Connection | None = None
        self.notices: Connection | None = None
        self.replaces: SupervisedProcess | None = None
        """The process that drains when this one takes tasks."""
        self.is_replaced = False

    def successor(self, name: str) -> SupervisedProcess:
        """Return a new process that replaces this one."""
        found = SupervisedProcess(name, self._entry_point, self._launch, is_worker=self.is_worker)
        found.replaces = self
        return found

    def start(self) -> Connection | None:
        """Start the process. Return the pipe that its reports arrive on; None if it sends none."""
        reports, reports_end = _SPAWN.Pipe(duplex=False) if self._launch.reports else (None, None)
        self.startup_pipe, startup_end = _SPAWN.Pipe(duplex=False)
        arguments = (self._launch, reports_end, startup_end)
        process = _SPAWN.Process(target=self._entry_point, args=arguments, name=self.name)
        self.terminated = False
        process.start()
        self.process = process  # only now: a signal that arrives before cannot terminate it
        startup_end.close()
        if reports_end is not None:
            reports_end.close()
        self._started, self.start_at = time.monotonic(), None
        return reports

    def terminate(self) -> None:
        """Ask the process to end. Does nothing while it is being started: a signal handler may come then."""
        if self.process is not None:
            self.terminated = True
            with suppress(ProcessLookupError):
                self.process.terminate()

    def startup_error(self) -> str | None:
        """Return why the app cannot be served, "" if it can; None if the process has not reported it yet."""
        if self.startup_pipe is None or not self.startup_pipe.poll():
            return None
        pipe, self.startup_pipe = self.startup_pipe, None
        try:
            error = str(pipe.recv())
        except (EOFError, OSError):  # it died before it could report
            pipe.close()
            return None
        if self._launch.options.recycles and self.is_worker:
            self.notices = pipe
        else:
            pipe.close()
        return error

    def notice(self) -> str | None:
        """Return the next notice of the process; None if there is none."""
        if self.notices is None or not self.notices.poll():
            return None
        try:
            return str(self.notices.recv())
        except (EOFError, OSError):
            self._close_notices()
            return None

    def _close_notices(self) -> None:
        if self.notices is not None:
            self.notices.close()
            self.notices = None

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    def exit_code(self) -> int | None:
        """Return the exit code of a process that has ended; None if it runs or was not started."""
        if self.process is None or self.process.is_alive():
            return None
        self.process.join()
        return self.process.exitcode

    def schedule_restart(self) -> None:
        """Drop a process that has ended, and set when the next one starts."""
        self.process = None
        self._close_notices()
        if self.startup_pipe is not None:
            self.startup_pipe.close()
            self.startup_pipe = None
        now = time.monotonic()
        stable = now - self._started > STABLE_AFTER
        self.was_stable = self.was_stable or stable
        self._crashes = 1 if stable else self._crashes + 1
        self.start_at = now + min(LONGEST_DELAY, 0.1 * 2 ** (self._crashes - 1))

    def kill(self) -> None:
        """Kill the process if it runs, and wait up to 5 s for its end."""
        if self.process is not None and self.process.is_alive():
            self.process.kill()
            self.process.join(5)

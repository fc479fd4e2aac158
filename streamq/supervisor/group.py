"""The supervisor: a group of worker processes on one host.

Owns the processes: starts them, restarts one that crashed, passes signals on, and ends when they have.
Runs no task, speaks to no server and does not load the app: its processes tell what is wrong with it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Final

from streamq import exit_codes
from streamq.errors import UsageError
from streamq.options.service import WorkerOptions
from streamq.probes import systemd
from streamq.probes.listen import Listen
from streamq.probes.report import BacklogView
from streamq.probes.systemd_notifier import SystemdNotifier
from streamq.supervisor import entry_points
from streamq.supervisor.group_status import GroupStatus
from streamq.supervisor.orphans import Orphans
from streamq.supervisor.spec import Launch
from streamq.telemetry import logs
from streamq.telemetry.counters import Snapshot

if TYPE_CHECKING:
    from streamq.probes.http_server import WebThread

_SPAWN = get_context("spawn")
_FATAL: Final = (exit_codes.CONFIG,)
_REFUSED: Final = (exit_codes.DENIED, exit_codes.UNREACHABLE)
"""The server is there, but has no use for us. Of a group that has worked, another try may go better."""
_WHY: Final = {exit_codes.WORN_OUT: "worn_out", exit_codes.WEDGED: "wedged"}
CALM: Final = 30.0
"""Seconds that a process must live for its next crash to be restarted without delay."""
LONGEST_DELAY: Final = 30.0


class _Seat:
    """One process that is to be there, whoever fills it at the moment."""

    def __init__(self, name: str, target: Any, told: Launch) -> None:
        self.name = name
        self.is_worker = target is entry_points.worker
        self._target, self._told = target, told
        self._crashes = 0
        self._started = 0.0
        self.lasted = False
        self.start_at: float | None = 0.0
        self.process: Any = None
        self.news: Connection | None = None

    def start(self) -> Connection | None:
        """Start the process; answers the pipe that it reports through, where it is to."""
        ours, theirs = _SPAWN.Pipe(duplex=False) if self._told.reports else (None, None)
        self.news, told = _SPAWN.Pipe(duplex=False)
        arguments = (self._told, theirs, told)
        self.process = _SPAWN.Process(target=self._target, args=arguments, name=self.name)
        self.process.start()
        told.close()
        if theirs is not None:
            theirs.close()
        self._started, self.start_at = time.monotonic(), None
        return ours

    def heard(self) -> str | None:
        """What is wrong with the app, "" where nothing is; None where the process has not said so yet."""
        if self.news is None or not self.news.poll():
            return None
        pipe, self.news = self.news, None
        with pipe, suppress(EOFError, OSError):  # it died before it could say
            return str(pipe.recv())
        return None

    @property
    def pid(self) -> int | None:
        return None if self.process is None else int(self.process.pid)

    def ended(self) -> int:
        """Note the end of the process; answers its exit code and when to start the next."""
        self.process.join()
        code: int = self.process.exitcode
        self.process = None
        if self.news is not None:
            self.news.close()
            self.news = None
        now = time.monotonic()
        self.lasted |= now - self._started > CALM
        self._crashes = 1 if now - self._started > CALM else self._crashes + 1
        self.start_at = now + min(LONGEST_DELAY, 0.1 * 2 ** (self._crashes - 1))
        return code


class WorkerGroup:
    """Supervises `processes` workers of an app, and a daemon where asked for.

    `imports`: modules that have task types, beside those that the app names.
    `listen`: where probes and scrapers are answered. Where nobody asks and no systemd listens, the
    processes report nothing and measure nothing.

    `run()` returns the exit code when all have ended: 0 after SIGTERM or SIGINT (a second one ends the
    workers at once; they hand back what they hold), 78 where the configuration is wrong, 77 or 69 where the
    server refuses them from the start.
    """

    def __init__(
        self,
        app: str,
        options: WorkerOptions | None = None,
        *,
        processes: int = 1,
        url: str | None = None,
        prefix: str | None = None,
        with_daemon: bool = False,
        log_level: str = "info",
        log_format: str = "auto",
        listen: Listen | None = None,
        imports: Iterable[str] = (),
    ) -> None:
        group = f"{os.uname().nodename}-{os.getpid()}"
        self._listen = listen or Listen()
        watched = bool(self._listen) or SystemdNotifier.is_available()
        told = Launch(
            app,
            url,
            options or WorkerOptions(),
            group,
            log_level,
            log_format,
            watched,
            prefix,
            tuple(imports),
        )
        self._seats = [_Seat(f"streamq-worker-{n}", entry_points.worker, told) for n in range(processes)]
        if with_daemon:
            self._seats.append(_Seat("streamq-daemon", entry_points.daemon, told))
        self._status = GroupStatus([seat.name for seat in self._seats])
        self._knows_queue = with_daemon
        self._begun = False
        self._stopping = False
        self._fatal = 0
        self._log = logs.get_logger(group=group)
        self._wake_r, self._wake_w = os.pipe()

    def run(self) -> int:
        """Supervise until all processes have ended. Call it in the main thread.

        Raises UsageError where the app cannot be served, and CannotListen.
        """
        self._orphans = Orphans()
        signal.signal(signal.SIGCHLD, self._wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        os.set_blocking(self._wake_w, False)
        web = self._web() if self._listen else None
        notifier = SystemdNotifier(self) if SystemdNotifier.is_available() else None
        if web is not None:
            web.start()
        if notifier is not None:
            notifier.start()
        try:
            return self._supervise()
        finally:
            if notifier is not None:
                notifier.stop()
            if web is not None:
                web.close()

    def _web(self) -> WebThread:
        from streamq.probes.http_server import WebThread  # noqa: PLC0415
        from streamq.probes.routes import routes  # noqa: PLC0415 - most groups are asked by nobody

        return WebThread(self._listen, routes(self, knows_queue=self._knows_queue))

    def _supervise(self) -> int:
        try:
            while self._start_due() or any(seat.process for seat in self._seats) or not self._stopping:
                self._wait()
                self._hear()
                self._bury()
                self._orphans.reap(self._children())
        finally:
            self._kill_all()
        return self._fatal

    def _signalled(self, _number: int, _frame: Any) -> None:
        self._stopping = self._status.draining = True
        systemd.notify(STOPPING=1)
        for seat in self._seats:
            if seat.process is not None:
                with suppress(ProcessLookupError):
                    seat.process.terminate()
        self._wake()

    def _wake(self, *_: object) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_w, b"!")

    def _start_due(self) -> bool:
        """Start who is due; answers whether somebody is."""
        if self._stopping:
            return False
        now = time.monotonic()
        for seat in self._seats:
            if seat.start_at is not None and seat.start_at <= now:
                pipe = seat.start()
                if pipe is not None:
                    self._status.started(seat.name, pipe)
        return True

    def _children(self) -> list[int]:
        """Processes that somebody here waits for."""
        tracker: int | None = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]  # noqa: SLF001
        return [pid for pid in (tracker, *(seat.pid for seat in self._seats)) if pid is not None]

    def _hear(self) -> None:
        """Tell who has started. Raises UsageError where the app is wrong from the beginning: then that is
        all there is to tell."""
        for seat in self._seats:
            wrong = seat.heard()
            if wrong is None:
                continue
            if wrong and not self._begun:
                raise UsageError(wrong)
            self._begun = True
            if wrong:
                self._log.error("process.failed", process=seat.name, error=wrong)
            else:
                self._log.info("process.started", process=seat.name, pid=seat.pid)

    def _wait(self) -> None:
        """Until a process ends or has something to say, one is to be started, or a signal comes."""
        alive = [seat.process.sentinel for seat in self._seats if seat.process is not None]
        alive += [seat.news for seat in self._seats if seat.news is not None]
        due = [seat.start_at for seat in self._seats if seat.start_at is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due and not self._stopping else None
        if self._wake_r in wait([*alive, self._wake_r], timeout):
            os.read(self._wake_r, 64)

    def _bury(self) -> None:
        for seat in self._seats:
            if seat.process is None or seat.process.is_alive():
                continue
            pid, code = seat.process.pid, seat.ended()
            self._status.ended(seat.name)
            if self._stopping:
                self._log.info("process.ended", process=seat.name, pid=pid, code=code)
            elif code == exit_codes.DRAINED:
                self._log.info("process.drained", process=seat.name, pid=pid)
                self._retire(seat)
            elif code in _FATAL or (code in _REFUSED and not any(one.lasted for one in self._seats)):
                self._fatal = code
                self._log.error("process.gave_up", process=seat.name, code=code)
                self._signalled(signal.SIGTERM, None)
            else:
                reason = _WHY.get(code, "crashed")
                self._status.own.count("streamq_worker_process_restarts_total", reason)
                self._log.error("process.crashed", process=seat.name, pid=pid, code=code, restart="yes")

    def _retire(self, seat: _Seat) -> None:
        """A worker that was asked to drain stays away; when all have, the group ends."""
        seat.start_at = None
        if not any(one.is_worker and (one.process or one.start_at is not None) for one in self._seats):
            self._signalled(signal.SIGTERM, None)

    def _kill_all(self) -> None:
        for seat in self._seats:
            if seat.process is not None and seat.process.is_alive():
                seat.process.kill()
                seat.process.join(5)

    # -- what probes ask: a `telemetry.routes.Service` -------------------------------------------------

    role = "worker"

    def not_alive(self) -> list[str]:
        """Why the group should be restarted; empty where it should not."""
        return self._status.not_alive()

    def faults(self) -> list[str]:
        return self._status.faults()

    def not_ready(self) -> list[str]:
        """Why tasks would not be worked on; empty where they would."""
        return self._status.not_ready()

    def drain(self) -> None:
        """As SIGTERM does; called again it changes nothing. May be called from another thread."""
        main = threading.main_thread().ident
        if not self._stopping and main is not None:
            # To the main thread: another that took the signal would not end its wait.
            signal.pthread_kill(main, signal.SIGTERM)

    async def metrics(self) -> Snapshot:
        """What the processes have added up, those that ended among them."""
        return self._status.total()

    async def backlog(self) -> BacklogView | None:
        """The queue, as the daemon beside the workers sees it."""
        return await self._status.backlog()

"""The supervisor: a group of worker processes on one host.

Owns the set of processes: starts them, restarts crashed ones, forwards signals, and ends after they have.
Must not run a task, connect to Redis or load the app: the processes report what is wrong with the app.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Final

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
from streamq.supervisor.recycler import Recycler
from streamq.supervisor.spec import Launch
from streamq.supervisor.supervised_process import SupervisedProcess
from streamq.telemetry import logs
from streamq.telemetry.counters import Snapshot

if TYPE_CHECKING:
    from streamq.probes.http_server import WebThread

_FATAL: Final = (exit_codes.CONFIG,)
_REFUSED: Final = (exit_codes.DENIED, exit_codes.UNREACHABLE)
"""Redis refuses the process. Fatal at the start; a group that has worked before tries again."""
_RESTART_REASONS: Final = {exit_codes.WORN_OUT: "worn_out", exit_codes.WEDGED: "wedged"}


class WorkerGroup:
    """Supervises `processes` workers of an app and, with `with_daemon`, a daemon.

    `imports`: modules that define task types, beside those that the app names.
    `listen`: the sockets for probes and scrapers. Without them and without systemd, the processes send no
    reports and measure nothing.

    `run()` returns the exit code after all processes have ended: 0 after SIGTERM or SIGINT (a second one ends
    the workers at once; they hand back what they hold), 78 for a wrong configuration, 77 or 69 if Redis
    refuses them from the start.
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
        reports = bool(self._listen) or SystemdNotifier.is_available()
        launch = Launch(
            app,
            url,
            options or WorkerOptions(),
            group,
            log_level,
            log_format,
            reports,
            prefix,
            tuple(imports),
        )
        self._members = _members(launch, processes, with_daemon=with_daemon)
        self._status = GroupStatus([member.name for member in self._members])
        self._knows_queue = with_daemon
        self._app_loaded = False
        self._stopping = False
        self._fatal_code = 0
        self._recycler = Recycler(self._members, self._status)
        self._log = logs.get_logger(group=group)
        self._wake_r, self._wake_w = os.pipe()

    def run(self) -> int:
        """Supervise until all processes have ended, then return the exit code. Call it in the main thread.

        Raise UsageError if the app cannot be served, and CannotListen if a socket cannot be bound.
        """
        self._orphans = Orphans()
        signal.signal(signal.SIGCHLD, self._wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
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
        from streamq.probes.routes import routes  # noqa: PLC0415 - most groups have no endpoint

        return WebThread(self._listen, routes(self, knows_queue=self._knows_queue))

    def _supervise(self) -> int:
        try:
            while True:
                self._start_due()
                if self._stopping and not any(member.process for member in self._members):
                    return self._fatal_code
                self._wait()
                self._handle_startups()
                self._recycler.handle_notices(stopping=self._stopping)
                self._handle_exits()
                self._orphans.reap(self._children())
        finally:
            for member in self._members:
                member.kill()

    def _stop(self, *_: object) -> None:
        """Terminate every process: a signal handler, called again for a second signal."""
        self._stopping = self._status.draining = True
        systemd.notify(STOPPING=1)
        for member in self._members:
            member.terminate()
        self._wake()

    def _wake(self, *_: object) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_w, b"!")

    def _start_due(self) -> None:
        """Start the processes whose time has come."""
        now = time.monotonic()
        for member in self._members:
            if self._stopping:
                return
            if member.start_at is not None and member.start_at <= now:
                reports = member.start()
                if reports is not None:
                    self._status.started(member.name, reports)
                if self._stopping and not member.terminated:  # the signal came while it was being started
                    member.terminate()

    def _children(self) -> list[int]:
        """Return the child processes whose exit status another part of this process reads."""
        tracker: int | None = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]  # noqa: SLF001
        return [pid for pid in (tracker, *(member.pid for member in self._members)) if pid is not None]

    def _handle_startups(self) -> None:
        """Log the processes that have started. Raise UsageError if no process could load the app so far."""
        for member in self._members:
            error = member.startup_error()
            if error is None:
                continue
            if error and not self._app_loaded:
                raise UsageError(error)
            self._app_loaded = True
            if error:
                self._log.error("process.failed", process=member.name, error=error)
            else:
                self._log.info("process.started", process=member.name, pid=member.pid)

    def _wait(self) -> None:
        """Wait until a process ends, sends its start-up message or is due to start, or a signal arrives."""
        ready = [member.process.sentinel for member in self._members if member.process is not None]
        pipes = [
            pipe
            for member in self._members
            for pipe in (member.startup_pipe, member.notices)
            if pipe is not None
        ]
        due = [member.start_at for member in self._members if member.start_at is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due and not self._stopping else None
        if self._wake_r in wait([*ready, *pipes, self._wake_r], timeout):
            os.read(self._wake_r, 64)

    def _handle_exits(self) -> None:
        for member in list(self._members):
            pid, code = member.pid, member.exit_code()
            if code is None:
                continue
            member.schedule_restart()
            self._status.ended(member.name)
            if self._recycler.ended(member, code):
                continue
            if self._stopping:
                self._log.info("process.ended", process=member.name, pid=pid, code=code)
            elif code == exit_codes.DRAINED:
                self._log.info("process.drained", process=member.name, pid=pid)
                self._retire(member)
            elif code in _FATAL or (code in _REFUSED and not any(one.was_stable for one in self._members)):
                self._fatal_code = code
                self._log.error("process.gave_up", process=member.name, code=code)
                self._stop()
            else:
                reason = _RESTART_REASONS.get(code, "crashed")
                self._status.own.count("streamq_worker_process_restarts_total", reason)
                self._log.error("process.crashed", process=member.name, pid=pid, code=code, restart="yes")

    def _retire(self, drained: SupervisedProcess) -> None:
        """Do not restart a worker that was asked to drain. Stop the group when no worker is left."""
        drained.start_at = None
        if not any(one.is_worker and (one.process or one.start_at is not None) for one in self._members):
            self._stop()

    # -- the `probes.routes.Service` of the group ------------------------------------------------------

    role = "worker"

    def not_alive(self) -> list[str]:
        """Return the reasons to restart the group; empty if there are none."""
        return self._status.not_alive()

    def faults(self) -> list[str]:
        """Return an empty list: see `GroupStatus.faults`."""
        return self._status.faults()

    def not_ready(self) -> list[str]:
        """Return the reasons why new tasks would not be worked on; empty if they would."""
        return self._status.not_ready()

    def drain(self) -> None:
        """Drain as SIGTERM does. A second call has no effect. May be called from another thread."""
        main = threading.main_thread().ident
        if not self._stopping and main is not None:
            # To the main thread: a signal that another thread takes does not end the main thread's wait.
            signal.pthread_kill(main, signal.SIGTERM)

    async def metrics(self) -> Snapshot:
        """Return the group's metrics, those of ended processes included."""
        return self._status.total()

    async def backlog(self) -> BacklogView | None:
        """Return the queue as the daemon beside the workers sees it."""
        return await self._status.backlog()


def _members(launch: Launch, processes: int, *, with_daemon: bool) -> list[SupervisedProcess]:
    members = [
        SupervisedProcess(f"streamq-worker-{n}", entry_points.worker, launch, is_worker=True)
        for n in range(processes)
    ]
    if with_daemon:
        members.append(SupervisedProcess("streamq-daemon", entry_points.daemon, launch, is_worker=False))
    return members

"""The supervisor: a group of worker processes on one host.

Owns the processes: starts them, restarts one that crashed, passes signals on, and ends when they have.
Runs no task and speaks to no server.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

from streamq import telemetry
from streamq.daemon import Daemon
from streamq.errors import StreamQError, UsageError
from streamq.fingerprint import place
from streamq.options import DaemonOptions, WorkerOptions
from streamq.telemetry import systemd, traces
from streamq.telemetry.report import Reporter
from streamq.telemetry.routes import routes
from streamq.telemetry.sentry import Sentry
from streamq.telemetry.sums import Snapshot
from streamq.telemetry.web import Listen, WebThread
from streamq.transport import Address
from streamq.worker.board import Board
from streamq.worker.process import EXIT_WEDGED, App, Worker

_SPAWN = get_context("spawn")
EXIT_CONFIG: Final = 78
EXIT_UNREACHABLE: Final = 69
EXIT_WORN_OUT: Final = 75
EXIT_DRAINED: Final = 76
"""An operator asked this worker to end: no other takes its place."""
_FATAL: Final = (EXIT_CONFIG,)
_WHY: Final = {EXIT_WORN_OUT: "worn_out", EXIT_WEDGED: "wedged"}
CALM: Final = 30.0
"""Seconds that a process must live for its next crash to be restarted without delay."""
LONGEST_DELAY: Final = 30.0


@dataclass(frozen=True, slots=True)
class Launch:
    """What a child process needs to know. `app` is `module:attribute`."""

    app: str
    url: str | None
    options: WorkerOptions
    group: str
    log_level: str
    log_format: str
    reports: bool = False


def load_app(reference: str) -> App:
    """Import `module:attribute` (`module` alone means `module:app`). Raises UsageError."""
    module, _, attribute = reference.partition(":")
    if not module:
        raise UsageError(f"{reference!r} names no app: write it as module:attribute, such as shop.tasks:app")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _imported(module)
    for part in (attribute or "app").split("."):
        found = getattr(found, part, None)
    if not hasattr(found, "registry") or not hasattr(found, "address"):
        raise UsageError(f"{module!r} has no StreamQ app called {attribute or 'app'!r}")
    app: App = found
    return app


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except StreamQError:
        raise  # it says what is wrong with the app
    except ModuleNotFoundError as error:
        if error.name is not None and module.split(".", maxsplit=1)[0] == error.name.split(".")[0]:
            raise UsageError(
                f"there is no module {error.name!r} here: write the app as module:attribute"
            ) from None
        raise _broken(module, error) from error
    except Exception as error:
        raise _broken(module, error) from error


def _broken(module: str, error: Exception) -> UsageError:
    """What is wrong with a module, with the place in the user's code."""
    if isinstance(error, SyntaxError):
        where, said = f"{error.filename}:{error.lineno}", error.msg
    else:
        where = str(place("".join(traceback.format_exception(error))) or module)
        said = " ".join(str(error).split())
    return UsageError(f"{module} cannot be imported: {where}: {type(error).__name__}: {said}")


class _At:
    """An app at another address than its own."""

    def __init__(self, app: App, address: Address) -> None:
        self.registry = app.registry
        self.address = address


def located(reference: str, url: str | None) -> App:
    app = load_app(reference)
    return app if url is None else _At(app, Address.parse(url))


# -- the inside of a child ---------------------------------------------------------------------------


def serve(launch: Launch, pipe: Connection | None) -> None:
    """A worker process, from its start to its exit code."""

    def make() -> Worker:
        app = located(launch.app, launch.url)
        return Worker(app, launch.options, group=launch.group, exclusive=True, metered=launch.reports)

    live(make, launch, pipe)


def serve_daemon(launch: Launch, pipe: Connection | None) -> None:
    """The daemon that `--with-daemon` runs beside the workers."""

    def make() -> Daemon:
        return Daemon(located(launch.app, launch.url).address, DaemonOptions(), watched=launch.reports)

    live(make, launch, pipe)


def live(make: Callable[[], Any], launch: Launch, pipe: Connection | None) -> None:
    """The life of a process of ours: the service that `make` answers, until SIGTERM; ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group: the parent passes it on
    telemetry.configure(launch.log_level, launch.log_format)
    try:
        code = run_loop(_serve(make, pipe))
    except StreamQError as error:
        telemetry.get_logger().error("process.failed", error=str(error))
        code = EXIT_CONFIG if isinstance(error, UsageError) else EXIT_UNREACHABLE
    traces.flush()
    # Threads whose handlers will not end would keep the process for ever.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _serve(make: Any, pipe: Connection | None) -> int:
    service = make()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, service.stop)
    _watch_parent(loop, service.stop)
    reporter = None if pipe is None else Reporter(pipe, service.report)
    if reporter is not None:
        reporter.start()
    try:
        await service.run()
    finally:
        if reporter is not None:
            await asyncio.to_thread(reporter.stop)
    if getattr(service, "drained", False):
        return EXIT_DRAINED
    return EXIT_WORN_OUT if getattr(service, "worn_out", False) else 0


def _watch_parent(loop: asyncio.AbstractEventLoop, stop: Any) -> None:
    """Drain when the supervisor is gone: nobody else would ever tell us."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stop)

    threading.Thread(target=watch, name="streamq-parent", daemon=True).start()


def run_loop(coroutine: Any) -> Any:
    """Run on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.run(coroutine)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


# -- the supervisor ----------------------------------------------------------------------------------


class _Seat:
    """One process that is to be there, whoever fills it at the moment."""

    def __init__(self, name: str, target: Any, launch: Launch) -> None:
        self.name = name
        self.is_worker = target is serve
        self._target, self._launch = target, launch
        self._crashes = 0
        self._started = 0.0
        self.start_at: float | None = 0.0
        self.process: Any = None
        self.exit_code: int | None = None

    def start(self) -> Connection | None:
        """Start the process; answers the pipe that it reports through, where it is to."""
        ours, theirs = _SPAWN.Pipe(duplex=False) if self._launch.reports else (None, None)
        self.process = _SPAWN.Process(target=self._target, args=(self._launch, theirs), name=self.name)
        self.process.start()
        if theirs is not None:
            theirs.close()
        self._started, self.start_at = time.monotonic(), None
        return ours

    def ended(self) -> int:
        """Note the end of the process; answers its exit code and when to start the next."""
        self.process.join()
        code: int = self.process.exitcode
        self.process, self.exit_code = None, code
        now = time.monotonic()
        self._crashes = 1 if now - self._started > CALM else self._crashes + 1
        self.start_at = now + min(LONGEST_DELAY, 0.1 * 2 ** (self._crashes - 1))
        return code


class WorkerGroup:
    """Supervises `processes` workers of an app, and a daemon where asked for.

    `listen`: where probes and scrapers are answered. Where nobody asks and no systemd listens, the
    processes report nothing and measure nothing.

    `run()` returns the exit code when all have ended: 0 after SIGTERM or SIGINT (a second one ends the
    workers at once; they hand back what they hold), 78 where the configuration is wrong.
    """

    def __init__(
        self,
        app: str,
        options: WorkerOptions | None = None,
        *,
        processes: int = 1,
        url: str | None = None,
        with_daemon: bool = False,
        log_level: str = "info",
        log_format: str = "auto",
        listen: Listen | None = None,
    ) -> None:
        group = f"{os.uname().nodename}-{os.getpid()}"
        self._listen = listen or Listen()
        watched = bool(self._listen) or Sentry.wanted()
        launch = Launch(app, url, options or WorkerOptions(), group, log_level, log_format, watched)
        self._seats = [_Seat(f"streamq-worker-{n}", serve, launch) for n in range(processes)]
        if with_daemon:
            self._seats.append(_Seat("streamq-daemon", serve_daemon, launch))
        self._board = Board([seat.name for seat in self._seats])
        self._knows_queue = with_daemon
        self._stopping = False
        self._fatal = 0
        self._log = telemetry.get_logger(group=group)
        self._wake_r, self._wake_w = os.pipe()

    def run(self) -> int:
        """Supervise until all processes have ended. Call it in the main thread.

        Raises CannotListen.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        os.set_blocking(self._wake_w, False)
        web = WebThread(self._listen, routes(self, knows_queue=self._knows_queue)) if self._listen else None
        sentry = Sentry(self) if Sentry.wanted() else None
        if web is not None:
            web.start()
        if sentry is not None:
            sentry.start()
        try:
            return self._supervise()
        finally:
            if sentry is not None:
                sentry.stop()
            if web is not None:
                web.close()

    def _supervise(self) -> int:
        try:
            while self._start_due() or any(seat.process for seat in self._seats) or not self._stopping:
                self._wait()
                self._bury()
        finally:
            self._kill_all()
        return self._fatal

    def _signalled(self, _number: int, _frame: Any) -> None:
        self._stopping = self._board.draining = True
        systemd.notify(STOPPING=1)
        for seat in self._seats:
            if seat.process is not None:
                with suppress(ProcessLookupError):
                    seat.process.terminate()
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
                    self._board.started(seat.name, pipe)
                self._log.info("process.started", process=seat.name, pid=seat.process.pid)
        return True

    def _wait(self) -> None:
        alive = [seat.process.sentinel for seat in self._seats if seat.process is not None]
        due = [seat.start_at for seat in self._seats if seat.start_at is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due and not self._stopping else None
        if self._wake_r in wait([*alive, self._wake_r], timeout):
            os.read(self._wake_r, 64)

    def _bury(self) -> None:
        for seat in self._seats:
            if seat.process is None or seat.process.is_alive():
                continue
            pid, code = seat.process.pid, seat.ended()
            self._board.ended(seat.name)
            if self._stopping:
                self._log.info("process.ended", process=seat.name, pid=pid, code=code)
            elif code == EXIT_DRAINED:
                self._log.info("process.drained", process=seat.name, pid=pid)
                self._retire(seat)
            elif code in _FATAL:
                self._fatal = code
                self._log.error("process.gave_up", process=seat.name, code=code)
                self._signalled(signal.SIGTERM, None)
            else:
                reason = _WHY.get(code, "crashed")
                self._board.own.count("streamq_worker_process_restarts_total", reason)
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
        return self._board.not_alive()

    def not_ready(self) -> list[str]:
        """Why tasks would not be worked on; empty where they would."""
        return self._board.not_ready()

    def drain(self) -> None:
        """As SIGTERM does; called again it changes nothing. May be called from another thread."""
        main = threading.main_thread().ident
        if not self._stopping and main is not None:
            # To the main thread: another that took the signal would not end its wait.
            signal.pthread_kill(main, signal.SIGTERM)

    async def metrics(self) -> Snapshot:
        """What the processes have added up, those that ended among them."""
        return self._board.total()

    async def backlog(self) -> list[dict[str, Any]] | None:
        """The queue, as the daemon beside the workers sees it."""
        return await self._board.backlog()

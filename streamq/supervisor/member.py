"""Runs a worker or a daemon in a process that a supervisor started, up to its exit code.

Owns the process: its signals, event loop, reports and exit. Makes no decision about a task.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, NoReturn, Protocol

from streamq import exit_codes
from streamq.errors import AuthenticationFailed, StreamQError, UsageError
from streamq.options.service import DaemonOptions
from streamq.probes.report import Report, Reporter
from streamq.supervisor.spec import READY, RECYCLE, Launch
from streamq.telemetry import logs, traces
from streamq.worker import signals, stdio
from streamq.worker.loading import load_app_at, refuse_embedded
from streamq.worker.process_exit import exit_process, run_loop
from streamq.worker.worker import Worker

if TYPE_CHECKING:
    from streamq.daemon.daemon import Daemon


class Service(Protocol):
    """A Worker or a Daemon."""

    def stop(self) -> None: ...
    def report(self) -> Report: ...
    async def run(self) -> None: ...


def serve_worker(launch: Launch, reports: Connection | None, startup: Connection | None = None) -> None:
    """Run a worker and end the process."""

    def make() -> Worker:
        app = load_app_at(launch.app, launch.url, launch.prefix, launch.imports)
        refuse_embedded(app.address, "worker")
        return Worker(app, launch.options, group=launch.group, exclusive=True, metered=launch.reports)

    run_service(make, launch, reports, startup)


def serve_daemon(launch: Launch, reports: Connection | None, startup: Connection | None = None) -> None:
    """Run the daemon that `--with-daemon` starts beside the workers, and end the process."""

    from streamq.daemon.daemon import Daemon  # noqa: PLC0415 - workers must not load the daemon

    def make() -> Daemon:
        app = load_app_at(launch.app, launch.url, launch.prefix)
        refuse_embedded(app.address, "worker")
        return Daemon(app.address, DaemonOptions(), watched=launch.reports)

    run_service(make, launch, reports, startup)


def run_service(
    make: Callable[[], Service],
    launch: Launch,
    reports: Connection | None,
    startup: Connection | None = None,
) -> NoReturn:
    """Run the service that `make` returns until SIGTERM, then end the process.

    reports: the pipe for reports. startup: the pipe for the start-up message: "" if the app was loaded,
    otherwise the error, which the supervisor then shows.
    """
    stdio.line_buffered()
    signals.ignore_interrupts()
    logs.configure(launch.log_level, launch.log_format)
    notices = startup if launch.options.recycles else None
    try:
        service = _make(make, startup, keep=notices is not None)
        code = exit_codes.CONFIG if service is None else run_loop(_serve(service, reports, notices))
    except StreamQError as error:
        logs.get_logger().error("process.failed", error=str(error))
        code = _exit_code(error)
    traces.flush()
    exit_process(code)


def _make(make: Callable[[], Service], startup: Connection | None, *, keep: bool) -> Service | None:
    """Return the service; None if it could not be created and the error was sent to the supervisor. keep: the
    pipe stays open for notices."""
    if startup is None:
        return make()
    try:
        service = make()
    except StreamQError as error:
        startup.send(str(error))
        return None
    startup.send("")
    if not keep:
        startup.close()
    return service


def _exit_code(error: StreamQError) -> int:
    """Return the exit code for an error that keeps a process from working."""
    if isinstance(error, UsageError):
        return exit_codes.CONFIG
    return exit_codes.DENIED if isinstance(error, AuthenticationFailed) else exit_codes.UNREACHABLE


async def _notify(worker: Worker, notices: Connection) -> None:
    """Tell the supervisor when the worker takes tasks, and when it should be replaced."""
    for event, notice in ((worker.ready, READY), (worker.recycle, RECYCLE)):
        await event.wait()
        with suppress(OSError):
            notices.send(notice)


async def _serve(service: Service, reports: Connection | None, notices: Connection | None) -> int:
    """Run the service and return the exit code of the process."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, service.stop)
    _watch_parent(loop, service.stop)
    reporter = None if reports is None else Reporter(reports, service.report)
    if reporter is not None:
        reporter.start()
    notifying = None
    if notices is not None and isinstance(service, Worker):
        notifying = asyncio.create_task(_notify(service, notices))
    try:
        await service.run()
    finally:
        if notifying is not None:
            notifying.cancel()
        if reporter is not None:
            await asyncio.to_thread(reporter.stop)
    if getattr(service, "drained", False):
        return exit_codes.DRAINED
    return exit_codes.WORN_OUT if getattr(service, "worn_out", False) else 0


def _watch_parent(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """Drain when the supervisor has ended: no signal arrives for that."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stop)

    threading.Thread(target=watch, name="streamq-parent", daemon=True).start()

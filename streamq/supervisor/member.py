"""The inside of a process that a supervisor started: a worker or a daemon, from its start to its exit code.

Owns the process: its signals, its event loop, its reports, how it ends. Decides nothing about a task.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, NoReturn

from streamq import exit_codes
from streamq.errors import AuthenticationFailed, StreamQError, UsageError
from streamq.options.service import DaemonOptions
from streamq.probes.report import Reporter
from streamq.supervisor.spec import Launch
from streamq.telemetry import logs, traces
from streamq.worker import signals, stdio
from streamq.worker.loading import located, production
from streamq.worker.process_exit import end, run_loop
from streamq.worker.worker import Worker

if TYPE_CHECKING:
    from streamq.daemon.daemon import Daemon


def serve_worker(launch: Launch, pipe: Connection | None, news: Connection | None = None) -> None:
    """A worker process, from its start to its exit code."""

    def make() -> Worker:
        app = located(launch.app, launch.url, launch.prefix, launch.imports)
        production(app.address, "worker")
        return Worker(app, launch.options, group=launch.group, exclusive=True, metered=launch.reports)

    live(make, launch, pipe, news)


def serve_daemon(launch: Launch, pipe: Connection | None, news: Connection | None = None) -> None:
    """The daemon that `--with-daemon` runs beside the workers."""

    from streamq.daemon.daemon import Daemon  # noqa: PLC0415 - a worker does not need what it is made of

    def make() -> Daemon:
        app = located(launch.app, launch.url, launch.prefix)
        production(app.address, "worker")
        return Daemon(app.address, DaemonOptions(), watched=launch.reports)

    live(make, launch, pipe, news)


def live(
    make: Callable[[], Any], launch: Launch, pipe: Connection | None, news: Connection | None = None
) -> NoReturn:
    """The life of a process of ours: the service that `make` answers, until SIGTERM; ends the process.

    news: where a supervisor hears that the app is there, or what is wrong with it, which it tells itself.
    """
    stdio.by_lines()
    signals.pass_interrupts_by()
    logs.configure(launch.log_level, launch.log_format)
    try:
        service = made(make, news)
        code = exit_codes.CONFIG if service is None else run_loop(_serve(service, pipe))
    except StreamQError as error:
        logs.get_logger().error("process.failed", error=str(error))
        code = _code(error)
    traces.flush()
    end(code)


def made(make: Callable[[], Any], news: Connection | None) -> Any:
    """The service, None where the supervisor has been told why there is none."""
    if news is None:
        return make()
    with news:
        try:
            service = make()
        except StreamQError as error:
            news.send(str(error))
            return None
        news.send("")
    return service


def _code(error: StreamQError) -> int:
    """Return the exit code for what keeps a process from its work."""
    if isinstance(error, UsageError):
        return exit_codes.CONFIG
    return exit_codes.DENIED if isinstance(error, AuthenticationFailed) else exit_codes.UNREACHABLE


async def _serve(service: Any, pipe: Connection | None) -> int:
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
        return exit_codes.DRAINED
    return exit_codes.WORN_OUT if getattr(service, "worn_out", False) else 0


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

"""Run the session: a server, and a worker, a daemon and a dashboard that are restarted when they end.

Owns the order of starting and stopping, and the reaction to a saved file. Imports none of the user's code:
only the parts do. Leaves no process behind, and no files that were not requested.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from streamq import environment, exit_codes
from streamq.dev import watch
from streamq.dev.log import Log
from streamq.dev.part import Part
from streamq.dev.plan import Plan, Report
from streamq.embedded import EmbeddedServer
from streamq.errors import CannotListen, RedisUnavailable, UsageError
from streamq.transport.address import Address

PORT: Final = 6379
DASHBOARD_PORT: Final = 8675
LONGEST_DELAY: Final = 10.0
"""Maximum seconds between two starts of a part that ends on its own."""
CHECK: Final = 1.0
EXTRA: Final = "pip install 'streamq[dashboard]'"


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """The session's options. `url` names a running server; without it one is started, which stores its data
    in `data`, or nowhere. A port of None means the default, or any free one if that is taken."""

    app: str
    url: str | None = None
    data: Path | None = None
    server_port: int | None = None
    dashboard: bool = True
    dashboard_port: int | None = None
    sample: bool = False
    concurrency: int = 10
    drain_timeout: float = 2.0
    log_level: str = "info"
    imports: tuple[str, ...] = ()
    folders: Sequence[Path] = ()


class Session:
    """Run until SIGTERM, SIGHUP or Ctrl-C; a second signal does not wait for running tasks."""

    def __init__(self, options: SessionOptions) -> None:
        self._options = options
        self._log = Log()
        self._server: EmbeddedServer | None = None
        self._stop, self._changed, self._name_known = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._types: dict[str, str | None] = {}
        self._plan = Plan(
            options.app, "", concurrency=options.concurrency, drain_timeout=options.drain_timeout,
            log_level=options.log_level, imports=options.imports,
        )  # fmt: skip
        self._parts: list[Part] = []

    async def run(self) -> None:
        """Run the session. Raise UsageError or RedisErrors if it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        watch.require()
        try:
            await self._begin()
            roots = watch.folders(self._options.app, self._options.folders)
            self._write(f"watching {', '.join(map(str, roots))}")
            async with asyncio.TaskGroup() as group:
                for chore in (
                    self._watch(roots),
                    self._keep_worker(),
                    self._keep_other_parts(group),
                    self._keep_server(),
                ):
                    group.create_task(chore)
        finally:
            for part in self._parts:
                part.kill()
            if self._server is not None:
                await asyncio.to_thread(self._server.stop)
                self._log.write("server", "ended")

    def _on_signal(self) -> None:
        if self._stop.is_set():
            for part in self._parts:
                part.kill()
        else:
            self._write("ending: the worker finishes what runs; Ctrl-C again does not wait")
            self._stop.set()

    def _write(self, text: str) -> None:
        self._log.write("dev", text)

    # -- the server ----------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Start the server if needed, and choose the ports."""
        options = self._options
        port = free_port(options.dashboard_port, DASHBOARD_PORT, "--port") if options.dashboard else 0
        url = options.url or await self._start_server()
        self._plan = replace(self._plan, url=url, port=port)

    async def _start_server(self) -> str:
        port = free_port(self._options.server_port, PORT, "--server-port")
        self._server = server = EmbeddedServer(data_dir=self._options.data, port=port)
        await asyncio.to_thread(server.start)
        if not server.owned:
            data, self._server = self._options.data, None
            raise UsageError(
                f"a server already runs in {data} (process {server.pid}): stop it, or name another folder"
            )
        kept = (
            f"keeps everything in {self._options.data}"
            if self._options.data
            else "keeps nothing (--data FOLDER)"
        )
        self._log.write("server", f"ready at redis://localhost:{port}/0, {kept}")
        return f"redis://127.0.0.1:{port}/0"

    async def _keep_server(self) -> None:
        """Restart the server if it has ended."""
        while not await self._stopped(CHECK):
            if (server := self._server) is None:
                continue
            before = server.pid
            try:
                await asyncio.to_thread(server.start)
            except RedisUnavailable as error:
                self._log.write("server", str(error))
            if server.pid != before:
                self._log.write("server", "ended, and was restarted")

    # -- the worker ----------------------------------------------------------------------------------------

    async def _watch(self, roots: Sequence[Path]) -> None:
        async with aclosing(watch.changes(roots, self._stop)) as changes:
            async for files in changes:
                names = ", ".join(Path(file).name for file in files[:3])
                more = f" and {len(files) - 3} more" if len(files) > 3 else ""
                self._write(f"{names}{more} changed")
                self._changed.set()

    async def _keep_worker(self) -> None:
        """Keep a worker running with the current code."""
        part, delay = self._part("worker"), 0.0
        while not self._stop.is_set():
            self._changed.clear()
            await part.start(self._plan)
            ended = asyncio.create_task(part.wait())
            await self._wait_any(ended, self._changed.wait())
            if not ended.done():
                await part.end(self._options.drain_timeout + 5.0)
                delay = 0.0
            code = await ended
            if not (self._stop.is_set() or self._changed.is_set()):
                delay = await self._pause(code, delay)

    async def _pause(self, code: int, delay: float) -> float:
        """Wait, after a worker has ended on its own, until it makes sense to start another."""
        if code in (exit_codes.CONFIG, exit_codes.DRAINED):
            why = "cannot start" if code == exit_codes.CONFIG else "was drained"
            self._write(f"the worker {why}: save a file to start it again")
            await self._wait_any(self._changed.wait())
            return 0.0
        delay = min(LONGEST_DELAY, max(0.5, 2 * delay))
        self._write(f"the worker ended with code {code}: started again in {delay:g} s")
        await self._wait_any(self._changed.wait(), asyncio.sleep(delay))
        return delay

    def _on_report(self, report: Report) -> None:
        """Handle a worker's first report: its app's name, and its task types."""
        self._types = report["types"]
        if not self._plan.name:
            self._plan = replace(self._plan, name=report["name"], prefix=report["prefix"])
            self._name_known.set()
        elif report["name"] != self._plan.name:
            self._write(f"the app is now called {report['name']!r}: restart streamq dev to use it")

    # -- the rest ------------------------------------------------------------------------------------------

    async def _keep_other_parts(self, group: asyncio.TaskGroup) -> None:
        """Start what needs the app's name, which is known after the app was imported."""
        await self._wait_any(self._name_known.wait())
        if self._stop.is_set():
            return
        group.create_task(self._keep("daemon"))
        if self._options.dashboard and all(map(find_spec, ("starlette", "jinja2", "uvicorn"))):
            group.create_task(self._keep("dashboard"))
        elif self._options.dashboard:
            self._log.write("dashboard", f"is not installed: {EXTRA}")
        if self._options.sample:
            group.create_task(self._once("sample"))
        self._print_hints()

    async def _keep(self, name: str) -> None:
        part, delay = self._part(name), 0.0
        while not self._stop.is_set():
            await part.start(self._plan)
            ended = asyncio.create_task(part.wait())
            await self._wait_any(ended)
            if not ended.done():
                await part.end(5.0)
            code = await ended
            if not self._stop.is_set():
                delay = min(LONGEST_DELAY, max(0.5, 2 * delay))
                self._write(f"the {name} ended with code {code}: started again in {delay:g} s")
                await self._stopped(delay)

    async def _once(self, name: str) -> None:
        part = self._part(name)
        await part.start(self._plan)
        ended = asyncio.create_task(part.wait())
        await self._wait_any(ended)
        if not ended.done():
            await part.end(1.0)
        await ended

    def _print_hints(self) -> None:
        """Print how to enqueue a task, as a command to paste."""
        given = next((f"{name} '{text}'" for name, text in self._types.items() if text), None)
        if not self._is_default_url():
            shown = str(Address.parse(self._plan.url))  # without the login that --url may have
            self._write(f"in other terminals first: export {environment.URL.name}={shown}")
        if given is not None:
            self._write(f"in another terminal: streamq enqueue {given}")
        self._write("save a file to restart the worker; Ctrl-C ends everything")

    def _is_default_url(self) -> bool:
        """Return whether programs use this server by default."""
        given = environment.URL.explicit()
        return self._plan.url == f"redis://127.0.0.1:{PORT}/0" and given in (None, self._plan.url)

    def _part(self, name: str) -> Part:
        part = Part(
            name, self._log, self._environment(), self._on_report if name == "worker" else lambda _: None
        )
        self._parts.append(part)
        return part

    def _environment(self) -> dict[str, str]:
        ours = {
            environment.URL.name: self._plan.url,
            environment.ENV.name: "dev",
            "PYTHONUNBUFFERED": "1",  # show a handler's output at once
            "PYTHONDONTWRITEBYTECODE": "1",  # no __pycache__ in the user's folder
        }
        return {**os.environ, **ours}

    async def _wait_any(self, *awaited: Awaitable[object]) -> None:
        """Wait until one of these is done, or the session is to end."""
        tasks = [asyncio.ensure_future(one) for one in (*awaited, self._stop.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task not in awaited:
                task.cancel()

    async def _stopped(self, seconds: float) -> bool:
        """Wait. Returns whether the session is to end."""
        await self._wait_any(asyncio.sleep(seconds))
        return self._stop.is_set()


def free_port(wanted: int | None, default: int, option: str) -> int:
    """Return the requested port, or the default or a free one. Raise CannotListen if the requested port is
    taken."""
    for port in (default, 0) if wanted is None else (wanted,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if wanted is not None:
                    why = (
                        "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
                    )
                    raise CannotListen(f"port {wanted} {why}: choose another with {option}") from None
                continue
            found: int = probe.getsockname()[1]
            return found
    raise CannotListen("no port is free on 127.0.0.1: close a program that listens")

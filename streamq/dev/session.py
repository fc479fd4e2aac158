"""The session: a server, and a worker, a daemon and a dashboard that are started anew where they end.

Owns the order in which things begin and end, and what a saved file means. Imports none of the user's code:
that is in the parts only. Leaves no process behind, and no file but what was asked for.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from streamq import environment, exit_codes
from streamq.dev import watch
from streamq.dev.log import Log
from streamq.dev.part import Part
from streamq.dev.plan import Plan
from streamq.embedded import EmbeddedServer
from streamq.errors import CannotListen, RedisUnavailable, UsageError
from streamq.transport.address import Address

PORT: Final = 6379
DASHBOARD_PORT: Final = 8675
LONGEST_DELAY: Final = 10.0
"""Seconds at most between two starts of a part that ends by itself."""
CHECK: Final = 1.0
EXTRA: Final = "pip install 'streamq[dashboard]'"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for. `url` names a server that runs already; else one is started, which keeps what it
    has in `data`, or nothing. A port of None is the usual one, or any where that is taken."""

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
    """`await run()` until SIGTERM, SIGHUP or Ctrl-C; a second one does not wait for tasks that run."""

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes
        self._log = Log()
        self._server: EmbeddedServer | None = None
        self._stop, self._changed, self._known = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._types: dict[str, str | None] = {}
        self._plan = Plan(
            wishes.app, "", concurrency=wishes.concurrency, drain_timeout=wishes.drain_timeout,
            log_level=wishes.log_level, imports=wishes.imports,
        )  # fmt: skip
        self._parts: list[Part] = []

    async def run(self) -> None:
        """Raises UsageError and RedisErrors where it cannot begin."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._asked_to_end)
        try:
            await self._begin()
            roots = watch.folders(self._wishes.app, self._wishes.folders)
            self._say(f"watching {', '.join(map(str, roots))} ({watch.method()})")
            async with asyncio.TaskGroup() as group:
                for chore in (
                    self._watch(roots),
                    self._keep_worker(),
                    self._keep_others(group),
                    self._guard(),
                ):
                    group.create_task(chore)
        finally:
            for part in self._parts:
                part.kill()
            if self._server is not None:
                await asyncio.to_thread(self._server.stop)
                self._log.say("server", "ended")

    def _asked_to_end(self) -> None:
        if self._stop.is_set():
            for part in self._parts:
                part.kill()
        else:
            self._say("ending: the worker finishes what runs; Ctrl-C again does not wait")
            self._stop.set()

    def _say(self, text: str) -> None:
        self._log.say("dev", text)

    # -- the server ----------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Have a server, and settle the ports."""
        wishes = self._wishes
        port = free_port(wishes.dashboard_port, DASHBOARD_PORT, "--port") if wishes.dashboard else 0
        url = wishes.url or await self._start_server()
        self._plan = replace(self._plan, url=url, port=port)

    async def _start_server(self) -> str:
        port = free_port(self._wishes.server_port, PORT, "--server-port")
        self._server = server = EmbeddedServer(data_dir=self._wishes.data, port=port)
        await asyncio.to_thread(server.start)
        if not server.owned:
            data, self._server = self._wishes.data, None
            raise UsageError(
                f"a server runs in {data} already (process {server.pid}): end that, or name another folder"
            )
        kept = (
            f"keeps everything in {self._wishes.data}"
            if self._wishes.data
            else "keeps nothing (--data FOLDER)"
        )
        self._log.say("server", f"ready at redis://localhost:{port}/0, {kept}")
        return f"redis://127.0.0.1:{port}/0"

    async def _guard(self) -> None:
        """Start the server again where it has ended."""
        while not await self._stopped(CHECK):
            if (server := self._server) is None:
                continue
            before = server.pid
            try:
                await asyncio.to_thread(server.start)
            except RedisUnavailable as error:
                self._log.say("server", str(error))
            if server.pid != before:
                self._log.say("server", "had ended, and was started again")

    # -- the worker ----------------------------------------------------------------------------------------

    async def _watch(self, roots: Sequence[Path]) -> None:
        async with aclosing(watch.changes(roots, self._stop)) as changes:
            async for files in changes:
                names = ", ".join(Path(file).name for file in files[:3])
                more = f" and {len(files) - 3} more" if len(files) > 3 else ""
                self._say(f"{names}{more} changed")
                self._changed.set()

    async def _keep_worker(self) -> None:
        """A worker with the code as it is now."""
        part, delay = self._part("worker"), 0.0
        while not self._stop.is_set():
            self._changed.clear()
            await part.start(self._plan)
            ended = asyncio.create_task(part.wait())
            await self._first(ended, self._changed.wait())
            if not ended.done():
                await part.end(self._wishes.drain_timeout + 5.0)
                delay = 0.0
            code = await ended
            if not (self._stop.is_set() or self._changed.is_set()):
                delay = await self._pause(code, delay)

    async def _pause(self, code: int, delay: float) -> float:
        """After a worker that has ended by itself: until it makes sense to start another."""
        if code in (exit_codes.CONFIG, exit_codes.DRAINED):
            why = "cannot start" if code == exit_codes.CONFIG else "was drained"
            self._say(f"the worker {why}: save a file to start it again")
            await self._first(self._changed.wait())
            return 0.0
        delay = min(LONGEST_DELAY, max(0.5, 2 * delay))
        self._say(f"the worker ended with code {code}: started again in {delay:g} s")
        await self._first(self._changed.wait(), asyncio.sleep(delay))
        return delay

    def _told(self, said: dict[str, Any]) -> None:
        """A worker's first words: what its app is called, and which task types it has."""
        self._types = said["types"]
        if not self._plan.name:
            self._plan = replace(self._plan, name=said["name"], prefix=said["prefix"])
            self._known.set()
        elif said["name"] != self._plan.name:
            self._say(f"the app is now called {said['name']!r}: end this and begin anew to see it")

    # -- the rest ------------------------------------------------------------------------------------------

    async def _keep_others(self, group: asyncio.TaskGroup) -> None:
        """What needs the app's name: it is known once its code has been imported."""
        await self._first(self._known.wait())
        if self._stop.is_set():
            return
        group.create_task(self._keep("daemon"))
        if self._wishes.dashboard and all(map(find_spec, ("starlette", "jinja2", "uvicorn"))):
            group.create_task(self._keep("dashboard"))
        elif self._wishes.dashboard:
            self._log.say("dashboard", f"is not installed: {EXTRA}")
        if self._wishes.sample:
            group.create_task(self._once("sample"))
        self._tell_how()

    async def _keep(self, name: str) -> None:
        part, delay = self._part(name), 0.0
        while not self._stop.is_set():
            await part.start(self._plan)
            ended = asyncio.create_task(part.wait())
            await self._first(ended)
            if not ended.done():
                await part.end(5.0)
            code = await ended
            if not self._stop.is_set():
                delay = min(LONGEST_DELAY, max(0.5, 2 * delay))
                self._say(f"the {name} ended with code {code}: started again in {delay:g} s")
                await self._stopped(delay)

    async def _once(self, name: str) -> None:
        part = self._part(name)
        await part.start(self._plan)
        ended = asyncio.create_task(part.wait())
        await self._first(ended)
        if not ended.done():
            await part.end(1.0)
        await ended

    def _tell_how(self) -> None:
        """How to enqueue something, in words that can be pasted."""
        given = next((f"{name} '{text}'" for name, text in self._types.items() if text), None)
        if not self._usual():
            shown = str(Address.parse(self._plan.url))  # without the login that --url may have
            self._say(f"in other terminals first: export {environment.URL.name}={shown}")
        if given is not None:
            self._say(f"in another terminal: streamq enqueue {given}")
        self._say("save a file to restart the worker; Ctrl-C ends everything")

    def _usual(self) -> bool:
        """Whether programs find this server without being told."""
        given = environment.URL.explicit()
        return self._plan.url == f"redis://127.0.0.1:{PORT}/0" and given in (None, self._plan.url)

    def _part(self, name: str) -> Part:
        part = Part(name, self._log, self._environment(), self._told if name == "worker" else lambda _: None)
        self._parts.append(part)
        return part

    def _environment(self) -> dict[str, str]:
        ours = {
            environment.URL.name: self._plan.url,
            environment.ENV.name: "dev",
            "PYTHONUNBUFFERED": "1",  # what a handler prints is seen at once
            "PYTHONDONTWRITEBYTECODE": "1",  # no __pycache__ in the user's folder
        }
        return {**os.environ, **ours}

    async def _first(self, *awaited: Any) -> None:
        """Until one of these is done, or the session is to end."""
        tasks = [asyncio.ensure_future(one) for one in (*awaited, self._stop.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task not in awaited:
                task.cancel()

    async def _stopped(self, seconds: float) -> bool:
        """Wait so long; answers whether the session is to end."""
        await self._first(asyncio.sleep(seconds))
        return self._stop.is_set()


def free_port(wanted: int | None, usual: int, option: str) -> int:
    """The port that was asked for, CannotListen where it is taken; else the usual one, or a free one."""
    for port in (usual, 0) if wanted is None else (wanted,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if wanted is not None:
                    why = (
                        "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
                    )
                    raise CannotListen(f"port {wanted} {why}: give another with {option}") from None
                continue
            found: int = probe.getsockname()[1]
            return found
    raise CannotListen("there is no free port on 127.0.0.1")

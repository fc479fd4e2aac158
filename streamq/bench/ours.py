"""streamq's side of the comparison: the public API and the commands, with default settings.

Owns how each measure is taken with streamq. Uses nothing that a user does not get.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager
from typing import ClassVar, Unpack, cast

from streamq import environment
from streamq.app.app import StreamQ
from streamq.app.task_type import TaskType
from streamq.bench import bare, tasks
from streamq.bench.side import TEXT, Side, child, paced
from streamq.keys import app_pattern
from streamq.options.typed import PerCall


class Ours(Side):
    """An app of its own on one server."""

    name: ClassVar[str] = "streamq"

    def __init__(self, url: str, app: str) -> None:
        self._url, self._name = url, app
        self._environment = {tasks.APP: app, environment.URL.name: url}
        self.app: StreamQ = StreamQ(app, url)
        self._types = _registered(self.app)

    def task(self, name: str) -> TaskType[..., object, object]:
        return self._types[name]

    def one(self, count: int) -> float:
        task = self.task("forgotten")
        began = time.perf_counter()
        for _ in range(count):
            task.enqueue(time.monotonic_ns(), TEXT)
        return time.perf_counter() - began

    async def aone(self, count: int) -> float:
        task = self.task("forgotten")
        began = time.perf_counter()
        for _ in range(count):
            await task.aenqueue(time.monotonic_ns(), TEXT)
        seconds = time.perf_counter() - began
        await self.app.aclose()
        return seconds

    async def concurrent(self, count: int) -> float:
        task = self.task("forgotten")
        began = time.perf_counter()
        for _ in range(count // 100):
            await asyncio.gather(*[task.aenqueue(time.monotonic_ns(), TEXT) for _ in range(100)])
        seconds = time.perf_counter() - began
        await self.app.aclose()
        return seconds

    def many(self, count: int, *, stored: bool = False) -> float:
        task = self.task("noop" if stored else "forgotten")
        began = time.perf_counter()
        for start in range(0, count, 3000):
            bound = [task.bind(time.monotonic_ns(), TEXT) for _ in range(min(3000, count - start))]
            self.app.enqueue_many(bound)
        return time.perf_counter() - began

    def delayed(self, count: int, delay: float, gap: float) -> None:
        task = self.task("forgotten").options(delay=delay)
        for _ in paced(count, gap):
            task.enqueue(time.monotonic_ns() + round(delay * 1e9), TEXT)

    def spaced(self, count: int, gap: float) -> None:
        task = self.task("forgotten")
        for _ in paced(count, gap):
            task.enqueue(time.monotonic_ns(), TEXT)

    def send(self, name: str, count: int, **options: Unpack[PerCall]) -> None:
        """Enqueue tasks of any type of `tasks`, in bulk."""
        task = self.task(name).options(**options)
        for start in range(0, count, 3000):
            self.app.enqueue_many([task.bind(0, TEXT) for _ in range(min(3000, count - start))])

    def worker(
        self, processes: int = 1, concurrency: int = 100, process_slots: int = 2
    ) -> AbstractContextManager[None]:
        sizes = {"processes": processes, "concurrency": concurrency, "process-slots": process_slots}
        options = [part for name, size in sizes.items() for part in (f"--{name}", str(size))]
        return self._command("worker", "streamq.bench.tasks:app", *options)

    def daemon(self) -> AbstractContextManager[None]:
        return self._command("daemon")

    def _command(self, *arguments: str) -> AbstractContextManager[None]:
        return child(["-m", "streamq", *arguments, "--log-level", "error"], self._environment)

    def bytes_used(self) -> int:
        with bare.connection(self._url) as client:
            return bare.used(client, self._keys(client))

    def _keys(self, client: object) -> list[object]:
        return bare.keys_of(client, app_pattern(self.app.name))

    def clean(self) -> None:
        self.app.close()
        self.app = StreamQ(self._name, self._url)
        self._types = _registered(self.app)
        with bare.connection(self._url) as client:
            for key in self._keys(client):
                client.unlink(key)
            client.hdel(self.app.address.namespace.apps, self._name)

    def close(self) -> None:
        self.app.close()


def _registered(app: StreamQ) -> dict[str, TaskType[..., object, object]]:
    """Register the measured handlers with an app of this run."""
    return {
        name: cast(
            "TaskType[..., object, object]",
            app.task(name=name, retention=one.options.retention, executor=one.options.executor)(one.function),
        )
        for name, one in tasks.app.registry.handlers.items()
    }

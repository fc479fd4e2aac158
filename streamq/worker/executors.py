"""Where handlers run: on the event loop, in a thread, or in a process that can be killed.

Owns threads and child processes. Takes a handler and a delivery, answers the encoded result or raises;
knows no timeouts (the runner cancels) and no Redis.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final

from streamq.app import Handler
from streamq.context import CURRENT, Context
from streamq.errors import ProcessDied
from streamq.model import Delivery
from streamq.telemetry import logs, traces
from streamq.worker import child, forks
from streamq.worker.verdict import Failure

_SPAWN = get_context("spawn")  # a forked child would share the worker's threads, sockets and loop

LONGEST_IMPORT: Final = 60.0
"""Seconds for a child process to start and to import the app."""


class FailedInChild(Exception):
    """The handler failed in its process, where it was judged too."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Threads:
    """Runs `def` handlers in threads. A thread cannot be stopped: one whose task was given up goes on,
    is counted in `stuck`, and keeps its place until it ends."""

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="streamq-task")
        self._lock = threading.Lock()
        self.stuck = 0

    async def run(self, handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        context = contextvars.copy_context()
        future = self._pool.submit(context.run, _call, handler, args, kwargs)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._given_up(future)
            raise

    def _given_up(self, future: Future[bytes]) -> None:
        if future.cancel():
            return
        with self._lock:
            self.stuck += 1
        future.add_done_callback(self._freed)

    def _freed(self, _future: Future[bytes]) -> None:
        with self._lock:
            self.stuck -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _call(handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    process = os.getpid()
    CURRENT.get()._thread = threading.get_ident()  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
    try:
        return handler.encode_result(handler.function(*args, **kwargs))
    except (StopIteration, GeneratorExit) as error:  # cannot travel through a future
        raise RuntimeError(f"the handler raised {type(error).__name__}") from error
    finally:
        if os.getpid() != process:
            forks.end_child()


class Processes:
    """Runs handlers with executor="process": a few long-lived children, killed when given up."""

    def __init__(self, size: int | None, tracer: traces.Tracer | None = None) -> None:
        self._tracer = tracer
        self.size = size or os.cpu_count() or 1
        self._free = asyncio.Semaphore(self.size)
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self.busy = 0

    async def acquire(self, handler: Handler) -> _Child:
        """A child of one's own that has imported the handler, to be given back by `run`.

        Neither waiting for it nor its start and import is part of an attempt: an app that takes longer to
        import than a handler may run would fail in every attempt. Raises ProcessDied.
        """
        await self._free.acquire()
        self.busy += 1
        one = self._idle.pop() if self._idle else self._fresh()
        try:
            await one.prepare(handler.reference)
        except BaseException:
            self._drop(one)
            raise
        return one

    def _fresh(self) -> _Child:
        fresh = _Child()
        self._all.add(fresh)
        return fresh

    async def run(self, one: _Child, handler: Handler, delivery: Delivery, context: Context) -> bytes:
        """Run an attempt; the child is killed where this is cancelled."""
        try:
            answer = await one.ask(
                {
                    "reference": handler.reference,
                    "delivery": delivery,
                    "context": context,
                    "trace": b"" if self._tracer is None else traces.carried(),
                }
            )
        except BaseException:
            self._drop(one)
            raise
        self.release(one)
        if isinstance(answer, bytes):
            return answer
        raise FailedInChild(Failure(**answer))

    def release(self, one: _Child) -> None:
        self._idle.append(one)
        self.busy -= 1
        self._free.release()

    def _drop(self, one: _Child) -> None:
        one.kill()
        self._all.discard(one)
        self.busy -= 1
        self._free.release()

    def close(self) -> None:
        for one in self._all:
            one.kill()
        self._all.clear()
        self._idle.clear()


class _Child:
    """One child process and the pipe to it."""

    def __init__(self) -> None:
        ours, theirs = _SPAWN.Pipe()
        self._pipe: Connection = ours
        self._process = _SPAWN.Process(
            target=child.serve, args=(theirs, logs.settings()), daemon=True, name="streamq-child"
        )
        self._process.start()
        self._prepared: set[str] = set()
        theirs.close()

    async def prepare(self, reference: str) -> None:
        """Let the child import a handler, once. Raises ProcessDied where it cannot, or takes too long."""
        if reference in self._prepared:
            return
        try:
            async with asyncio.timeout(LONGEST_IMPORT):
                await self.ask({"reference": reference})
        except TimeoutError:
            raise ProcessDied(f"the process did not import {reference} within {LONGEST_IMPORT:g} s") from None
        self._prepared.add(reference)

    async def ask(self, request: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()
        descriptor = self._pipe.fileno()
        try:
            self._pipe.send(request)
            loop.add_reader(descriptor, _set, answered)
            await answered
            return self._pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        finally:
            loop.remove_reader(descriptor)

    def _died(self) -> ProcessDied:
        self._process.join(1)
        code = self._process.exitcode
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return ProcessDied(f"the process that ran the handler ended before it did ({how})")

    def kill(self) -> None:
        self._process.kill()
        self._process.join(5)
        self._pipe.close()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

"""Where handlers run: on the event loop, in a thread, or in a process that can be killed.

Owns threads and child processes. Takes a handler and a delivery, answers the encoded result or raises;
knows no timeouts (the runner cancels) and no Redis.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from streamq.context import CURRENT, Context
from streamq.hooks import call_within
from streamq.model.delivery import Delivery
from streamq.options.service import WorkerOptions
from streamq.registry.handler import Handler
from streamq.telemetry import traces
from streamq.worker import fork_guard
from streamq.worker.child_pool import Child, see_off
from streamq.worker.failures import Failure


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
        self.stuck: int = 0

    async def run(
        self,
        handler: Handler,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        within: Iterable[AbstractContextManager[Any]] = (),
    ) -> bytes:
        """Run a handler in a thread, there within context managers."""
        context = contextvars.copy_context()
        future = self._pool.submit(context.run, _call, handler, args, kwargs, within)
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


def _call(
    handler: Handler,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    within: Iterable[AbstractContextManager[Any]],
) -> bytes:
    process = os.getpid()
    CURRENT.get()._thread = threading.get_ident()  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
    try:
        if within:
            return call_within(within, lambda: handler.encode_result(handler.function(*args, **kwargs)))
        return handler.encode_result(handler.function(*args, **kwargs))
    except (StopIteration, GeneratorExit) as error:  # cannot travel through a future
        raise RuntimeError(f"the handler raised {type(error).__name__}") from error
    finally:
        if os.getpid() != process:
            fork_guard.end_child()


class Processes:
    """Runs handlers with executor="process": a few long-lived children, killed when given up."""

    def __init__(self, size: int | None, tracer: traces.Tracer | None = None) -> None:
        self._tracer = tracer
        self.size: int = size or os.cpu_count() or 1
        self._free = asyncio.Semaphore(self.size)
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self.busy: int = 0
        self._kept = False

    async def acquire(self, handler: Handler) -> Child:
        """A child of one's own that has imported the handler, to be given back by `run`.

        Neither waiting for it nor its start and import is part of an attempt: an app that takes longer to
        import than a handler may run would fail in every attempt. Raises what `Child.prepare` does.
        """
        await self._free.acquire()
        self.busy += 1
        try:
            one = self._waiting() or self._fresh()
        except BaseException:
            self._gone()
            raise
        try:
            await one.open()
            await one.prepare(handler.reference)
        except BaseException:
            self._drop(one)
            raise
        return one

    def _waiting(self) -> Child | None:
        """A child that runs nothing. One that was killed meanwhile is no fault of the next task."""
        while self._idle:
            one = self._idle.pop()
            if not one.ended:
                return one
            one.kill()
        return None

    def _fresh(self) -> Child:
        if not self._kept:
            self._kept = True
            atexit.register(self.kill)  # else Python would wait for them at its end, for ever
        self._all = {one for one in self._all if not one.ended}
        fresh = Child()
        self._all.add(fresh)
        return fresh

    async def run(self, one: Child, handler: Handler, delivery: Delivery, context: Context) -> bytes:
        """Run an attempt; the child is killed where this is cancelled."""
        try:
            answer = await one.ask(
                {
                    "reference": handler.reference,
                    "delivery": delivery,
                    "context": context,
                    "trace": b"" if self._tracer is None else traces.current_header(),
                }
            )
        except BaseException:
            self._drop(one)
            raise
        self.release(one)
        if isinstance(answer, bytes):
            return answer
        raise FailedInChild(Failure(**answer))

    def release(self, one: Child) -> None:
        self._idle.append(one)
        self.busy -= 1
        self._free.release()

    def _drop(self, one: Child) -> None:
        one.kill()
        self._gone()

    def _gone(self) -> None:
        self.busy -= 1
        self._free.release()

    def close(self) -> None:
        """Let those that run nothing end by themselves, and kill the others. Call it in the event loop."""
        for one in self._all:
            if one not in self._idle:
                one.kill()
            one.dismiss()
        see_off([one.process for one in self._all])
        self._forget()

    def kill(self) -> None:
        """Kill all."""
        for one in self._all:
            one.kill()
        self._forget()

    def _forget(self) -> None:
        self._all.clear()
        self._idle.clear()
        self._kept = False
        atexit.unregister(self.kill)


@dataclass(frozen=True)
class Executors:
    """Where the handlers of one worker run. apart: the process of suspects; None where a child process would
    not be what the worker is, since the program around it has made things ready."""

    threads: Threads
    processes: Processes
    apart: Processes | None

    @classmethod
    def of(cls, options: WorkerOptions, tracer: traces.Tracer | None, *, apart: bool) -> Executors:
        """As many threads as slots, and as many processes as the options say."""
        processes = Processes(options.process_slots, tracer)
        return cls(Threads(options.concurrency), processes, Processes(1, tracer) if apart else None)

    def close(self) -> None:
        """End them. Threads that run handlers cannot be ended."""
        self.threads.close()
        self.processes.close()
        if self.apart is not None:
            self.apart.close()

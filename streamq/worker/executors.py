"""Run handlers in threads, or in child processes that can be killed.

Owns the threads and child processes. They take a handler and return its encoded result, or raise. Must not
know timeouts (the runner cancels) or Redis.
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

from streamq.context import CURRENT, Context
from streamq.hooks import call_within
from streamq.model.delivery import Delivery
from streamq.options.service import WorkerOptions
from streamq.registry.handler import Handler
from streamq.running_context import carry
from streamq.telemetry import traces
from streamq.worker import fork_guard
from streamq.worker.child_pool import Child, join_in_background
from streamq.worker.failures import Failure
from streamq.worker.own_threads import in_own_thread


class FailedInChild(Exception):
    """Raised when a handler failed in a child process, which has classified the failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Threads:
    """Runs `def` handlers in threads. A thread cannot be stopped: if its attempt is abandoned, it continues,
    counts as `stuck`, and occupies its place until it ends."""

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="streamq-task")
        self._lock = threading.Lock()
        self.stuck: int = 0

    async def run(
        self,
        handler: Handler,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        within: Iterable[AbstractContextManager[object]] = (),
    ) -> bytes:
        """Run a handler in a thread, within context managers that are entered there."""
        context = contextvars.copy_context()
        future = self._pool.submit(context.run, call_handler, handler, args, kwargs, within)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._abandon(future)
            raise

    def _abandon(self, future: Future[bytes]) -> None:
        if future.cancel():
            return
        with self._lock:
            self.stuck += 1
        future.add_done_callback(self._freed)

    def _freed(self, _future: Future[bytes]) -> None:
        with self._lock:
            self.stuck -= 1

    def close(self) -> None:
        """Start no more handlers. Running threads cannot be stopped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def call_handler(
    handler: Handler,
    args: tuple[object, ...],
    kwargs: dict[str, object],
    within: Iterable[AbstractContextManager[object]],
) -> bytes:
    """Call a plain handler in this thread, within context managers; return the encoded result."""
    process = os.getpid()
    CURRENT.get()._thread = threading.get_ident()  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
    try:
        if within:
            return call_within(within, lambda: handler.encode_result(handler.function(*args, **kwargs)))
        return handler.encode_result(handler.function(*args, **kwargs))
    except (StopIteration, GeneratorExit) as error:  # a future cannot hold them
        raise RuntimeError(f"the handler raised {type(error).__name__}") from error
    finally:
        if os.getpid() != process:
            fork_guard.end_child()


class Processes:
    """Runs handlers with executor="process" in long-lived children. Cancelling an attempt kills its child."""

    def __init__(
        self, size: int | None, tracer: traces.Tracer | None = None, lifespan_timeout: float = 0.0
    ) -> None:
        self._tracer, self._lifespan_timeout = tracer, lifespan_timeout
        self._ending: threading.Thread | None = None
        self.size: int = size or os.cpu_count() or 1
        self._free = asyncio.Semaphore(self.size)
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self.busy: int = 0
        self._registered = False

    async def acquire(self, handler: Handler) -> Child:
        """Return an exclusive child that has imported the handler. `run` or `release` gives it back.

        The wait for a child, its start and its import are not part of the attempt: otherwise an app whose
        import takes longer than a handler's timeout would fail every attempt. Raise as `Child.prepare` does.
        """
        await self._free.acquire()
        self.busy += 1
        try:
            child = self._take_idle() or self._start()
        except BaseException:
            self._release_place()
            raise
        try:
            await child.open()
            await child.prepare(handler.reference, handler.resources.modules)
        except BaseException:
            self._drop(child)
            raise
        return child

    def _take_idle(self) -> Child | None:
        """Return an idle child, skipping those that have died: the next task must not fail for that."""
        while self._idle:
            child = self._idle.pop()
            if not child.ended:
                return child
            child.kill()
        return None

    def _start(self) -> Child:
        if not self._registered:
            self._registered = True
            atexit.register(self.kill)  # otherwise Python waits for the children forever when it exits
        self._all = {child for child in self._all if not child.ended}
        child = Child(self._lifespan_timeout)
        self._all.add(child)
        return child

    async def run(self, child: Child, handler: Handler, delivery: Delivery, context: Context) -> bytes:
        """Run an attempt in the child and return the encoded result. Kill the child if this is cancelled."""
        try:
            response = await child.request(
                {
                    "reference": handler.reference,
                    "delivery": delivery,
                    "context": context,
                    "server": None if handler.home is None else handler.home.server,
                    "trace": b"" if self._tracer is None else traces.current_header(),
                }
            )
        except BaseException:
            self._drop(child)
            raise
        self.release(child)
        if isinstance(response, bytes):
            return response
        if isinstance(response, tuple):
            result, follow_ups, steps = response
            carry(context, follow_ups, steps)
            return bytes(result)
        raise FailedInChild(Failure(**response))

    def release(self, child: Child) -> None:
        """Give back a child that runs nothing."""
        self._idle.append(child)
        self._release_place()

    def _drop(self, child: Child) -> None:
        child.kill()
        self._release_place()

    def _release_place(self) -> None:
        self.busy -= 1
        self._free.release()

    def close(self) -> None:
        """Let idle children end by themselves, and kill the others. Call it in the event loop."""
        for child in self._all:
            if child not in self._idle:
                child.kill()
            child.close()
        linger = self._lifespan_timeout
        self._ending = join_in_background([child.process for child in self._all], linger)
        self._clear()

    async def ended(self) -> None:
        """Wait until the children that were closed have ended: the end of a lifespan takes its time."""
        if self._ending is not None and self._lifespan_timeout:
            await in_own_thread(self._ending.join)

    def kill(self) -> None:
        """Kill all children."""
        for child in self._all:
            child.kill()
        self._clear()

    def _clear(self) -> None:
        self._all.clear()
        self._idle.clear()
        self._registered = False
        atexit.unregister(self.kill)


@dataclass(frozen=True)
class Executors:
    """The executors of one worker. suspects: runs suspects; None if a child process would differ from the
    worker, because the program around the worker has set up state."""

    threads: Threads
    processes: Processes
    suspects: Processes | None

    @classmethod
    def of(
        cls, options: WorkerOptions, tracer: traces.Tracer | None, *, isolate_suspects: bool, lasting: bool
    ) -> Executors:
        """Return executors with a thread per slot, and as many processes as the options say. lasting:
        children keep something open that takes time to end."""
        limit = options.lifespan_timeout if lasting else 0.0
        processes = Processes(options.process_slots, tracer, limit)
        suspects = Processes(1, tracer, limit) if isolate_suspects else None
        return cls(Threads(options.concurrency), processes, suspects)

    def close(self) -> None:
        """Close all executors. Threads that run handlers cannot be stopped."""
        self.threads.close()
        self.processes.close()
        if self.suspects is not None:
            self.suspects.close()

    async def ended(self) -> None:
        """Wait for the children that keep something open: see `Processes.ended`."""
        for processes in (self.processes, self.suspects):
            if processes is not None:
                await processes.ended()

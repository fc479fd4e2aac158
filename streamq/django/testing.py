"""The test kit for Django's test cases: tasks run in the transaction of the test.

Owns what a Django test needs beyond `streamq.testing`: the app of a backend, and ORM calls of `async def`
handlers in the thread of the test, where its transaction is. Must not be imported by a program that does not
test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from asgiref.sync import AsyncToSync

from streamq.app.app import StreamQ
from streamq.django import worker
from streamq.django.connections import DjangoConnections, Inline
from streamq.django.home import Home
from streamq.django.names import task_backends
from streamq.errors import UsageError
from streamq.testing.cases import QueueTestCase


class TaskQueueMixin(QueueTestCase):
    """Gives each test a `queue` for the tasks of a backend: `class TestOrders(TaskQueueMixin, TestCase)`.

    `self.queue.run()` runs what is ready in this thread, so in the test's transaction; `advance("1h")` lets
    time pass. What waits for a commit is sent within `self.captureOnCommitCallbacks(execute=True)`.
    task_backend: the alias in TASKS.
    """

    task_backend: str = "default"
    streamq_app: StreamQ

    def setUp(self) -> None:
        """Open the queue. Raises UsageError if TASKS has another backend under the alias."""
        worker.load()
        backend: Any = task_backends[self.task_backend]
        home = getattr(backend, "home", None)
        if not isinstance(home, Home):
            raise UsageError(
                f"TASKS[{self.task_backend!r}] is {type(backend).__name__}: the queue of a test is that of "
                "streamq.django.StreamQBackend"
            )
        self.streamq_app = home.app
        run_inline(home.connections)
        self.addCleanup(run_apart, home.connections)
        super().setUp()


def run_inline(connections: DjangoConnections) -> None:
    """Let attempts make their ORM calls in the thread that runs them, on its connections as they are."""
    connections.inline = Inline(without_loop, in_this_thread)


def run_apart(connections: DjangoConnections) -> None:
    """Let attempts tidy up their connections, and async ones have a thread of their own, again."""
    connections.inline = None


@contextmanager
def without_loop() -> Generator[None]:
    """Run a block as if no event loop ran in this thread: Django refuses queries where one does."""
    loop = asyncio._get_running_loop()  # noqa: SLF001 - there is no public way that does not raise
    asyncio._set_running_loop(None)  # noqa: SLF001
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)  # noqa: SLF001


@asynccontextmanager
async def in_this_thread() -> AsyncGenerator[None]:
    """Run the `sync_to_async` calls of a block in the thread of its event loop, one after the other."""
    loop: Any = asyncio.get_running_loop()
    executors: Any = AsyncToSync.loop_thread_executors
    before = executors.get(loop)
    if before is None:
        executors[loop] = _InThisThread()
    try:
        yield
    finally:
        if before is None:
            executors.pop(loop, None)


class _InThisThread(Executor):
    """Runs what it is given at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the function; return a future that is done."""
        found: Future[Any] = Future()
        try:
            with without_loop():
                found.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - the future has it
            found.set_exception(error)
        return found

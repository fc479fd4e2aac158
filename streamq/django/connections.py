"""The database connections of attempts: each finds usable ones, and leaves none behind.

Owns their cleaning, in the thread that runs the attempt. Must not know a task: it also serves the handlers of
an app that is no backend, with `StreamQ(hooks=[DjangoConnections()])`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, NamedTuple

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import close_old_connections, connections

from streamq.context import Context
from streamq.hooks import Hook
from streamq.registry.registry import Registry


class Inline(NamedTuple):
    """What attempts run within that share the thread of a test: those of a `def`, those of an `async def`."""

    sync: Callable[[], AbstractContextManager[object]]
    asynchronous: Callable[[], AbstractAsyncContextManager[object]]


class DjangoConnections(Hook):
    """Around each attempt, closes connections that are broken or older than CONN_MAX_AGE, and forgets logged
    queries. An open transaction, such as a TestCase's, is left alone.

    An `async def` handler gets a thread of its own for its ORM calls, so that attempts do not wait for each
    other's queries; its connections are closed with that thread. registry: of the app, set by the app's
    creator; without it every handler is taken for a `def`.
    """

    registry: Registry | None = None
    inline: Inline | None = None
    """What attempts run within in a test, whose transaction they must share."""

    def around_attempt(
        self, context: Context
    ) -> AbstractContextManager[object] | AbstractAsyncContextManager[object]:
        """Wrap an attempt."""
        handler = self.registry.handlers.get(context.type) if self.registry is not None else None
        if handler is None or not handler.is_async:
            return _in_thread() if self.inline is None else self.inline.sync()
        return _own_thread() if self.inline is None else self.inline.asynchronous()


@contextmanager
def _in_thread() -> Generator[None]:
    tidy()
    try:
        yield
    finally:
        tidy()


@asynccontextmanager
async def _own_thread() -> AsyncGenerator[None]:
    async with ThreadSensitiveContext() as context:
        try:
            yield
        finally:
            # No thread was started for a handler that made no sync call.
            if context in SyncToAsync.context_to_thread_executor:
                await sync_to_async(connections.close_all)()


def tidy() -> None:
    """Close what is old or broken of this thread's connections, and forget its logged queries."""
    close_old_connections()
    found: Any
    for found in connections.all(initialized_only=True):
        if not found.in_atomic_block and not found.force_debug_cursor:  # a test counts queries
            found.queries_log.clear()

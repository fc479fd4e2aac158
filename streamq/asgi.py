"""streamq in an ASGI application: FastAPI, Starlette, Litestar.

Owns what happens when the web process starts and ends. Must not import a web framework: a lifespan is a
function that takes the application and returns an async context manager.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from streamq.app.app import StreamQ
from streamq.errors import UsageError
from streamq.sse import aevent_stream as event_stream

__all__ = ["Lifespan", "event_stream", "lifespan"]

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan(
    app: StreamQ,
    inner: Lifespan | None = None,
    *,
    worker: bool | Mapping[str, Any] = False,
    connect: bool = True,
) -> Lifespan:
    """Return the lifespan of a web application: `FastAPI(lifespan=lifespan(app))`.

    It connects to the server at the start, and closes the connections at the end. inner: your own lifespan,
    which is opened first and closed last; its state is passed on. worker: also run a worker in each web
    process, True or the options of `app.run_worker`. connect: False to start although the server cannot be
    reached. Raises UsageError, and when it starts RedisErrors.
    """
    if isinstance(inner, StreamQ):
        raise UsageError(
            "lifespan(app, inner): inner is a lifespan of yours; a web application has one queue here"
        )
    options = {} if isinstance(worker, bool) else dict(worker)

    @asynccontextmanager
    async def opened(web: Any) -> AsyncGenerator[Any]:
        async with AsyncExitStack() as stack:
            state = None if inner is None else await stack.enter_async_context(inner(web))
            stack.push_async_callback(app.aclose)
            if connect:
                await app.aconnect()
            if worker is not False:
                await stack.enter_async_context(app.run_worker(**options))
            yield state

    return opened

"""The code of a child process that runs handlers with executor="process".

Owns the child's loop: one request, one response. Imports the handler by its reference, runs it, and
classifies its failure, so that exceptions need not be pickled. Must end when its worker does.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, suppress
from multiprocessing.connection import Connection
from typing import Final

from streamq import envelope
from streamq.context import CURRENT, Context
from streamq.errors import UnknownTaskType
from streamq.hooks import await_within, call_within
from streamq.registry.handler import Handler
from streamq.running_context import at_home, end, stepped, store_cursors_sync, told
from streamq.telemetry import traces
from streamq.telemetry.logs import configure
from streamq.worker import child_stacks, failures, fork_guard, live_logs, signals, stdio
from streamq.worker.child_loop import ChildLoop
from streamq.worker.child_requests import PrepareRequest, RunRequest
from streamq.worker.parent_death import ParentDeath
from streamq.worker.wrapping import managers_of

LONGEST_TRACEBACK: Final = 64 * 1024
"""Characters of a traceback that are sent: the last ones, which are the most useful. Far fewer are stored."""


def serve(
    pipe: Connection, stack: Connection, logging: tuple[str, str] | None, lifespan_timeout: float
) -> None:
    """Handle requests until the pipe is closed. Then the process ends normally, with its exit handlers.

    stack: the pipe for the stack that a signal asks for. logging: level and format; None if the worker has
    not configured logging. lifespan_timeout: seconds for what is open to end.
    """
    stdio.line_buffered()
    signals.ignore_interrupts()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent_death = ParentDeath()
    child_stacks.dump_on_signal(stack)
    if logging is not None:
        configure(*logging)
    loop = ChildLoop(lifespan_timeout)
    _answer_all(pipe, parent_death, loop)
    loop.close()


def _answer_all(pipe: Connection, parent_death: ParentDeath, loop: ChildLoop) -> None:
    process = os.getpid()
    while True:
        try:
            request = pipe.recv()
        except (EOFError, OSError):
            return
        with parent_death.busy():
            response = _run(request, loop) if "delivery" in request else _prepare(request, loop)
        if os.getpid() != process:
            fork_guard.end_child()
        try:
            pipe.send(response)
        except OSError:
            return


def _prepare(request: PrepareRequest, loop: ChildLoop) -> tuple[str, str]:
    """Import the handler, and open what it needs of the process. Return the type and message of the error;
    both are empty if there is none."""
    try:
        for module in request["modules"]:
            importlib.import_module(module)
        handler = find(request["reference"])
        if handler.options.logs:
            live_logs.install()
        if handler.is_wrapped:
            loop.opened(handler)
    except BaseException as error:  # noqa: BLE001 - sys.exit() at import must not end the child
        return type(error).__name__, " ".join(str(error).split())[: envelope.MESSAGE_LIMIT]
    finally:
        stdio.flush()
    return "", ""


def _run(
    request: RunRequest, loop: ChildLoop
) -> bytes | tuple[bytes, list[object], bool] | dict[str, object]:
    """Run the handler. Return its encoded result, with its follow-ups and whether it made steps if it did
    either, or the fields of its Failure."""
    handler = find(request["reference"])
    delivery, context = request["delivery"], at_home(request["context"], handler.home, request["server"])
    CURRENT.set(context)
    try:
        read = handler.read
        args, kwargs = handler.arguments(delivery.payload) if read is None else read(delivery)
        with traces.continue_trace(request["trace"]):
            result = _call(handler, context, args, kwargs, loop)
            follow_ups = end(context)
            did_more = follow_ups or stepped(context)
            return (result, follow_ups, stepped(context)) if did_more else result
    except BaseException as error:  # noqa: BLE001 - sys.exit() in a handler must not end the child
        with suppress(Exception):
            store_cursors_sync(context)
        failure = failures.failure(handler, delivery, error)
        return {
            "error": failure.error,
            "message": failure.message,
            "traceback": failure.traceback[-LONGEST_TRACEBACK:],
            "decision": failure.decision,
            "frame": failure.frame,
            "path": failure.path,
            "unread": failure.unread,
        }
    finally:
        if told(context) and handler.home is not None:
            handler.home.flush(delivery)
        stdio.flush()


def _call(
    handler: Handler, context: Context, args: tuple[object, ...], kwargs: dict[str, object], loop: ChildLoop
) -> bytes:
    """Call the handler within the hooks and dependencies of its app and return its encoded result. An
    `async def` handler, which runs here only as a suspect, runs on the event loop."""

    def call() -> bytes:
        return handler.encode_result(handler.function(*args, **kwargs))

    async def acall() -> bytes:
        return handler.encode_result(await handler.function(*args, **kwargs))

    if not handler.is_wrapped:
        return asyncio.run(acall()) if handler.is_async else call()
    managers = managers_of(handler, loop.opened(handler), context, kwargs)
    if handler.is_async:
        return loop.submit(await_within(managers, acall)).result()
    outer = [one for one in managers if isinstance(one, AbstractAsyncContextManager)]
    inner = [one for one in managers if not isinstance(one, AbstractAsyncContextManager)]
    if outer:
        return _call_within_async(outer, lambda: call_within(inner, call), loop)
    return call_within(inner, call)


def _call_within_async(
    managers: Sequence[AbstractAsyncContextManager[object]], call: Callable[[], bytes], loop: ChildLoop
) -> bytes:
    """Call a function in this thread, within async context managers on the event loop of another: the
    function may run an event loop itself."""
    entered: Future[contextvars.Context] = Future()
    called: Future[bytes] = Future()

    async def inside() -> bytes:
        entered.set_result(contextvars.copy_context())
        return await asyncio.wrap_future(called)

    exited = loop.submit(await_within(managers, inside))
    exited.add_done_callback(lambda _: entered.cancel())
    try:
        context = entered.result()
    except CancelledError:  # a hook raised on entry, so the function was not called
        return exited.result()
    try:
        called.set_result(context.run(call))
    except BaseException as error:  # noqa: BLE001 - raised again within the hooks
        called.set_exception(_for_future(error))
    return exited.result()


def _for_future(error: BaseException) -> BaseException:
    """Return the error, or a substitute if a future cannot hold it."""
    if not isinstance(error, StopIteration | GeneratorExit):
        return error
    found = RuntimeError(f"the handler raised {type(error).__name__}")
    found.__cause__ = error
    return found


def find(reference: str) -> Handler:
    """Return the handler at `module:qualname`. Raise UnknownTaskType if it is not a task type."""
    module, _, qualname = reference.partition(":")
    found: object = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    handler = getattr(found, "handler", None)
    if not isinstance(handler, Handler):
        raise UnknownTaskType(
            f"{reference} is not a task type: executor='process' needs it at the top level of its module"
        )
    return handler

"""The inside of a child process that runs handlers with executor="process".

Owns the child's loop: one request, one answer. Finds the handler by its reference, runs it and judges
its failure, so that an exception need not travel. Ends when its worker does.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager
from multiprocessing.connection import Connection
from typing import Any, Final

from streamq import envelope
from streamq.context import CURRENT, Context
from streamq.errors import UnknownTaskType
from streamq.hooks import await_within, call_within
from streamq.registry.handler import Handler
from streamq.telemetry import traces
from streamq.telemetry.logs import configure
from streamq.worker import child_stacks, failures, fork_guard, signals, stdio
from streamq.worker.parent_death import ParentDeath

LONGEST_TRACEBACK: Final = 64 * 1024
"""Characters of a traceback that travel: the last ones, which tell most. Far less is kept."""


def serve(pipe: Connection, stack: Connection, logging: tuple[str, str] | None) -> None:
    """Answer requests until the pipe is closed; then the process ends as any other, with its exit handlers.

    stack: where its stack is written on a signal. logging: level and format, where the worker has set them
    up.
    """
    stdio.by_lines()
    signals.pass_interrupts_by()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent_death = ParentDeath()
    child_stacks.answer(stack)
    if logging is not None:
        configure(*logging)
    process = os.getpid()
    while True:
        try:
            request = pipe.recv()
        except (EOFError, OSError):
            return
        with parent_death.busy():
            answer = _answer(request) if "delivery" in request else _prepared(request["reference"])
        if os.getpid() != process:
            fork_guard.end_child()
        try:
            pipe.send(answer)
        except OSError:
            return


def _prepared(reference: str) -> tuple[str, str]:
    """What keeps the handler from being imported: type and message; both are empty where nothing does."""
    try:
        find(reference)
    except BaseException as error:  # noqa: BLE001 - as below
        return type(error).__name__, " ".join(str(error).split())[: envelope.MESSAGE_LIMIT]
    finally:
        stdio.flush()
    return "", ""


def _answer(request: dict[str, Any]) -> bytes | dict[str, Any]:
    handler = find(request["reference"])
    delivery = request["delivery"]
    CURRENT.set(request["context"])
    try:
        args, kwargs = handler.arguments(delivery.payload)
        with traces.continue_trace(request["trace"]):
            return handler.encode_result(_called(handler, request["context"], args, kwargs))
    except BaseException as error:  # noqa: BLE001 - sys.exit() in a handler is its failure, not our end
        failed = failures.failure(handler, delivery, error)
        return {
            "error": failed.error,
            "message": failed.message,
            "traceback": failed.traceback[-LONGEST_TRACEBACK:],
            "decision": failed.decision,
            "frame": failed.frame,
        }
    finally:
        stdio.flush()


def _called(handler: Handler, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The handler's value, within the hooks of its app. An `async def` handler comes here as a suspect, and
    has a loop of its own."""

    def call() -> Any:
        return handler.function(*args, **kwargs)

    if not handler.around:
        return asyncio.run(call()) if handler.is_async else call()
    managers = [around(context) for around in handler.around]
    if handler.is_async:
        return asyncio.run(await_within(managers, call))
    outer = [one for one in managers if isinstance(one, AbstractAsyncContextManager)]
    inner = [one for one in managers if not isinstance(one, AbstractAsyncContextManager)]
    if outer:
        return _beside_a_loop(outer, lambda: call_within(inner, call))
    return call_within(inner, call)


def _beside_a_loop(managers: Sequence[AbstractAsyncContextManager[Any]], call: Callable[[], Any]) -> Any:
    """Call a function in this thread, within async context managers that run in another one: the function
    may run an event loop itself."""
    entered: Future[contextvars.Context] = Future()
    called: Future[Any] = Future()
    left: Future[Any] = Future()

    async def inside() -> Any:
        entered.set_result(contextvars.copy_context())
        return await asyncio.wrap_future(called)

    def run() -> None:
        try:
            left.set_result(asyncio.run(await_within(managers, inside)))
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread of the handler
            left.set_exception(error)
        finally:
            entered.cancel()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="streamq-hooks")
    thread.start()
    try:
        context = entered.result()
    except CancelledError:  # none of it was called: a hook has raised
        return left.result()
    try:
        called.set_result(context.run(call))
    except BaseException as error:  # noqa: BLE001 - raised in the hooks, which may do the same
        called.set_exception(_travelling(error))
    thread.join()
    return left.result()


def _travelling(error: BaseException) -> BaseException:
    """The error, or one that can go through a future."""
    if not isinstance(error, StopIteration | GeneratorExit):
        return error
    found = RuntimeError(f"the handler raised {type(error).__name__}")
    found.__cause__ = error
    return found


def find(reference: str) -> Handler:
    """The handler behind `module:qualname`. Raises UnknownTaskType where the name is not a task type."""
    module, _, qualname = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    handler = getattr(found, "handler", None)
    if not isinstance(handler, Handler):
        raise UnknownTaskType(
            f"{reference} is no task type: executor='process' needs it at the top of its module"
        )
    return handler

"""The inside of a child process that runs handlers with executor="process".

Owns the child's loop: one request, one answer. Finds the handler by its reference, runs it and judges
its failure, so that an exception need not travel. Ends when its worker does.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
from multiprocessing.connection import Connection
from typing import Any, Final

from streamq import codec
from streamq.app import Handler
from streamq.context import CURRENT
from streamq.errors import UnknownTaskType
from streamq.telemetry import configure, traces
from streamq.worker import childstacks, forks, signals, stdio, verdict
from streamq.worker.leash import Leash

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
    leash = Leash()
    childstacks.answer(stack)
    if logging is not None:
        configure(*logging)
    process = os.getpid()
    while True:
        try:
            request = pipe.recv()
        except (EOFError, OSError):
            return
        with leash.busy():
            answer = _answer(request) if "delivery" in request else _prepared(request["reference"])
        if os.getpid() != process:
            forks.end_child()
        try:
            pipe.send(answer)
        except OSError:
            return


def _prepared(reference: str) -> tuple[str, str]:
    """What keeps the handler from being imported: type and message; both are empty where nothing does."""
    try:
        find(reference)
    except BaseException as error:  # noqa: BLE001 - as below
        return type(error).__name__, " ".join(str(error).split())[: codec.MESSAGE_LIMIT]
    finally:
        stdio.flush()
    return "", ""


def _answer(request: dict[str, Any]) -> bytes | dict[str, Any]:
    handler = find(request["reference"])
    delivery = request["delivery"]
    CURRENT.set(request["context"])
    try:
        args, kwargs = handler.arguments(delivery.payload)
        with traces.continued(request["trace"]):
            return handler.encode_result(_called(handler, args, kwargs))
    except BaseException as error:  # noqa: BLE001 - sys.exit() in a handler is its failure, not our end
        failed = verdict.failure(handler, delivery, error)
        return {
            "error": failed.error,
            "message": failed.message,
            "traceback": failed.traceback[-LONGEST_TRACEBACK:],
            "decision": failed.decision,
            "frame": failed.frame,
        }
    finally:
        stdio.flush()


def _called(handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The handler's value. An `async def` handler comes here as a suspect, and has a loop of its own."""
    if handler.is_async:
        return asyncio.run(handler.function(*args, **kwargs))
    return handler.function(*args, **kwargs)


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

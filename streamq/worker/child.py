"""The inside of a child process that runs handlers with executor="process".

Owns the child's loop: one request, one answer. Finds the handler by its reference, runs it and judges
its failure, so that an exception need not travel. Ends when its worker does.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from streamq.app import Handler
from streamq.context import CURRENT
from streamq.errors import UnknownTaskType
from streamq.telemetry import configure, traces
from streamq.worker import forks, verdict


def serve(pipe: Connection, logging: tuple[str, str] | None) -> None:
    """Answer requests until the pipe is closed. Signals are the worker's business, which kills us.

    logging: level and format, where the worker has set them up.
    """
    if logging is not None:
        configure(*logging)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    process = os.getpid()
    while True:
        try:
            request = pipe.recv()
        except (EOFError, OSError):
            return
        answer = _answer(request)
        if os.getpid() != process:
            forks.end_child()
        pipe.send(answer)


def _answer(request: dict[str, Any]) -> bytes | dict[str, Any]:
    handler = find(request["reference"])
    if "delivery" not in request:  # it was only to be imported
        return b""
    delivery = request["delivery"]
    CURRENT.set(request["context"])
    try:
        args, kwargs = handler.arguments(delivery.payload)
        with traces.continued(request["trace"]):
            return handler.encode_result(_called(handler, args, kwargs))
    except BaseException as error:  # noqa: BLE001 - sys.exit() in a handler is its failure, not our end
        failed = verdict.failure(handler, delivery, error)
        return {
            **{name: getattr(failed, name) for name in ("error", "message", "traceback")},
            "decision": failed.decision,
        }
    finally:
        sys.stdout.flush()


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

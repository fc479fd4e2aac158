"""Ends a process and its event loop as Python does, but within seconds.

Owns the end of the process. Exit handlers run and buffered output is written; but neither handlers that
ignore their cancellation, nor threads or exit handlers that never return, may keep the process alive.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Final, NoReturn, TypeVar

from streamq import standard_streams
from streamq.worker import stdio

R = TypeVar("R")

LINGER: Final = 1.0
"""Seconds for the remaining tasks of an event loop to end."""
LONGEST: Final = 5.0
"""Seconds for threads and exit handlers."""


def exit_process(code: int) -> NoReturn:
    """Exit with this code: normally, or after `LONGEST` seconds by force."""
    threading.Thread(target=_exit_by_force, args=(code,), name="streamq-exit", daemon=True).start()
    standard_streams.end()
    sys.exit(code)


def _exit_by_force(code: int) -> None:
    threading.Event().wait(LONGEST)
    stdio.flush()
    os._exit(code)


def run_loop(coroutine: Coroutine[object, object, R]) -> R:
    """Run a coroutine, on uvloop if it is installed. Tasks that ignore their cancellation are abandoned."""
    loop = _loop_factory()()
    try:
        asyncio.set_event_loop(loop)
        return _run_until_complete(loop, coroutine)
    finally:
        _close(loop)
        asyncio.set_event_loop(None)


def _run_until_complete(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[object, object, R]) -> R:
    """Run a coroutine to its end. An event loop stops if any task raises SystemExit or KeyboardInterrupt. If
    a handler started that task, only the task ends: its awaiter gets the exception, and the loop goes on."""
    main = loop.create_task(coroutine)
    while True:
        try:
            return loop.run_until_complete(main)
        except (SystemExit, KeyboardInterrupt) as error:
            if main.done() or _is_interrupt(error):
                raise


def _is_interrupt(error: BaseException) -> bool:
    """Return whether this may be Ctrl-C, in a program that has no handler for SIGINT yet."""
    unhandled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and unhandled


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the function that creates the loop. It must not run inside the `except`, whose exception would
    appear in the traceback of every handler."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _close(loop: asyncio.AbstractEventLoop) -> None:
    stuck: set[asyncio.Task[object]] = set()
    if remaining := asyncio.all_tasks(loop):
        for task in remaining:
            task.cancel()
        _, stuck = _run_until_complete(loop, asyncio.wait(remaining, timeout=LINGER))
    with suppress(TimeoutError):
        _run_until_complete(loop, asyncio.wait_for(loop.shutdown_asyncgens(), LINGER))
    if not stuck:
        loop.close()
    for task in stuck:
        # Already logged when its handler was written off.
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001

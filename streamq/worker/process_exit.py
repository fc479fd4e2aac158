"""How a process of ours and its event loop end: as Python ends, and not later than after some seconds.

Owns the last seconds. Exit handlers run and what is buffered is written; handlers that ignore their
cancellation, and threads and exit handlers that never return, do not keep the process for ever.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeVar

from streamq.worker import stdio

R = TypeVar("R")

LINGER: Final = 1.0
"""Seconds for what is left in an event loop to end."""
LONGEST: Final = 5.0
"""Seconds for threads and exit handlers."""


def end(code: int) -> NoReturn:
    """End this process with an exit code; at once where that takes too long."""
    threading.Thread(target=_end_late, args=(code,), name="streamq-end", daemon=True).start()
    stdio.flush()
    sys.exit(code)


def _end_late(code: int) -> None:
    threading.Event().wait(LONGEST)
    stdio.flush()
    os._exit(code)


def run_loop(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run on uvloop where it is installed. A task that ignores its cancellation is left behind."""
    loop = _factory()()
    try:
        asyncio.set_event_loop(loop)
        return _completed(loop, coroutine)
    finally:
        _wind_up(loop)
        asyncio.set_event_loop(None)


def _completed(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, R]) -> R:
    """Run until this has ended. An event loop stops where one of its tasks raises SystemExit or
    KeyboardInterrupt. Where a handler has started that task, it is the end of the task only: who awaits it
    gets the exception, and the loop goes on."""
    main = loop.create_task(coroutine)
    while True:
        try:
            return loop.run_until_complete(main)
        except (SystemExit, KeyboardInterrupt) as error:
            if main.done() or _ends_us(error):
                raise


def _ends_us(error: BaseException) -> bool:
    """Whether this may be Ctrl-C itself: where a program of ours has no handler for it yet."""
    unhandled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and unhandled


def _factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Nothing runs inside the `except`: its exception would begin the traceback of every handler."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return asyncio.new_event_loop
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    deaf: set[asyncio.Task[Any]] = set()
    if left := asyncio.all_tasks(loop):
        for task in left:
            task.cancel()
        _, deaf = _completed(loop, asyncio.wait(left, timeout=LINGER))
    with suppress(TimeoutError):
        _completed(loop, asyncio.wait_for(loop.shutdown_asyncgens(), LINGER))
    if not deaf:
        loop.close()
    for task in deaf:
        # What it leaves undone was told of when its handler was given up.
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001

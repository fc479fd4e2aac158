"""Make SIGTERM and SIGHUP end a command like Ctrl-C, so that it cleans up.

Owns the handlers of these signals, for commands with child processes, with temporary data on a server, that
change the terminal's modes, or that finish what they have begun.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, NoReturn

from streamq.exit_codes import INTERRUPTED, OK

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
_INTERRUPTS: Final = (signal.SIGINT, *_SIGNALS)


@contextmanager
def as_interrupted() -> Generator[None]:
    """Raise KeyboardInterrupt when a signal ends this process. In the main thread only."""
    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def as_success() -> Generator[None]:
    """End this process with 0 on SIGTERM, as services do. A web server that handles the signal itself ends as
    it should and then sends itself the signal again. In the main thread only."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def as_event() -> Generator[threading.Event]:
    """Yield an event that the first SIGTERM or Ctrl-C sets; the second ends this process at once. In the main
    thread only.

    A thread sets it: a handler runs in the main thread, which may hold the lock of the event, as it waits.
    """
    stop, (read, write) = threading.Event(), os.pipe()

    def watch() -> None:
        if os.read(read, 1):
            stop.set()
            if os.read(read, 1):
                os._exit(INTERRUPTED)

    def told(*_: object) -> None:
        os.write(write, b"!")

    watcher = threading.Thread(target=watch, name="streamq-signals", daemon=True)
    watcher.start()
    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(write)
        watcher.join()
        os.close(read)


@contextmanager
def deferred() -> Generator[None]:
    """Hold Ctrl-C and these signals back until the end: what changes the terminal must not stop halfway."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(*_: object) -> NoReturn:
    raise SystemExit(OK)


def interrupt(*_: object) -> NoReturn:
    """Handle a signal: raise KeyboardInterrupt."""
    raise KeyboardInterrupt

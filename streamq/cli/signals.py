"""Make SIGTERM and SIGHUP end a command like Ctrl-C, so that it cleans up.

Owns the handlers of these signals, for commands with child processes, with temporary data on a server, or
that change the terminal's modes.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, NoReturn

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
def deferred() -> Generator[None]:
    """Hold Ctrl-C and these signals back until the end: what changes the terminal must not stop halfway."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def interrupt(*_: object) -> NoReturn:
    """Handle a signal: raise KeyboardInterrupt."""
    raise KeyboardInterrupt

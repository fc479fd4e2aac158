"""SIGTERM and SIGHUP end a command like Ctrl-C, so that it cleans up.

Owns the handlers of these signals, for commands with child processes or with temporary data on a server.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, NoReturn

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def as_interrupted() -> Generator[None]:
    """Raise KeyboardInterrupt when a signal ends this process. In the main thread only."""
    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt(*_: object) -> NoReturn:
    """Handle a signal: raise KeyboardInterrupt."""
    raise KeyboardInterrupt

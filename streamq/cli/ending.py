"""SIGTERM and SIGHUP end a command as Ctrl-C does, so that it ends what it has started.

Owns the handlers of these signals, of commands that have children or data of their own on a server.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, NoReturn

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def as_interrupted() -> Generator[None]:
    """Raise KeyboardInterrupt where a signal asks this process to end. In the main thread only."""
    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt(*_: object) -> NoReturn:
    """A handler for a signal."""
    raise KeyboardInterrupt

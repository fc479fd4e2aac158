"""The signal handling of processes that run handlers, and of the processes that handlers start.

Owns the signal dispositions. An ignored signal stays ignored in every program that is started, but one with a
Python handler is reset to its default there. A forked process inherits the handlers, so they are removed.
"""

from __future__ import annotations

import os
import signal


def ignore_interrupts() -> None:
    """Ignore SIGINT in this process, but not in the processes that it starts.

    Ctrl-C reaches every process of the terminal, and the supervisor forwards it as SIGTERM. Call it once, in
    the main thread.
    """
    signal.signal(signal.SIGINT, _nothing)
    os.register_at_fork(after_in_child=_reset)


def _nothing(_number: int, _frame: object) -> None:
    pass


def _reset() -> None:
    """Reset signals in a forked child, so that they do not reach the event loop of its parent."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

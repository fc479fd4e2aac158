"""What signals mean in the processes of ours that run handlers, and in what handlers start.

Owns their dispositions. An ignored signal stays ignored in every program that is started; one with a handler
of ours is reset to its default there. A forked copy of a process has our handlers too, so they are taken out.
"""

from __future__ import annotations

import os
import signal


def pass_interrupts_by() -> None:
    """Let SIGINT do nothing in this process, and have its default effect in whatever is started here.

    Ctrl-C goes to every process of the terminal: the supervisor passes it on as SIGTERM. Call it once, in the
    main thread.
    """
    signal.signal(signal.SIGINT, _nothing)
    os.register_at_fork(after_in_child=_reset)


def _nothing(_number: int, _frame: object) -> None:
    pass


def _reset() -> None:
    """In a forked child: signals are its own business, and no news for the event loop of its parent."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

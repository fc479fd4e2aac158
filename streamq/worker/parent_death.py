"""Ends a child process, and everything that its handlers started, when its worker has ended for any reason.

Owns the child's process group: Ctrl-C in a terminal does not reach it, and it can be killed as a whole.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Final

POLL_INTERVAL: Final = 1.0
"""Seconds between two checks of the parent's id, in case its sentinel does not signal its end: a process that
a handler forked may hold the pipe open."""
GRACE: Final = 5.0
"""Seconds for the exit handlers of an idle child."""


class ParentDeath:
    """Watches the parent of this process. Create it in the main thread, before anything is started."""

    def __init__(self) -> None:
        with suppress(PermissionError):  # the process leads a session, and therefore already a group
            os.setpgid(0, 0)
        self._busy = False
        threading.Thread(target=self._watch, name="streamq-parent", daemon=True).start()

    @contextmanager
    def busy(self) -> Generator[None]:
        """Mark a handler as running: it is killed at once when the worker has ended."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _watch(self) -> None:
        parent = parent_process()
        while parent is not None and os.getppid() == parent.pid:
            if wait([parent.sentinel], POLL_INTERVAL):
                time.sleep(0.01)  # the parent is about to end
        ended_at = time.monotonic()
        while not self._busy and time.monotonic() < ended_at + GRACE:
            time.sleep(0.01)
        end_group(os.getpid())


def end_group(leader: int) -> None:
    """Kill a process and its group. Call it before the process is reaped, while its id cannot be reused."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(leader, signal.SIGKILL)

"""Ends a child process, and what its handlers have started, when its worker has ended in whatever way.

Owns the child's process group: Ctrl-C at a terminal does not reach it, and all of it can be ended together.
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

LOOK: Final = 1.0
"""Seconds between two looks at the parent, where nothing else tells of its end: a process that a handler has
forked may hold the pipe from it."""
GRACE: Final = 5.0
"""Seconds for the exit handlers of a child that runs nothing."""


class ParentDeath:
    """Of this process. Make it in the main thread, before anything is started."""

    def __init__(self) -> None:
        with suppress(PermissionError):  # it leads a session, and so a group
            os.setpgid(0, 0)
        self._busy = False
        threading.Thread(target=self._watch, name="streamq-leash", daemon=True).start()

    @contextmanager
    def busy(self) -> Generator[None]:
        """Around what a handler does: it is not waited for when the worker is gone."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _watch(self) -> None:
        parent = parent_process()
        while parent is not None and os.getppid() == parent.pid:
            if wait([parent.sentinel], LOOK):
                time.sleep(0.01)  # it is about to end
        gone = time.monotonic()
        while not self._busy and time.monotonic() < gone + GRACE:
            time.sleep(0.01)
        end_group(os.getpid())


def end_group(leader: int) -> None:
    """Kill a process and its group. Do it before the process is waited for: then its id is no one else's."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(leader, signal.SIGKILL)

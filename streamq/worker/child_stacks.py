"""Where the handler of a child process stands: the child writes its stack on a signal, the worker reads it.

Owns the signal, the pipe and the reading of what `faulthandler` writes. It works whatever the handler does,
in C code too. Never raises: what cannot be seen is ''.
"""

from __future__ import annotations

import faulthandler
import os
import re
import select
import signal
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from streamq.worker import stacks

PATIENCE: Final = 0.1
"""Seconds for a child to write its stack: the event loop waits for it."""
_MOST: Final = 64 * 1024
_SHOWN: Final = 20
_SIGNAL: Final = signal.SIGUSR1
_HERE: Final = str(Path(__file__).parent)
_FRAME: Final = re.compile(rb'^  File "([^"\n]{1,500})", line ([0-9]{1,9}) in ([^\n]{1,200})$', re.MULTILINE)


def answer(pipe: Connection) -> None:
    """In a child: write the stack of the main thread into this pipe on the signal. What it forks does not."""
    faulthandler.register(_SIGNAL, file=pipe.fileno(), all_threads=False)
    os.register_at_fork(after_in_child=lambda: faulthandler.unregister(_SIGNAL))


def of_process(pid: int, pipe: Connection) -> str:
    """In the worker: the frames of a child's handler, in the form of a traceback."""
    try:
        os.kill(pid, _SIGNAL)
        return _text(_read(pipe.fileno()))
    except (OSError, ValueError):
        return ""


def _read(descriptor: int) -> bytes:
    """What comes until nothing more does; the first line says that a stack follows."""
    found, deadline = b"", time.monotonic() + PATIENCE
    os.set_blocking(descriptor, False)
    while len(found) < _MOST and (left := deadline - time.monotonic()) > 0:
        # It is written frame by frame: what is there a little later was all.
        if not select.select([descriptor], [], [], left if not found else min(left, 0.01))[0]:
            break
        with suppress(BlockingIOError):
            part = os.read(descriptor, 8192)
            if not part:
                break
            found += part
    return found


def _text(dump: bytes) -> str:
    theirs: list[traceback.FrameSummary] = []
    for raw in _FRAME.findall(dump):  # most recent first
        file, line, name = (part.decode("utf-8", "replace") for part in raw)
        if file.startswith(_HERE):
            return stacks.shown(theirs[:_SHOWN][::-1])
        theirs.append(traceback.FrameSummary(file, int(line), name))
    return ""  # it ran nothing of a handler

"""The stack of a handler in a child process: the child writes it on a signal, the worker reads it.

Owns the signal, the pipe and the parsing of what `faulthandler` writes. Works whatever the handler does, in C
code too. Never raises: a stack that cannot be read is ''.
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

READ_TIMEOUT: Final = 0.1
"""Seconds for a child to write its stack: the event loop is blocked meanwhile."""
_MAX_BYTES: Final = 64 * 1024
_MAX_FRAMES: Final = 20
_SIGNAL: Final = signal.SIGUSR1
_HERE: Final = str(Path(__file__).parent)
_FRAME: Final = re.compile(rb'^  File "([^"\n]{1,500})", line ([0-9]{1,9}) in ([^\n]{1,200})$', re.MULTILINE)


def dump_on_signal(pipe: Connection) -> None:
    """Write the main thread's stack to this pipe on the signal. Called in the child; its forks do not."""
    faulthandler.register(_SIGNAL, file=pipe.fileno(), all_threads=False)
    os.register_at_fork(after_in_child=lambda: faulthandler.unregister(_SIGNAL))


def of_process(pid: int, pipe: Connection) -> str:
    """Return the frames of a child's handler in the form of a traceback. Called in the worker."""
    try:
        os.kill(pid, _SIGNAL)
        return _text(_read(pipe.fileno()))
    except (OSError, ValueError):
        return ""


def _read(descriptor: int) -> bytes:
    """Return what the child writes; its first line announces the stack."""
    found, deadline = b"", time.monotonic() + READ_TIMEOUT
    os.set_blocking(descriptor, False)
    while len(found) < _MAX_BYTES and (left := deadline - time.monotonic()) > 0:
        # The stack is written frame by frame: after 10 ms without data it is complete.
        if not select.select([descriptor], [], [], left if not found else min(left, 0.01))[0]:
            break
        with suppress(BlockingIOError):
            part = os.read(descriptor, 8192)
            if not part:
                break
            found += part
    return found


def _text(dump: bytes) -> str:
    frames: list[traceback.FrameSummary] = []
    for raw in _FRAME.findall(dump):  # most recent first
        file, line, name = (part.decode("utf-8", "replace") for part in raw)
        if file.startswith(_HERE):
            return stacks.format_frames(frames[:_MAX_FRAMES][::-1])
        frames.append(traceback.FrameSummary(file, int(line), name))
    return ""  # no handler was running

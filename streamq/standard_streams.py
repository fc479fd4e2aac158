"""The standard streams of a command: there from its start, and written to its end.

Owns what happens if one is closed, or cannot be written to. Writes no output itself.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO


def open_missing() -> None:
    """Open the null device for each standard stream that the caller has closed, as `>&-` does: otherwise the
    first socket would get its number, and whatever a handler's C code prints would go to the server."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It takes the lowest number that is free. Processes that the command starts need it as well.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


def discard(stream: TextIO) -> None:
    """Let the null device have what is buffered: Python writes it when it ends, and would fail again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def end() -> None:
    """Write what is buffered, as the last step of a process. What cannot be written is discarded, as for a
    reader that has gone: otherwise Python would exit with 120 whatever the code is."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            discard(stream)
        except (ValueError, AttributeError):
            continue  # it is closed, or there is none

"""What handlers print, in the processes of ours that run them.

Owns when it is passed on: with each line, as on a terminal. Kept in a buffer it would be seen when the worker
ends, and lost where the worker is killed.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from io import TextIOWrapper


def by_lines() -> None:
    """Pass on each line of standard output and error when it is complete."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def flush() -> None:
    """Pass on what is left. Nobody may read it any more."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()

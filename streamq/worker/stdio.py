"""The output that handlers print, in the processes that run them.

Owns its buffering: output is written line by line, as on a terminal. In a larger buffer it would appear only
when the worker ends, and be lost if the worker is killed.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from io import TextIOWrapper


def line_buffered() -> None:
    """Write each line of standard output and standard error when it is complete."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def flush() -> None:
    """Write what is buffered, and ignore errors such as a closed reader."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()

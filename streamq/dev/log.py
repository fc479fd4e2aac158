"""Write one log for several programs: each line names its program. Goes to stderr.

Owns the format of a line. A part's output may contain a task's or a server's text, so it passes through
`printable`.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

from streamq import printable

WIDTH: Final = 9
_COLOURS: Final = {"dev": 1, "server": 35, "worker": 32, "daemon": 34, "dashboard": 36, "sample": 33}


class Log:
    """Write lines. Colours only on a terminal, and not with NO_COLOR."""

    def __init__(self) -> None:
        self._colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ

    def write(self, part: str, text: str) -> None:
        """Write a part's output. Each line of a text is marked."""
        for line in text.split("\n"):
            self._emit(f"{self._mark(part)} {printable.line(line)}\n")

    def _mark(self, part: str) -> str:
        mark = f"{part:<{WIDTH}} |"
        return f"\x1b[{_COLOURS.get(part, 0)}m{mark}\x1b[0m" if self._colours else mark

    def _emit(self, line: str) -> None:
        # A closed stderr must not end the session.
        with suppress(OSError, ValueError):
            sys.stderr.write(line)
            sys.stderr.flush()

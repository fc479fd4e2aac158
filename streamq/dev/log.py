"""One log for several programs: each line says which of them speaks. Goes to stderr.

What a part says may be text of a task or of a server: it passes `printable`.
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
    """Writes lines. Colours on a terminal only, and not with NO_COLOR."""

    def __init__(self) -> None:
        self._colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ

    def say(self, part: str, text: str) -> None:
        """What a part says; a text of several lines is marked on each."""
        for line in text.split("\n"):
            self._write(f"{self._mark(part)} {printable.line(line)}\n")

    def _mark(self, part: str) -> str:
        mark = f"{part:<{WIDTH}} |"
        return f"\x1b[{_COLOURS.get(part, 0)}m{mark}\x1b[0m" if self._colours else mark

    def _write(self, line: str) -> None:
        # A reader that has gone must not end the session.
        with suppress(OSError, ValueError):
            sys.stderr.write(line)
            sys.stderr.flush()

"""The terminal as a page that is redrawn; it is restored however the program ends.

Owns the escape codes and the terminal's modes. Knows nothing of tasks. Draws on stdout, reads keys from stdin
if that is a terminal too.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Sequence
from typing import Any, Final

from streamq import printable
from streamq.cli.signals import interrupt

_ENTER: Final = "\x1b[?1049h\x1b[?25l"  # the other page, no cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
BOLD: Final = "\x1b[1m"
PLAIN: Final = "\x1b[0m"


class Screen:
    """A context manager. SIGTERM and SIGHUP end the program like Ctrl-C, so that the terminal is always
    restored; Ctrl-Z returns the terminal until the program continues."""

    def __init__(self) -> None:
        self._keys = sys.stdin.isatty()
        self._modes: list[Any] | None = None
        self._before: dict[int, Any] = {}
        self._resized = False

    def __enter__(self) -> Screen:
        handlers = {
            signal.SIGTERM: interrupt, signal.SIGHUP: interrupt, signal.SIGTSTP: self._suspend,
            signal.SIGWINCH: self._resize,
        }  # fmt: skip
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines; the first and those that begin with BOLD are highlighted, long ones are cut."""
        columns, rows = shutil.get_terminal_size()
        shown = [cut(line, columns) for line in lines[: max(1, rows - 1)]]
        sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in shown) + "\x1b[J")
        sys.stdout.flush()

    def key(self, seconds: float) -> str:
        """Return the key pressed within this many seconds; '' if none is, or if the size has changed."""
        until, self._resized = time.monotonic() + seconds, False
        while (left := until - time.monotonic()) > 0 and not self._resized:
            # In slices: a signal does not end the wait by itself.
            ready, _, _ = select.select([sys.stdin] if self._keys else [], [], [], min(left, 0.2))
            if ready:
                read = os.read(sys.stdin.fileno(), 64)
                if not read:  # the terminal has gone
                    raise KeyboardInterrupt
                return read.decode("utf-8", "replace")
        return ""

    def _take(self) -> None:
        if self._keys:
            self._modes = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        sys.stdout.write(_ENTER)
        sys.stdout.flush()

    def _give_back(self) -> None:
        try:
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()
            if self._modes is not None:
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._modes)
        except (OSError, termios.error):
            self._modes = None  # the terminal has gone

    def _suspend(self, *_: object) -> None:
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self._resized = True

    def _resize(self, *_: object) -> None:
        self._resized = True


def cut(line: str, columns: int) -> str:
    """Return a line that fits and is safe to draw."""
    text = printable.line(line.removeprefix(BOLD))[:columns]
    return BOLD + text + PLAIN if line.startswith(BOLD) else text

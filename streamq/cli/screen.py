"""A page on the terminal that is redrawn, and the keys pressed meanwhile.

Owns the modes of the terminal's keyboard and what signals do while the page is shown; rich owns the drawing
and its escape codes. The terminal is restored however the program ends. Must not know tasks.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Self

from rich.cells import cell_len
from rich.live import Live
from rich.text import Text

from streamq.cli.drawing import console
from streamq.cli.layout import Block
from streamq.cli.signals import as_interrupted, deferred


class Screen:
    """The page, as a context manager.

    SIGTERM and SIGHUP end the program like Ctrl-C. Ctrl-Z gives the terminal back until the program
    continues.
    """

    def __init__(self) -> None:
        self._console = console(sys.stdout)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._modes = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
        self._suspended = False
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(as_interrupted())
            stack.callback(signal.signal, signal.SIGTSTP, signal.signal(signal.SIGTSTP, self._suspend))
            stack.callback(self._release)
            self._take()
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    @property
    def height(self) -> int:
        return self._console.height

    @property
    def width(self) -> int:
        return self._console.width

    def draw(self, blocks: Sequence[Block]) -> None:
        """Show these blocks, heads of tables in bold. A line that is too long is cut."""
        page = Text(no_wrap=True, overflow="ellipsis")
        for block in blocks:
            first, *rest = block.lines(cell_len)
            page.append(f"{first}\n", "bold" if block.bold else "")
            page.append("".join(f"{line}\n" for line in rest))
        self._live.update(page, refresh=True)

    def key(self, seconds: float) -> str:
        """Return the key pressed within this many seconds; '' if none is, or if the page must be redrawn."""
        until, size = time.monotonic() + seconds, self._console.size
        while (left := until - time.monotonic()) > 0 and size == self._console.size:
            # In slices: a signal does not end the wait by itself.
            ready, _, _ = select.select([] if self._modes is None else [sys.stdin], [], [], min(left, 0.2))
            if self._suspended:
                self._pause()
                return ""
            if ready:
                read = os.read(sys.stdin.fileno(), 64)
                if not read:  # the terminal has gone
                    raise KeyboardInterrupt
                return read.decode("utf-8", "replace")
        return ""

    def _take(self) -> None:
        with deferred():
            if self._modes is not None:
                tty.setcbreak(sys.stdin)
            self._live.start()

    def _release(self) -> None:
        with deferred(), suppress(OSError, termios.error):  # the terminal may have gone
            self._live.stop()
            if self._modes is not None:
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._modes)

    def _suspend(self, *_: object) -> None:
        self._suspended = True

    def _pause(self) -> None:
        """Stop this process, as Ctrl-Z does, and continue when the shell does."""
        self._suspended = False
        self._release()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

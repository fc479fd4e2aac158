"""Output of commands: tables for people, JSON for programs, progress on stderr.

Owns every write of a command to stdout and stderr: all text passes `printable`, and is written in the
encoding of the stream. On a terminal, with the extra `cli`, `drawing` draws tables and progress instead;
pipes and files get plain text. Must not know tasks.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Final, TextIO

import orjson

from streamq import printable
from streamq.payloads.reading import data

WIDE: Final = 100_000
"""Columns of what is no terminal."""


def write_lines(*rows: str) -> None:
    """Write texts on stdout, each as one line."""
    _write(sys.stdout, "".join(f"{printable.line(row)}\n" for row in rows))


_OVER: Final = [False]
"""Whether the last line of the terminal is one to write over."""


def write_over(text: str) -> None:
    """Write a line on a terminal in the place of the one that this wrote before; '' ends that one, if there
    is any."""
    if not text:
        if _OVER[0]:
            _OVER[0] = False
            _write(sys.stdout, "\n")
        return
    _OVER[0] = True
    room = columns(sys.stdout) - 1
    _write(sys.stdout, f"\r\x1b[K{printable.line(text)[:room]}")
    sys.stdout.flush()


def write_text(text: str) -> None:
    """Write a text of several lines on stdout."""
    _write(sys.stdout, printable.lines(text))


def write_indented(text: str) -> None:
    """Write a text on stdout, indented below the line that it belongs to."""
    _write(sys.stdout, printable.below(text))


def write_message(text: str) -> None:
    """Write a message on stderr: one line with the program's name, without logins of URLs."""
    write_note(f"streamq: {text}")


def write_note(text: str) -> None:
    """Write a note on stderr: one line without the program's name. What cannot be written there changes no
    exit code."""
    with suppress(OSError):
        _write(sys.stderr, f"{printable.line(printable.masked(text))}\n")


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def write_json(value: object, *, one_line: bool = False) -> None:
    """Write one object on stdout. Control characters are escaped: programs read the same object."""
    raw = orjson.dumps(value, default=_other, option=0 if one_line else orjson.OPT_INDENT_2)
    _write(sys.stdout, printable.json(raw.decode()) + "\n")


def _other(value: object) -> object:
    if isinstance(value, bytes):
        return data(value)
    raise TypeError


def draws(stream: TextIO) -> bool:
    """Return whether rich can draw on a stream: a terminal, with the extra `cli` installed."""
    dumb = os.environ.get("TERM") in ("dumb", "unknown")
    return stream.isatty() and not dumb and find_spec("rich") is not None


def columns(stream: TextIO) -> int:
    """Return how wide a terminal is; a pipe or file takes any width."""
    return shutil.get_terminal_size().columns if stream.isatty() else WIDE


def write_table(head: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Write columns on stdout, numbers to the right; `empty` if there are no rows."""
    from streamq.cli.layout import Table

    table = Table(head, rows)
    if not rows:
        write_note(empty)
    elif draws(sys.stdout):
        from streamq.cli.drawing import print_table

        print_table(table)
    else:
        write_lines(*table.lines())


def write_pairs(pairs: Sequence[tuple[str, object]]) -> None:
    """Write names and values on stdout, a line each."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        write_lines(f"{name:<{width}}  {value}")


class Progress:
    """How much of a long action is done."""

    def __init__(self, show: Callable[[int, str], None] | None = None) -> None:
        self._show = show
        self._done = 0

    def add(self, number: int) -> None:
        """Add this many to the number done."""
        self.set(self._done + number)

    def set(self, done: int, note: str = "") -> None:
        """Set the number done."""
        self._done = done
        if self._show is not None:
            self._show(done, note)


@contextmanager
def progress(what: str, total: int | None) -> Generator[Progress]:
    """Show a progress bar on stderr, if rich can draw there. `total` may be unknown (None).

    SIGTERM and SIGHUP raise KeyboardInterrupt meanwhile, so that the terminal is restored.
    """
    if not draws(sys.stderr):
        yield Progress()
        return
    from streamq.cli.drawing import progress_bar
    from streamq.cli.signals import as_interrupted

    with as_interrupted(), progress_bar(what, total) as show:
        yield Progress(show)


def can_confirm(*, yes: bool) -> bool:
    """Return whether confirmation is possible or not needed; otherwise write how to confirm."""
    if yes or sys.stdin.isatty():
        return True
    write_message("refusing without confirmation: pass --yes in non-interactive use")
    return False


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask for confirmation before something is deleted; without a terminal --yes is required."""
    if yes or not can_confirm(yes=yes):
        return yes
    _write(sys.stderr, f"{printable.line(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")

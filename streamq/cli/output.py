"""Output of commands: tables for people, JSON for programs, progress on stderr.

Owns the forms of output, and every write of a command to stdout and stderr: all text passes `printable`, and
is written in the encoding of the stream. Knows nothing of tasks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Final, TextIO

import orjson

from streamq import printable
from streamq.payloads.reading import data

_BAR: Final = 28


def say(*rows: str) -> None:
    """Write data on stdout, each text as one line."""
    _write(sys.stdout, "".join(f"{printable.line(row)}\n" for row in rows))


def say_text(text: str) -> None:
    """Write a text of several lines on stdout."""
    _write(sys.stdout, printable.lines(text))


def say_below(text: str) -> None:
    """Write a text below the row that it belongs to."""
    _write(sys.stdout, printable.below(text))


def tell(text: str) -> None:
    """Write a message on stderr: one line with the program's name, without logins of URLs."""
    remark(f"streamq: {text}")


def remark(text: str) -> None:
    """Write a message on stderr without the program's name."""
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


def write_table(head: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Write columns on stdout, numbers to the right; `empty` if there are no rows."""
    if not rows:
        remark(empty)
    else:
        say(*table(head, rows))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table: the head, and one for each row."""
    cells = [[printable.line(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in [list(head), *cells]) for n in range(len(head))]
    right = [all(isinstance(row[n], int | float) for row in rows) for n in range(len(head))]
    return [
        "  ".join(
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [list(head), *cells]
    ]


def write_pairs(pairs: Sequence[tuple[str, object]]) -> None:
    """Write names and values on stdout, a line each."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        say(f"{name:<{width}}  {value}")


class Progress:
    """A progress bar on stderr, on a terminal only. `total` may be unknown (None)."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what, self._total = what, total
        self._done, self._drawn = 0, 0.0
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._draw()
            sys.stderr.write("\n")

    def add(self, number: int) -> None:
        """Add this many to the number done."""
        self.set(self._done + number)

    def set(self, done: int, note: str = "") -> None:
        """Set the number done."""
        self._done = done
        if self._live and time.monotonic() - self._drawn > 0.1:
            self._draw(note)

    def _draw(self, note: str = "") -> None:
        self._drawn = time.monotonic()
        if self._total:
            share = min(1.0, self._done / self._total)
            filled = round(share * _BAR)
            bar = f"[{'#' * filled}{'.' * (_BAR - filled)}] {self._done:,}/{self._total:,}"
        else:
            bar = f"{self._done:,}"
        _write(sys.stderr, f"\r\x1b[K{printable.line(f'{self._what} {bar} {note}')}")
        sys.stderr.flush()


def askable(*, yes: bool) -> bool:
    """Return whether confirmation is possible or not needed; otherwise write what to do."""
    if yes or sys.stdin.isatty():
        return True
    tell("refusing without confirmation: pass --yes in non-interactive use")
    return False


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask for confirmation before something is deleted; without a terminal --yes is required."""
    if yes or not askable(yes=yes):
        return yes
    _write(sys.stderr, f"{printable.line(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")

"""What commands show people, as values: lines and tables, and both as plain text.

Owns the plain form, which goes to pipes and files and is stable. Must not write anything or import `rich`:
`output` writes, and `drawing` draws the same values on a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from streamq import printable

GAP: Final = 2
"""Columns between two cells."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text; bold on a terminal if it is important."""

    text: str
    bold: bool = False

    def lines(self, width: Callable[[str], int] = len) -> list[str]:
        """Return the line as it is safe to show."""
        del width
        return [printable.line(self.text)]


@dataclass(frozen=True, slots=True)
class Table:
    """A head and rows. Columns of numbers are aligned to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]

    bold: bool = True
    """The head is bold on a terminal."""

    def cells(self) -> list[list[str]]:
        """Return the head and the rows as text that is safe to show."""
        return [list(self.head), *([printable.line(str(cell)) for cell in row] for row in self.rows)]

    def numeric(self) -> list[bool]:
        """Return for each column whether it has only numbers."""
        return [all(isinstance(row[n], int | float) for row in self.rows) for n in range(len(self.head))]

    def widths(self, width: Callable[[str], int] = len) -> list[int]:
        """Return the width of each column. width: returns the columns that a text takes."""
        return [max(map(width, column)) for column in zip(*self.cells(), strict=True)]

    def lines(self, width: Callable[[str], int] = len) -> list[str]:
        """Return the table as lines of aligned columns."""
        widths, numeric = self.widths(width), self.numeric()
        return [_aligned(row, widths, numeric, width) for row in self.cells()]


Block = Line | Table
_LEAST: Final = 12
"""Columns that the first column keeps at least."""


def fitted(table: Table, room: int, dropped: Sequence[str], width: Callable[[str], int] = len) -> Table:
    """Return the table so that it fits in this many columns: without those of these heads, one after the
    other until it does; then the first column is cut."""
    for name in dropped:
        if _over(table, room, width) <= 0:
            break
        table = _without(table, name)
    if (over := _over(table, room, width)) <= 0:
        return table
    most = max(_LEAST, table.widths(width)[0] - over)
    rows = [[cut(printable.line(str(row[0])), most), *row[1:]] for row in table.rows]
    return Table(table.head, rows, table.bold)


def _over(table: Table, room: int, width: Callable[[str], int]) -> int:
    """Return by how many columns of the terminal a table is too wide."""
    return sum(table.widths(width)) + GAP * (len(table.head) - 1) - room


def _without(table: Table, name: str) -> Table:
    kept = [n for n, head in enumerate(table.head) if head != name]
    rows = [[row[n] for n in kept] for row in table.rows]
    return Table([table.head[n] for n in kept], rows, table.bold)


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _aligned(
    row: Sequence[str], widths: Iterable[int], numeric: Iterable[bool], width: Callable[[str], int]
) -> str:
    parts = list[str]()
    for cell, most, right in zip(row, widths, numeric, strict=True):
        padding = " " * (most - width(cell))
        parts.append(padding + cell if right else cell + padding)
    return (" " * GAP).join(parts).rstrip()


def plain(blocks: Iterable[Block]) -> list[str]:
    """Return blocks as lines of plain text."""
    return [line for block in blocks for line in block.lines()]

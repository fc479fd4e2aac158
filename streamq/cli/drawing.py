"""Draw tables and progress bars on a terminal with rich (extra `cli`).

Owns the drawing with rich, which knows how wide each character is. Imported only when there is something to
draw on a terminal; `output` decides that. All text has passed `printable`, and none is read as markup.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Final, Literal, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table as Grid
from rich.text import Text

from streamq import printable
from streamq.cli.layout import GAP, Table
from streamq.cli.signals import deferred

_LEAST: Final = 20
"""Columns that the widest column needs at least, to be folded into several lines."""


def console(stream: TextIO) -> Console:
    """Return a console that changes no text, and escapes what the stream's encoding lacks."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return Console(file=stream, markup=False, emoji=False, highlight=False)


def print_table(table: Table) -> None:
    """Print a table on stdout. The widest column is folded to fit; other cells stay whole, to be copied."""
    out, widths = console(sys.stdout), table.widths(cell_len)
    widest = widths.index(max(widths))
    room = out.width - sum(widths) + widths[widest] - GAP * (len(widths) - 1)
    if room >= min(widths[widest], _LEAST):
        out.print(_grid(table, folded=widest))
    else:
        for line in table.lines(cell_len):
            out.out(line)


def _grid(table: Table, folded: int) -> Grid:
    head, *rows = table.cells()
    grid = Grid(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for n, (name, numeric) in enumerate(zip(head, table.numeric(), strict=True)):
        side: Literal["left", "right"] = "right" if numeric else "left"
        grid.add_column(Text(name), justify=side, no_wrap=n != folded, overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    return grid


@contextmanager
def progress_bar(what: str, total: int | None) -> Generator[Callable[[int, str], None]]:
    """Show a progress bar on stderr; yield a function that sets the number done and a note."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    # Output of the command appears above the bar, but only if it goes to the terminal too.
    bar = Progress(*columns, console=console(sys.stderr), redirect_stdout=sys.stdout.isatty())
    task = bar.add_task(what, total=total, note="")
    try:
        with deferred():
            bar.start()
        yield lambda done, note: bar.update(task, completed=done, note=printable.line(note))
    finally:
        with deferred():
            bar.stop()

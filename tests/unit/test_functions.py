"""No function is longer than a reader keeps in mind."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import streamq

MOST: Final = 40
"""Lines of a function, its docstring included."""
ROOT: Final = Path(streamq.__file__).parent
LONGER: Final[dict[str, str]] = {}
"""Functions that may be longer, with the reason. Take one out when it has become shorter; add none."""


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and the lines of each function of a file."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{file.relative_to(ROOT).as_posix()}:{node.name}"
            yield name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_function_is_too_long() -> None:
    found = {name: lines for file in ROOT.rglob("*.py") for name, lines in functions(file) if lines > MOST}
    more = {name: lines for name, lines in found.items() if name not in LONGER}
    assert not more, f"over {MOST} lines: part what does several things"
    assert found.keys() == LONGER.keys(), "shorter than it was: take it out of LONGER"

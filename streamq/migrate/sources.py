"""Read the Python files below a folder: their syntax trees and the names that they import.

Owns the walk and the parsing. A file that cannot be read or parsed is reported and costs that file only.
Must not import what it reads, follow symbolic links, or know any task queue.
"""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SKIPPED: Final = frozenset({"node_modules", "__pycache__", "site-packages", "build", "dist"})
LARGEST: Final = 5_000_000
"""Bytes of a file: what is larger is data, and is reported as unread."""


@dataclass
class Source:
    """A parsed file. module: its dotted name below the folder. imports: dotted names by their local names.
    nodes: all of the tree, each after its parent, walked once."""

    path: str
    module: str
    nodes: tuple[ast.AST, ...]
    imports: dict[str, str] = field(default_factory=dict[str, str])
    assigned: tuple[ast.Assign | ast.AnnAssign, ...] = ()
    functions: tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...] = ()
    classes: tuple[ast.ClassDef, ...] = ()

    def __post_init__(self) -> None:
        self.assigned = tuple(one for one in self.nodes if isinstance(one, ast.Assign | ast.AnnAssign))
        self.classes = tuple(one for one in self.nodes if isinstance(one, ast.ClassDef))
        self.functions = tuple(
            one for one in self.nodes if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        )

    def is_imported(self, node: ast.expr) -> bool:
        """Return whether a name, or what a dotted name begins with, comes from an import."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.imports

    def dotted(self, node: ast.expr) -> str | None:
        """Return the dotted name that an expression stands for, imports resolved; None if it is no name."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        return ".".join([self.imports.get(node.id, f"{self.module}.{node.id}"), *reversed(parts)])


def read(folder: Path) -> tuple[list[Source], dict[str, str]]:
    """Return the parsed files below a folder (or the one file), and why others could not be read."""
    sources: list[Source] = []
    unread: dict[str, str] = {}
    root = folder if folder.is_dir() else folder.parent
    for path in _files(folder):
        name = path.relative_to(root).as_posix()
        try:
            tree = _parse(path)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            unread[name] = f"{type(error).__name__}: {error}"[:200]
            continue
        source = Source(name, _module(name), tuple(ast.walk(tree)))
        source.imports = dict(_imports(source, is_package=path.name == "__init__.py"))
        sources.append(source)
    return sources, unread


def _files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        yield folder
        return
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if _wanted(here / name))
        yield from (here / name for name in sorted(files) if name.endswith(".py"))


def _wanted(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name in SKIPPED
    return not hidden and not (folder / "pyvenv.cfg").exists()


def _parse(path: Path) -> ast.Module:
    if not path.is_file():
        raise ValueError("not a regular file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"larger than {LARGEST:,} bytes")
    with warnings.catch_warnings():  # of the code that is read
        warnings.simplefilter("ignore")
        return ast.parse(path.read_bytes())


def _module(name: str) -> str:
    parts = name.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _imports(source: Source, *, is_package: bool) -> Iterator[tuple[str, str]]:
    package = source.module.split(".")
    if not is_package:
        package = package[:-1]
    for node in source.nodes:
        if isinstance(node, ast.Import):
            for one in node.names:
                first = one.name.partition(".")[0]
                yield (one.asname, one.name) if one.asname else (first, first)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for one in node.names:
                yield one.asname or one.name, f"{origin}.{one.name}"

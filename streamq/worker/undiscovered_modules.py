"""Finds modules that seem to define task types but are not imported.

Owns that search, which is used in a message and never for a decision. Reads a bounded number of source files
beside the app's module. Must not import them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from streamq.registry.redefinition import Run

_DECORATED: Final = re.compile(rb"^[ \t]*@[A-Za-z_][\w.]*\.task\b", re.MULTILINE)
MAX_FILES: Final = 300
MAX_BYTES: Final = 200_000
_SKIPPED: Final = ("tests", "test", "site-packages", "node_modules", "__pycache__", "build", "dist")


def undiscovered(home: Run | None) -> list[str]:
    """Return the names of such modules beside the module that created the app; [] if that is unknown."""
    if home is None:
        return []
    file = Path(home.code.co_filename)
    package = home.name if file.name == "__init__.py" else home.name.rpartition(".")[0]
    imported = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    try:
        files = list(islice(_files(file.parent), MAX_FILES)) if file.is_file() else []
        return sorted(
            _name(package, file.parent, one) for one in files if _decorated(one) and str(one) not in imported
        )
    except OSError:
        return []


def _files(folder: Path) -> Iterator[Path]:
    for one in sorted(folder.iterdir()):
        if one.suffix == ".py" and one.stem != "__main__":
            yield one
        elif one.name.isidentifier() and one.name not in _SKIPPED and (one / "__init__.py").is_file():
            yield from _files(one)


def _decorated(file: Path) -> bool:
    with file.open("rb") as source:
        return _DECORATED.search(source.read(MAX_BYTES)) is not None


def _name(package: str, folder: Path, file: Path) -> str:
    parts = file.relative_to(folder).with_suffix("").parts
    inside = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return ".".join(filter(None, (package, inside)))

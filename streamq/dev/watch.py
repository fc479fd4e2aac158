"""Notice that Python files were saved, with watchfiles.

Owns what counts as a file of the app: every .py below the watched folders that is not in a hidden folder, a
cache or a virtual environment. Must not read any file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from streamq.errors import UsageError

_SKIPPED: Final = {"__pycache__", "node_modules", "site-packages", "dist-packages"}


def folders(app: str, more: Sequence[Path]) -> list[Path]:
    """Return the folders to watch for an app `module:attribute`: the current folder, that of the app's
    package if it is elsewhere, and `more`."""
    here = Path.cwd().resolve()
    found = [here, *(path.resolve() for path in more)]
    spec = PathFinder.find_spec(app.partition(":")[0].partition(".")[0])
    places = list(spec.submodule_search_locations or ()) if spec else []
    home = places[0] if places else spec.origin if spec and spec.has_location else None
    if home is not None and not _SKIPPED & set(Path(home).parts):
        found.append(Path(home).resolve() if places else Path(home).resolve().parent)
    roots: list[Path] = []
    for path in found:
        if not any(path.is_relative_to(root) for root in roots):
            roots.append(path)
    return roots


def require() -> None:
    """Raise UsageError if watchfiles is not installed."""
    if find_spec("watchfiles") is None:
        raise UsageError("streamq dev needs watchfiles: pip install 'streamq[dev-server]'")


async def changes(roots: Sequence[Path], stop: asyncio.Event) -> AsyncGenerator[list[str]]:
    """Yield the files that were saved, created or deleted, each time that some were; end with `stop`.

    Raise UsageError if the folders cannot be watched.
    """
    from watchfiles import Change, awatch  # noqa: PLC0415 - an extra

    def counts(_: Change, path: str) -> bool:
        return _counts(path, roots)

    for polling in (None, True):  # polling needs no watches of the system, which may be used up
        try:
            async for found in awatch(
                *roots, watch_filter=counts, debounce=200, step=50, stop_event=stop, force_polling=polling
            ):
                yield sorted(path for _, path in found)
        except (OSError, RuntimeError) as error:
            if polling:
                raise UsageError(f"cannot watch {', '.join(map(str, roots))}: {error}") from error
        else:
            return


def _counts(path: str, roots: Sequence[Path]) -> bool:
    """Return whether a file is one of the app's."""
    file = Path(path)
    root = next((one for one in roots if file.is_relative_to(one)), None)
    if not path.endswith(".py") or root is None:
        return False
    parts = file.relative_to(root).parts[:-1]
    return not any(_skipped(str(root.joinpath(*parts[:n])), name) for n, name in enumerate(parts))


@cache
def _skipped(folder: str, name: str) -> bool:
    return name.startswith(".") or name in _SKIPPED or Path(folder, name, "pyvenv.cfg").exists()

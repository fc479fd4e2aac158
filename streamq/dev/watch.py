"""Watch for saved Python files: with watchfiles if it is installed, else by polling twice a second.

Owns which files belong to the app: every .py below the watched folders that is not in a hidden folder, a
cache or a virtual environment. Reads no file.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Final

POLL: Final = 0.5
_SKIPPED: Final = {"__pycache__", "node_modules", "site-packages", "dist-packages"}
_Stamps = dict[str, tuple[int, int]]


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


def method() -> str:
    """Return the method of watching, for people."""
    return "watchfiles" if find_spec("watchfiles") else f"polling every {POLL:g} s"


async def changes(roots: Sequence[Path], stop: asyncio.Event) -> AsyncGenerator[list[str]]:
    """Yield the files that were saved, created or deleted, each time there are some; ends with `stop`."""
    if find_spec("watchfiles"):
        with suppress(OSError, RuntimeError):  # for example if the system's watches are used up
            async with aclosing(_notified(roots, stop)) as notified:
                async for files in notified:
                    yield files
    async with aclosing(_polled(roots, stop)) as polled:
        async for files in polled:
            yield files


async def _notified(roots: Sequence[Path], stop: asyncio.Event) -> AsyncGenerator[list[str]]:
    from watchfiles import Change, awatch  # noqa: PLC0415 - an extra

    def wanted(_: Change, path: str) -> bool:
        return _is_app_file(path, roots)

    async for found in awatch(*roots, watch_filter=wanted, debounce=200, step=50, stop_event=stop):
        yield sorted(path for _, path in found)


async def _polled(roots: Sequence[Path], stop: asyncio.Event) -> AsyncGenerator[list[str]]:
    before = await asyncio.to_thread(_stamps, roots)
    while not stop.is_set():
        await asyncio.wait([waiting := asyncio.ensure_future(stop.wait())], timeout=POLL)
        waiting.cancel()
        after = await asyncio.to_thread(_stamps, roots)
        changed = sorted(dict(before.items() ^ after.items()))
        before = after
        if changed and not stop.is_set():
            yield changed


def _stamps(roots: Sequence[Path]) -> _Stamps:
    """Return the time and size of every file."""
    found: _Stamps = {}
    for root in roots:
        for folder, names, files in os.walk(root):
            names[:] = [name for name in names if not _skipped(folder, name)]
            for name in files:
                if name.endswith(".py"):
                    path = os.path.join(folder, name)  # noqa: PTH118 - many of them, twice a second
                    try:
                        status = os.stat(path)  # noqa: PTH116
                    except OSError:
                        continue
                    found[path] = (status.st_mtime_ns, status.st_size)
    return found


def _is_app_file(path: str, roots: Sequence[Path]) -> bool:
    """Return whether a reported file is one of the app's."""
    file = Path(path)
    root = next((one for one in roots if file.is_relative_to(one)), None)
    if not path.endswith(".py") or root is None:
        return False
    parts = file.relative_to(root).parts[:-1]
    return not any(_skipped(str(root.joinpath(*parts[:n])), name) for n, name in enumerate(parts))


@cache
def _skipped(folder: str, name: str) -> bool:
    return name.startswith(".") or name in _SKIPPED or Path(folder, name, "pyvenv.cfg").exists()

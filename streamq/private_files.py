"""Folders and files of an embedded server that no other user of the host can read, change or stand in for.

Owns their modes and the checks of what is there already. Starts nothing.
"""

from __future__ import annotations

import io
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from streamq.errors import UsageError

LOCK: Final = "streamq.lock"
"""The file that tells a folder of ours."""


def own_folder(home: Path) -> None:
    """Make the folder that holds the tasks, for this user only. Raises UsageError if it is not safe there.

    One that holds other things too keeps its mode: what the server writes is private by its umask.
    """
    missing = not home.exists()
    home.mkdir(parents=True, exist_ok=True)
    found = home.stat()
    if found.st_uid != os.getuid():
        if os.getuid() != 0:
            raise UsageError(f"{home} belongs to another user, who could change its tasks: name another")
    elif missing or (home / LOCK).exists():
        home.chmod(0o700)
        # An older release left these readable.
        for path in (home / LOCK, home / "server.log", *home.glob("appendonlydir/*")):
            with suppress(FileNotFoundError):
                path.chmod(0o600)
    elif found.st_mode & stat.S_IWOTH:
        raise UsageError(f"everybody may write to {home}, so its tasks are not safe: chmod o-w {home}")


def private_folder(path: Path) -> None:
    """Make a folder beside those of other users, or find it as we made it. Raises UsageError otherwise."""
    with suppress(FileExistsError):
        path.mkdir(0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UsageError(f"{path} is not a directory of this user alone: remove it, or set TMPDIR")


def opened(path: Path) -> io.FileIO:
    """Open a file that only this user can read, to append to it."""
    return io.FileIO(path, "a+", opener=lambda name, flags: os.open(name, flags, 0o600))

"""Private folders and files of an embedded server: no other user of the host can read, change or replace
them.

Owns their modes and the checks of existing ones. Must not start a process.
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
"""The file that marks a folder of an embedded server."""


def own_folder(home: Path) -> None:
    """Create the folder for the tasks, for this user only. Raises UsageError if it is not safe.

    A folder with other content keeps its mode: the server's files are private by its umask.
    """
    missing = not home.exists()
    home.mkdir(parents=True, exist_ok=True)
    found = home.stat()
    if found.st_uid != os.getuid():
        if os.getuid() != 0:
            raise UsageError(
                f"{home} belongs to another user, who could change the tasks: use another folder"
            )
    elif missing or (home / LOCK).exists():
        home.chmod(0o700)
        # Earlier releases left these readable.
        for path in (home / LOCK, home / "server.log", *home.glob("appendonlydir/*")):
            with suppress(FileNotFoundError):
                path.chmod(0o600)
    elif found.st_mode & stat.S_IWOTH:
        raise UsageError(f"{home} is writable by all users, so the tasks are not safe: run chmod o-w {home}")


def private_folder(path: Path) -> None:
    """Create a folder next to those of other users, or accept one that this user created. Raises
    UsageError."""
    with suppress(FileExistsError):
        path.mkdir(0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UsageError(f"{path} is not a private directory of this user: remove it, or set TMPDIR")


def open_private(path: Path) -> io.FileIO:
    """Open a file for appending that only this user can read."""
    return io.FileIO(path, "a+", opener=lambda name, flags: os.open(name, flags, 0o600))

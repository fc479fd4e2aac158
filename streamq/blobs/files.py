"""Blobs as files in a directory that all programs of an app share: one machine, or a network file system.

Owns the files. A blob is written to a file of another name first and then renamed, so that nobody reads half
of one, and a full disk leaves none.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from streamq.errors import InvalidOption
from streamq.payloads.blob_store import ListedBlob

_PART: Final = ".part"
"""Ends the name of a file that is being written. No blob's name ends so."""
_FORGOTTEN: Final = 86_400.0
"""Seconds after which a file that was never finished is deleted when it is met."""


class FileBlobs:
    """Blobs in a directory, which is created with the first one, readable for its user only. Raises
    InvalidOption for a relative path."""

    def __init__(self, path: str | Path) -> None:
        self._root = Path(path)
        if not self._root.is_absolute():
            raise InvalidOption(f"FileBlobs({os.fspath(path)!r:.200}): must be an absolute path")

    def __repr__(self) -> str:
        return f"FileBlobs({str(self._root)!r})"

    def put(self, name: str, data: bytes) -> None:
        """Store a blob, whole or not at all."""
        target = self._file(name)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{secrets.token_hex(4)}{_PART}")
        try:
            with open(part, "xb", opener=_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def get(self, name: str) -> bytes:
        """Return a blob. Raises KeyError if there is none."""
        try:
            return self._file(name).read_bytes()
        except FileNotFoundError:
            raise KeyError(name) from None

    def delete(self, names: Sequence[str]) -> None:
        """Delete blobs."""
        for name in names:
            self._file(name).unlink(missing_ok=True)

    def list(self, prefix: str, after: str, limit: int) -> list[ListedBlob]:
        """Return blobs in the order of their names."""
        found: list[ListedBlob] = []
        for name in self._names(prefix, after):
            with suppress(FileNotFoundError):  # deleted meanwhile
                about = self._file(name).stat()
                found.append(ListedBlob(name, about.st_size, time.time() - about.st_mtime))
            if len(found) == limit:
                break
        return found

    def _names(self, prefix: str, after: str) -> Iterator[str]:
        """Yield names in order: directories have three levels, as names have three parts."""
        for app in _entries(self._root):
            if not f"{app}/".startswith(prefix[: len(app) + 1]):
                continue
            for task_type in _entries(self._root / app):
                folder = f"{app}/{task_type}/"
                if not (folder.startswith(prefix) or prefix.startswith(folder)) or f"{folder}\x7f" < after:
                    continue
                for one in _entries(self._root / app / task_type):
                    name = folder + one
                    if one.endswith(_PART):
                        self._forget_part(name)
                    elif name.startswith(prefix) and name > after:
                        yield name

    def _forget_part(self, name: str) -> None:
        """Delete what a process that was killed left behind."""
        with suppress(OSError):
            file = self._root / name
            if time.time() - file.stat().st_mtime > _FORGOTTEN:
                file.unlink()

    def _file(self, name: str) -> Path:
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{name!r:.120} is not the name of a blob")
        return self._root.joinpath(*parts)


def _entries(folder: Path) -> list[str]:
    """Return the names in a directory, in order; none if it is not there."""
    try:
        with os.scandir(folder) as found:
            return sorted(entry.name for entry in found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

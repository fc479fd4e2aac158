"""Which failures are one fault: the exception's type and the place in the user's code it came from.

Owns the fingerprint that dead letters are grouped by. Pure text work: reads the traceback as it is kept
with the task, so that old letters can be explained too. The line's number is left out of it, since
every release moves lines; the line's text stays in.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

_FRAME: Final = re.compile(
    r'^  File "(?P<file>[^"\n]+)", line (?P<line>[0-9]{1,9}), in (?P<function>.+)\n(?:    (?P<text>.+)\n)?',
    re.MULTILINE,
)
_FOREIGN: Final = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python\d[^/\\]*)[/\\]|^<frozen ")


@dataclass(frozen=True, slots=True)
class Place:
    """A frame of a traceback: the last of the user's own code, or the last of all."""

    file: str
    line: int
    function: str
    text: str

    def __str__(self) -> str:
        return f"{'/'.join(self.file.split('/')[-2:])}:{self.line} in {self.function}"


def place(traceback: str) -> Place | None:
    """Where a failure came from; None where the traceback does not tell."""
    frames = [
        Place(m["file"], int(m["line"]), m["function"], (m["text"] or "").strip())
        for m in _FRAME.finditer(traceback)
    ]
    own = [frame for frame in frames if not _FOREIGN.search(frame.file)]
    return own[-1] if own else frames[-1] if frames else None


def fingerprint(error: str, traceback: str) -> str:
    """Twelve hexadecimal digits: the same for failures that are one fault."""
    found = place(traceback)
    parts = (error,) if found is None else (error, found.file, found.function, found.text)
    return hashlib.sha1("\0".join(parts).encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:12]

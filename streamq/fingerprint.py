"""Which failures are one fault: the exception's type and the place in the user's code it came from.

Owns the fingerprint that dead letters are grouped by, and the frame that is stored with each failure: taken
of the exception's own traceback when it fails, since its text holds messages, which may look like frames.
The line's number is left out of the fingerprint, since every release moves lines; the line's text stays in.
"""

from __future__ import annotations

import hashlib
import re
import traceback as tracebacks
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Final

_BEGINS: Final = "Traceback (most recent call last):\n"
_FRAME: Final = re.compile(
    r'  File "(?P<file>[^"\n]+)", line (?P<line>[0-9]{1,9}), in (?P<function>.+)\n(?:    (?P<text>.+)\n)?'
)
_FOREIGN: Final = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python\d[^/\\]*)[/\\]|^<frozen ")
_LONGEST: Final = 300
"""Characters of a file's name, a function's and a line that are kept."""
_CUT: Final = 4096
"""Characters of a traceback that are kept: one as long may have lost its beginning."""
_MOST_LINES: Final = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a traceback: the last of the user's own code, or the last of all."""

    file: str
    line: int
    function: str
    text: str

    def __str__(self) -> str:
        return f"{'/'.join(self.file.split('/')[-2:])}:{self.line} in {self.function}"

    def as_stored(self) -> dict[str, object]:
        """Return the frame as it is kept with a failure."""
        return asdict(self)


def raised_at(trace: TracebackType | None) -> Frame | None:
    """Return where an exception with this traceback came from; None where it has none."""
    frames = tracebacks.extract_tb(trace)
    return _last([_place(f.filename, f.lineno or 0, f.name, f.line or "") for f in frames])


def of_stack(text: str) -> Frame | None:
    """Return the place in a stack that we took ourselves, as text: it has frames and no message."""
    return _last(list(_frames(text.partition("\n")[2])))


def stored(failure: Mapping[str, object]) -> Frame | None:
    """Return the frame that is kept with a failure; None where none is, or what is no frame."""
    frame = failure.get("frame")
    if not isinstance(frame, dict):
        return None
    line, texts = frame.get("line"), [frame.get(name) for name in ("file", "function", "text")]
    if not all(isinstance(one, str) for one in texts) or not isinstance(line, int) or isinstance(line, bool):
        return None
    return _place(str(texts[0]), line, str(texts[1]), str(texts[2])) if 0 <= line <= _MOST_LINES else None


def place(failure: Mapping[str, object]) -> Frame | None:
    """Return where a failure came from; None where it does not tell."""
    return stored(failure) or told(str(failure.get("traceback", "")))


def told(traceback: str) -> Frame | None:
    """Return the place that the text of a traceback tells, as releases before stored nothing else.

    Only where no message can have written it: in the frames that a whole text begins with. A text that was
    cut, or has more than one traceback, may begin within a message, or have one before its last frame.
    """
    whole = traceback.startswith(_BEGINS) and len(traceback) < _CUT
    if not whole or traceback.count("Traceback (most recent call last)") > 1:
        return None
    return _last(list(_frames(traceback.removeprefix(_BEGINS))))


def _frames(text: str) -> Iterable[Frame]:
    """The frames at the start of a text: indented lines, up to the first that is none."""
    at = 0
    while text.startswith("  ", at):
        if found := _FRAME.match(text, at):
            line = (found["text"] or "").strip()
            yield _place(found["file"], int(found["line"]), found["function"], line)
            at = found.end()
        else:
            at = text.find("\n", at) + 1
            if not at:
                return


def _last(frames: list[Frame]) -> Frame | None:
    own = [frame for frame in frames if not _FOREIGN.search(frame.file)]
    return own[-1] if own else frames[-1] if frames else None


def _place(file: str, line: int, function: str, text: str) -> Frame:
    file, function, text = (_clean(one)[:_LONGEST] for one in (file, function, text.strip()))
    return Frame(file, line, function, text)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def fingerprint(error: str, found: Frame | None) -> str:
    """Return twelve hexadecimal digits: the same for failures that are one fault."""
    parts = (error,) if found is None else (error, found.file, found.function, found.text)
    return hashlib.sha1("\0".join(parts).encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:12]

"""Groups failures that are one fault: by the exception's type and the frame of the user's code that raised
it.

Owns the fingerprint that dead letters are grouped by, and the frame that is stored with each failure. The
frame is taken from the exception's own traceback, since a traceback's text contains messages, which may look
like frames. The fingerprint has no line number, since every release moves lines, but the text of the line.
Does no I/O.
"""

from __future__ import annotations

import hashlib
import os
import re
import traceback as tracebacks
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

_BEGINS: Final = "Traceback (most recent call last):\n"
_FRAME: Final = re.compile(
    r'  File "(?P<file>[^"\n]+)", line (?P<line>[0-9]{1,9}), in (?P<function>.+)\n(?:    (?P<text>.+)\n)?'
)
_NOT_OWN: Final = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python\d[^/\\]*)[/\\]|^<frozen ")
_OURS: Final = f"{Path(__file__).parent}{os.sep}"
_EXAMPLES: Final = f"{_OURS}demo{os.sep}"
_LONGEST: Final = 300
"""Characters that are kept of the name of a file, of a function, and of a line."""
_CUT: Final = 4096
"""Characters that are kept of a traceback: one of that length may have lost its start."""
_MOST_LINES: Final = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a traceback: the last of the user's own code, else the last of all."""

    file: str
    line: int
    function: str
    text: str

    def __str__(self) -> str:
        return f"{'/'.join(self.file.split('/')[-2:])}:{self.line} in {self.function}"

    @property
    def own(self) -> bool:
        """Whether it is the user's code: no library's, and none of streamq's own."""
        return not (_NOT_OWN.search(self.file) or _is_ours(self.file))

    def as_stored(self) -> dict[str, object]:
        """Return the frame as it is stored with a failure."""
        return asdict(self)


def raised_at(trace: TracebackType | None) -> Frame | None:
    """Return the frame that raised an exception with this traceback; None if it has none."""
    frames = tracebacks.extract_tb(trace)
    return _last([_frame(f.filename, f.lineno or 0, f.name, f.line or "") for f in frames])


def of_stack(text: str) -> Frame | None:
    """Return the frame in the text of a stack that a worker dumped: it has frames and no message."""
    return _last(list(_frames(text.partition("\n")[2])))


def stored_frame(failure: Mapping[str, object]) -> Frame | None:
    """Return the frame that is stored with a failure; None if there is none, or it is damaged."""
    frame = failure.get("frame")
    if not isinstance(frame, dict):
        return None
    line, texts = frame.get("line"), [frame.get(name) for name in ("file", "function", "text")]
    if not all(isinstance(one, str) for one in texts) or not isinstance(line, int) or isinstance(line, bool):
        return None
    return _frame(str(texts[0]), line, str(texts[1]), str(texts[2])) if 0 <= line <= _MOST_LINES else None


def frame_of(failure: Mapping[str, object]) -> Frame | None:
    """Return the frame that raised a failure; None if it is unknown."""
    return stored_frame(failure) or frame_in_text(str(failure.get("traceback", "")))


def frame_in_text(traceback: str) -> Frame | None:
    """Return the frame in the text of a traceback, as earlier releases stored nothing else.

    Only if no message can have written it: of the frames at the start of a complete text. A text that was
    cut, or has more than one traceback, may start within a message, or have one before its last frame.
    """
    whole = traceback.startswith(_BEGINS) and len(traceback) < _CUT
    if not whole or traceback.count("Traceback (most recent call last)") > 1:
        return None
    return _last(list(_frames(traceback.removeprefix(_BEGINS))))


def _frames(text: str) -> Iterable[Frame]:
    """Yield the frames at the start of a text: indented lines, up to the first that is not one."""
    at = 0
    while text.startswith("  ", at):
        if found := _FRAME.match(text, at):
            line = (found["text"] or "").strip()
            yield _frame(found["file"], int(found["line"]), found["function"], line)
            at = found.end()
        else:
            at = text.find("\n", at) + 1
            if not at:
                return


def _is_ours(file: str) -> bool:
    """Return whether a file is streamq's own, apart from the demo, whose handlers are as a user's."""
    return file.startswith(_OURS) and not file.startswith(_EXAMPLES)


def _last(frames: list[Frame]) -> Frame | None:
    own = [frame for frame in frames if frame.own]
    return own[-1] if own else frames[-1] if frames else None


def _frame(file: str, line: int, function: str, text: str) -> Frame:
    file, function, text = (_clean(one)[:_LONGEST] for one in (file, function, text.strip()))
    return Frame(file, line, function, text)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def fingerprint(error: str, frame: Frame | None) -> str:
    """Return twelve hexadecimal digits, equal for failures that are one fault."""
    parts = (error,) if frame is None else (error, frame.file, frame.function, frame.text)
    return hashlib.sha1("\0".join(parts).encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:12]

"""The current stack of a handler, as text in the form of a traceback.

Owns the walk over live frames: of a waiting coroutine and of a running thread. streamq's own frames are left
out. Never raises: a stack that cannot be read is ''.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

_HERE: Final = str(Path(__file__).parent)
_MAX_DEPTH: Final = 1000
_MAX_FRAMES: Final = 20


def of_coroutine(coroutine: object) -> str:
    """Return the frames from a coroutine to what it awaits, without those of another task that it awaits."""
    try:
        return _text(_awaited(coroutine))
    except Exception:  # noqa: BLE001 - the user's awaitables may raise
        return ""


def of_thread(number: int) -> str:
    """Return the frames of a running thread, from the handler on."""
    try:
        frame = sys._current_frames().get(number)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        return "" if frame is None else _text(reversed(list(traceback.walk_stack(frame))))
    except Exception:  # noqa: BLE001 - the thread runs meanwhile
        return ""


def _awaited(awaitable: object) -> Iterator[tuple[FrameType, int]]:
    for _ in range(_MAX_DEPTH):
        if awaitable is None:
            return
        frame = _first(awaitable, ("cr_frame", "gi_frame", "ag_frame"))
        if isinstance(frame, FrameType):
            yield frame, frame.f_lineno
        awaitable = _first(awaitable, ("cr_await", "gi_yieldfrom", "ag_await"))


def _first(owner: object, attributes: Iterable[str]) -> object:
    """Return the first of these attributes that is present and not None."""
    values = (getattr(owner, name, None) for name in attributes)
    return next((value for value in values if value is not None), None)


def _text(frames: Iterable[tuple[FrameType, int]]) -> str:
    found = list(frames)
    own = [n for n, (frame, _) in enumerate(found) if frame.f_code.co_filename.startswith(_HERE)]
    user = found[own[-1] + 1 :] if own else found
    if not user:
        return ""
    return format_frames(traceback.StackSummary.extract(iter(user[-_MAX_FRAMES:])))


def format_frames(frames: Sequence[traceback.FrameSummary]) -> str:
    """Return the text of these frames, which are ordered oldest first; '' if there are none."""
    if not frames:
        return ""
    lines = traceback.StackSummary.from_list(list(frames)).format()
    return "Handler stack at the timeout (most recent call last):\n" + "".join(lines)

"""Where a handler stands at this moment, as text in the form of a traceback.

Owns the walk over frames that are not raised: of a coroutine that waits, and of a thread that runs. Our own
frames are left out. Never raises: what cannot be seen is ''.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

_HERE: Final = str(Path(__file__).parent)
_DEEPEST: Final = 1000
_SHOWN: Final = 20


def of_coroutine(coroutine: Any) -> str:
    """The frames from a coroutine to what it waits for; another task that it waits for is not looked into."""
    try:
        return _text(_awaited(coroutine))
    except Exception:  # noqa: BLE001 - an awaitable of any kind
        return ""


def of_thread(number: int) -> str:
    """The frames of a running thread, from the handler on."""
    try:
        frame = sys._current_frames().get(number)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        return "" if frame is None else _text(reversed(list(traceback.walk_stack(frame))))
    except Exception:  # noqa: BLE001 - it runs while it is looked at
        return ""


def _awaited(one: Any) -> Iterator[tuple[FrameType, int]]:
    for _ in range(_DEEPEST):
        if one is None:
            return
        frame = next(
            (f for kind in ("cr", "gi", "ag") if (f := getattr(one, f"{kind}_frame", None)) is not None), None
        )
        if frame is not None:
            yield frame, frame.f_lineno
        one = next(
            (
                inner
                for attribute in ("cr_await", "gi_yieldfrom", "ag_await")
                if (inner := getattr(one, attribute, None)) is not None
            ),
            None,
        )


def _text(frames: Iterable[tuple[FrameType, int]]) -> str:
    found = list(frames)
    ours = [n for n, (frame, _) in enumerate(found) if frame.f_code.co_filename.startswith(_HERE)]
    theirs = found[ours[-1] + 1 :] if ours else found
    if not theirs:
        return ""
    return shown(traceback.StackSummary.extract(iter(theirs[-_SHOWN:])))


def shown(frames: Sequence[traceback.FrameSummary]) -> str:
    """The text for these frames, the oldest first; '' for none."""
    if not frames:
        return ""
    lines = traceback.StackSummary.from_list(list(frames)).format()
    return "Where it stood when its time was over (most recent call last):\n" + "".join(lines)

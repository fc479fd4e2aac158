"""Give a task a signal: its checks, the call, and the answer for the caller.

Owns what a signal's name and value may be. Must not know a handler.
"""

from __future__ import annotations

import os
from typing import Final

from streamq.calls import signals as signal_calls
from streamq.calls.locate import locate
from streamq.calls.producer import NO_NOTE
from streamq.convert.encoding import encode
from streamq.errors import InvalidOption, PayloadError
from streamq.flow import Flow, ask
from streamq.keys import TypeKeys
from streamq.model.reply import Note
from streamq.model.task import SignalAnswer, TaskId
from streamq.payloads.pipeline import Pipeline
from streamq.payloads.stage import About

MOST_BYTES: Final = 65_536
"""The most bytes of a signal's value."""
_LONGEST_NAME: Final = 100


def checked_name(name: str) -> str:
    """Return the name of a signal. Raises InvalidOption."""
    if not isinstance(name, str) or not name or len(name.encode("utf-8", "replace")) > _LONGEST_NAME:  # type: ignore[redundant-expr]
        raise InvalidOption(f"{name!r:.80} is not a name for a signal: text of 1 to {_LONGEST_NAME} bytes")
    if not name.isprintable():
        raise InvalidOption(f"{name!r:.80} is not a name for a signal: use printable characters")
    return name


def encoded(value: object, pipeline: Pipeline | None, app: str, task: TaskId, name: str) -> bytes:
    """Return the value of a signal of this name as it is stored. Raises PayloadError."""
    return sealed_value(value, pipeline, about(app, task, name))


def sealed_value(value: object, pipeline: Pipeline | None, about_it: About) -> bytes:
    """Return the value of a signal as it is stored. about_it: what it is. Raises PayloadError."""
    raw = encode(value, what="the signal's value")
    if len(raw) > MOST_BYTES:
        raise PayloadError(
            f"the signal's value has {len(raw):,} bytes, over the limit of {MOST_BYTES:,}. Store the data "
            "elsewhere and pass a reference"
        )
    return raw if pipeline is None else pipeline.seal(raw, about_it)


def about(app: str, task: TaskId, name: str) -> About:
    """Return what a signal's value is."""
    return About(app, task.type, "signal", f"{task}\0{name}")


def give(t: TypeKeys, task: TaskId, name: str, value: bytes, note: Note = NO_NOTE) -> Flow[SignalAnswer]:
    """Give a task a signal, once however often the call is sent; return what became of it. Raises
    PayloadError if its mailbox is full."""
    call = signal_calls.signal(t, task.local, name, value, os.urandom(8).hex(), note)
    answer = yield from ask(call)
    if answer == "delivered":
        return "delivered"
    if answer == "stored":
        return "stored"
    if answer == "full":
        raise PayloadError(
            f"task {task} cannot take the signal {name!r}: it has {signal_calls.MOST_UNREAD} that it has not "
            "waited for, or memos of the greatest size"
        )
    if answer == "unknown" and (yield from ask(locate(t, task.local))).state == "unknown":
        return "unknown"
    return "too late"

"""What a check says. Does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "fault", "unknown"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was seen, and where it is not as it should be, what mends it.

    status: ok; warning (works, but look at it); fault (tasks may be lost or stand still); unknown (this
    user may not see it).
    """

    name: str
    status: Status
    said: str
    fix: str = ""


def ok(name: str, said: str) -> Check:
    return Check(name, "ok", said)


def warning(name: str, said: str, fix: str) -> Check:
    return Check(name, "warning", said, fix)


def fault(name: str, said: str, fix: str) -> Check:
    return Check(name, "fault", said, fix)


def unknown(name: str, said: str, fix: str = "") -> Check:
    return Check(name, "unknown", said, fix)

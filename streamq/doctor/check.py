"""Define the result of a check.

Owns the statuses. Does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "fault", "unknown"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check: what was found and, if it is not as it should be, the fix.

    status: ok; warning (works, but look at it); fault (tasks may be lost or stand still); unknown (this user
    may not see it).
    """

    name: str
    status: Status
    finding: str
    fix: str = ""


def ok(name: str, finding: str) -> Check:
    return Check(name, "ok", finding)


def warning(name: str, finding: str, fix: str) -> Check:
    return Check(name, "warning", finding, fix)


def fault(name: str, finding: str, fix: str) -> Check:
    return Check(name, "fault", finding, fix)


def unknown(name: str, finding: str, fix: str = "") -> Check:
    return Check(name, "unknown", finding, fix)

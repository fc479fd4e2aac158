"""Read the memos of a task: the result of a step, the end of a sleep, or what became of a wait for a signal.

Owns the form of what is no result of a step; `lua/lib/waits_for.lua` describes a wait. Does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import orjson

WAKE: Final = "streamq:wake"
"""The key of the time in the memo of a sleep."""
_WAIT: Final = re.compile(r"wait (.+) (\d+)", re.DOTALL)
_CHILD: Final = re.compile(r"flow (\d{1,15}-\d{12}) .+", re.DOTALL)
_UNTIL: Final = re.compile(rb"[?~](\d{0,16})")


class Suspension(NamedTuple):
    """What a task waits for without a worker. until_ms: by the server's clock; None: for ever. signal: its
    name; None if the task sleeps."""

    until_ms: int | None
    signal: str | None = None

    @property
    def words(self) -> str:
        """Return what it does, without the time: to be followed by `until` and that, if there is one."""
        return "sleeps" if self.signal is None else f"waits for the signal {self.signal!r}"


def sleep(until_ms: int) -> bytes:
    """Return the memo of a sleep."""
    return orjson.dumps({WAKE: until_ms})


def wait_name(signal: str, number: int) -> str:
    """Return the name of the memo of an attempt's wait for a signal, the first of that name is number 1."""
    return f"wait {signal} {number}"


def signal_of(name: str) -> str | None:
    """Return the signal that a memo of this name is the wait for; None if it is not one of a wait."""
    wait = _WAIT.fullmatch(name)
    return None if wait is None else wait[1]


def child_of(name: str) -> str | None:
    """Return the local id of the flow whose start for the task a memo of this name notes; None if it notes
    none."""
    child = _CHILD.fullmatch(name)
    return None if child is None else child[1]


def wakes_at(memo: bytes) -> int | None:
    """Return when a sleep ends, in ms since the epoch; None if the memo is that of a step."""
    try:
        found = orjson.loads(memo)
    except ValueError:
        return None  # it is encoded
    at = found.get(WAKE) if isinstance(found, dict) and len(found) == 1 else None
    return at if isinstance(at, int) else None


def received(memo: bytes) -> bytes | None:
    """Return the value of the signal that a wait got; None if it got none yet."""
    return memo[1:] if memo[:1] == b"+" else None


def suspension(name: str, memos: Mapping[str, bytes]) -> Suspension | None:
    """Return what a task waits for whose envelope names this memo; None if it is over or cannot be read."""
    memo = memos.get(name, b"")
    wait, until = _WAIT.fullmatch(name), _UNTIL.fullmatch(memo)
    if wait is not None and until is not None:
        return Suspension(int(until[1]) if until[1] else None, wait[1])
    at = wakes_at(memo)
    return None if not at else Suspension(at)


def shown(name: str, memo: bytes) -> bytes:
    """Return what the memo of a step or a wait holds, as JSON or sealed; what a wait has not got is null."""
    if _WAIT.fullmatch(name) is None or memo[:1] not in b"+?~!":
        return memo
    return received(memo) or b"null"

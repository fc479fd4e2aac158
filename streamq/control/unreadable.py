"""Stored data that cannot be read, because a key holds something that streamq did not write.

Owns reads that continue without it, and its description. Must not write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from streamq.calls import audit as audit_calls
from streamq.calls.call import Call, R
from streamq.errors import RedisError, ServerError
from streamq.flow import Flow, ask
from streamq.keys import VALUES
from streamq.transport.faults import NO_COMMAND

_OF_DATA: Final = ("WRONGTYPE", "script:", "user_script", "@user_function")
"""In the server's error texts if the fault is in stored data, not in the server or the user's rights."""


class Damaged(ServerError):
    """A key that was needed holds something that streamq did not write."""


class Unreadable:
    """The faults of stored data in one read. faults: each once, with the key."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def ask(self, call: Call[R], instead: Callable[[], R]) -> Flow[R]:
        """Return the answer; if stored data cannot be read, note the fault and return `instead()`. Raises
        RedisErrors with other causes."""
        try:
            return (yield from ask(call))
        except ServerError as error:
            if not is_data_fault(error):
                raise
            self.note((yield from describe_fault(call.keys, error)))
            return instead()

    def note(self, *faults: str) -> None:
        """Note faults that are new."""
        self.faults += [fault for fault in dict.fromkeys(faults) if fault not in self.faults]


def whole(call: Call[R], what: str) -> Flow[R]:
    """Return the answer. Raises Damaged, which names the key, if stored data cannot be read."""
    try:
        return (yield from ask(call))
    except ServerError as error:
        if not is_data_fault(error):
            raise
        raise Damaged(f"{what} {(yield from describe_fault(call.keys, error))}") from None


def is_data_fault(error: RedisError) -> bool:
    """Return whether the fault is in stored data."""
    said = str(error)
    return isinstance(error, ServerError) and NO_COMMAND not in said and any(one in said for one in _OF_DATA)


def describe_fault(keys: Sequence[str], error: RedisError) -> Flow[str]:
    """Return which of the keys cannot be read, and why."""
    try:
        states = (yield from ask(audit_calls.audit_keys(list(dict.fromkeys(keys))))) if keys else []
    except RedisError:  # the user lacks the right
        states = []
    wrong = [
        f"{one.key} holds a {one.holds}, not a {expected}"
        for one in states
        if one.holds not in ("none", expected := _expected(one.key, one.holds))
    ]
    return f"cannot be read: {'; '.join(wrong) or f'{keys[0]}: {error}'}"


def _expected(key: str, holds: str) -> str:
    """Return the type of value that a key must have: its name ends with its kind, or with one of many."""
    parts = key.replace("=", ":").split(":")
    return next((_KINDS[part] for part in parts[:-4:-1] if part in _KINDS), holds)


_KINDS: Final = {
    **VALUES, "apps": "hash", "daemons": "zset", "daemon_heartbeats": "hash"
}  # fmt: skip

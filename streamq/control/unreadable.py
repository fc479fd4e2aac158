"""What of a queue cannot be read, because a key holds something else than streamq wrote.

Owns the look that goes on without it, and the words for it. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from streamq.calls import audit as audit_calls
from streamq.calls.call import Call, R
from streamq.errors import RedisError, ServerError
from streamq.flow import Flow, ask
from streamq.keys import VALUES

_OF_DATA: Final = ("WRONGTYPE", "script:", "user_script", "@user_function")
"""What is in the server's words where the fault is in what is stored, and not in the server or our rights."""


class Damaged(ServerError):
    """What was asked for cannot be read, because a key holds something else than streamq wrote."""


class Unreadable:
    """Of one look. `told`: each fault once, in words that name the key."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def ask(self, call: Call[R], instead: Callable[[], R]) -> Flow[R]:
        """Return the answer; what `instead` makes where what is stored cannot be read, which is noted.
        Raises the RedisErrors that have another cause."""
        try:
            return (yield from ask(call))
        except ServerError as error:
            if not of_data(error):
                raise
            self.note((yield from said(call.keys, error)))
            return instead()

    def note(self, *faults: str) -> None:
        """Remember faults that are new."""
        self.told += [fault for fault in dict.fromkeys(faults) if fault not in self.told]


def whole(call: Call[R], what: str) -> Flow[R]:
    """Return the answer. Raises Damaged, which names the key, where what is stored cannot be read."""
    try:
        return (yield from ask(call))
    except ServerError as error:
        if not of_data(error):
            raise
        raise Damaged(f"{what} {(yield from said(call.keys, error))}") from None


def of_data(error: RedisError) -> bool:
    """Return whether the fault is in what is stored."""
    return isinstance(error, ServerError) and any(word in str(error) for word in _OF_DATA)


def said(keys: Sequence[str], error: RedisError) -> Flow[str]:
    """Return which of the keys cannot be read, and why."""
    try:
        states = (yield from ask(audit_calls.audit_keys(list(dict.fromkeys(keys))))) if keys else []
    except RedisError:  # the user may not ask
        states = []
    wrong = [
        f"{one.key} holds a {one.holds}, not a {wanted}"
        for one in states
        if one.holds not in ("none", wanted := _wanted(one.key, one.holds))
    ]
    return f"cannot be read: {'; '.join(wrong) or f'{keys[0]}: {error}'}"


def _wanted(key: str, holds: str) -> str:
    """What kind of value belongs under a key: its name ends with its kind, or with one of many."""
    parts = key.replace("=", ":").split(":")
    kind = parts[-1] if parts[-1] in _KINDS else parts[-2] if len(parts) > 1 else ""
    return _KINDS.get(kind, holds)


_KINDS: Final = {
    **VALUES, "apps": "hash", "daemons": "zset", "daemon_heartbeats": "hash"
}  # fmt: skip

"""Build the calls for signals: give one to a task, and take it in the handler that waits for it.

Owns their arguments and replies, and the bounds of a mailbox. Knows nothing of what a signal holds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from streamq.calls.call import Call, Reply, build, text
from streamq.calls.producer import NO_NOTE
from streamq.calls.steps import MOST, MOST_BYTES
from streamq.keys import GROUP, TypeKeys, shard_keys
from streamq.model.reply import Note

MOST_UNREAD: Final = 100
"""The most signals of one name that a task has not taken; of several names fewer."""
LIFE_MS: Final = 30 * 86_400_000
"""How long they are kept after the last: 30 days."""


class Taken(NamedTuple):
    """What a wait met. value: of the signal. late: it did not come in time. left_ms: how long to wait, -1 for
    ever. lost: the delivery is no longer the caller's. other: there is a step of that name. full: the number
    and the bytes of memos that would be too many."""

    value: bytes | None = None
    late: bool = False
    left_ms: int | None = None
    lost: bool = False
    other: bool = False
    full: tuple[int, int] | None = None


def take(
    t: TypeKeys, consumer: str, place: str, local: str, name: str, signal: str, timeout_ms: int | None
) -> Call[Taken]:
    """Take the next signal of a name for a task that this consumer holds, or note that it waits for one.
    name: of the wait's memo, which says until when and what came of it."""
    limit = "" if timeout_ms is None else timeout_ms
    args = (GROUP, consumer, place, local, name, signal, limit, MOST, MOST_BYTES)
    return build("take_signal", args, _taken, t, mail=t.mail(local))


def _taken(reply: list[Reply]) -> Taken:
    match text(reply[0]):
        case "taken":
            return Taken(value=reply[1])
        case "late":
            return Taken(late=True)
        case "waits":
            return Taken(left_ms=reply[1])
        case "full":
            return Taken(full=(reply[1], reply[2]))
        case "other":
            return Taken(other=True)
        case _:
            return Taken(lost=True)


def signal(t: TypeKeys, local: str, name: str, value: bytes, key: str, note: Note = NO_NOTE) -> Call[str]:
    """Give a task a value. key: 16 characters, which no other signal has. Returns delivered (it waited for
    that), stored, dead, unknown or full."""
    wake = shard_keys(t.app, t.shard).wake
    args = (GROUP, local, name, value, key, MOST_UNREAD, LIFE_MS, MOST, MOST_BYTES, *note, t.type, wake)
    return build("signal", args, text, t, mail=t.mail(local))


def mailbox(t: TypeKeys, local: str) -> Call[dict[str, int]]:
    """Return how many signals of each name a task has not taken."""
    key = t.mail(local)
    return Call(None, (key,), ("HKEYS", key), _mailbox)


def mail_heads(t: TypeKeys, local: str) -> Call[list[bytes]]:
    """Read the signals in the mailbox of a task, as they are stored."""
    key = t.mail(local)
    return Call(None, (key,), ("HGETALL", key), _heads)


def _heads(reply: list[bytes]) -> list[bytes]:
    return [value for name, value in zip(reply[::2], reply[1::2], strict=True) if b"\0" in name]


def _mailbox(reply: list[Reply]) -> dict[str, int]:
    found: dict[str, int] = {}
    for raw in reply:
        name, nul, _ = raw.decode("utf-8", "replace").partition("\0")
        if nul:
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))

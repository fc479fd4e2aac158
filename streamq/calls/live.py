"""Build the calls for the live stream of a task: append events, and read them.

Owns their form in the stream. Knows nothing of what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from streamq.calls.call import Arg, Call, Reply, build, pairs
from streamq.keys import GROUP, TypeKeys
from streamq.stored import count

MOST: Final = 1_000
"""About so many events of a task are kept."""
LIFE_MS: Final = 3_600_000
"""How long they are kept after the last."""
PAGE: Final = 100


class Row(NamedTuple):
    """An event as it is stored: its id in the stream, its kind, the attempt, and JSON."""

    id: str
    kind: str
    attempt: int
    data: bytes


def emit(
    t: TypeKeys, consumer: str, place: str, local: str, attempt: int, events: Sequence[tuple[str, bytes]]
) -> Call[bool]:
    """Append events (kind, JSON) of a task that this consumer holds. Returns whether it still holds it."""
    args: list[Arg] = [GROUP, consumer, place, t.watched(local), MOST, LIFE_MS, attempt]
    for event in events:
        args += event
    return build("emit", args, bool, t, live=t.live(local))


def events(t: TypeKeys, local: str, after: str) -> Call[list[Row]]:
    """Read a page of the events after an id ('' for all that are kept)."""
    key = t.live(local)
    start = f"({after}" if after else "-"
    return Call(None, (key,), ("XRANGE", key, start, "+", "COUNT", PAGE), _rows)


def newest(t: TypeKeys, local: str) -> Call[list[Row]]:
    """Read the last events, newest first."""
    key = t.live(local)
    return Call(None, (key,), ("XREVRANGE", key, "+", "-", "COUNT", PAGE), _rows)


def _rows(reply: list[Reply]) -> list[Row]:
    return [_row(entry.decode(), fields or []) for entry, fields in reply]


def _row(entry: str, flat: list[bytes]) -> Row:
    have = dict(pairs(flat))
    return Row(
        entry, have.get(b"k", b"").decode("utf-8", "replace"), count(have.get(b"a")), have.get(b"d", b"")
    )

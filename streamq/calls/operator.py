"""What operators do to dead letters: requeue, purge."""

from __future__ import annotations

from collections.abc import Sequence

from streamq.calls.call import (
    Call,
    build,
)
from streamq.keys import TypeKeys


def requeue(t: TypeKeys, limit: int, until_ms: int, ids: Sequence[str] = ()) -> Call[tuple[int, int]]:
    """Answers how many were requeued and how many that died until then are left."""
    keys = (t.dead, t.letters, t.counters, t.index, t.high, t.normal, t.low)
    return build("requeue", keys, (limit, until_ms, *ids), tuple)


def purge(t: TypeKeys, limit: int, until_ms: int, ids: Sequence[str] = ()) -> Call[tuple[int, int]]:
    return build("purge", (t.dead, t.letters, t.counters), (limit, until_ms, *ids), tuple)

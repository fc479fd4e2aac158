"""The faults of a shard's blobs: those that may be removed, and that nobody removes.

Owns how late that is. Reads no store: `streamq blobs` compares a store with the queue.
"""

from __future__ import annotations

from typing import Final

from streamq.calls import blobs as calls
from streamq.calls import question as question_calls
from streamq.calls.audit import Fault
from streamq.flow import Flow, ask
from streamq.keys import ShardKeys

LATE_MS: Final = 3_600_000
"""Ms after which a blob was left behind: workers of an app with blobs remove them within seconds."""


def faults(s: ShardKeys) -> Flow[tuple[int, list[Fault]]]:
    """Return how many blobs a shard has, and their faults. Raises ServerError if its list cannot be read."""
    now = yield from ask(question_calls.now(s.blobs))
    late = yield from ask(calls.count(s, "-inf", now - LATE_MS))
    number = yield from ask(calls.count(s, "-inf", "+inf"))
    return number, [Fault("overdue_blobs", f"{late:,} blobs")] if late else []

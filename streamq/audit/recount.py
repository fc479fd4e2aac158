"""Counts anew what the lanes of a task type hold, step by step on a live queue.

Owns the loop. The steps are one script, which keeps the state: another process may take the next one.
"""

from __future__ import annotations

from streamq.calls import lanes as lane_calls
from streamq.flow import Flow, ask
from streamq.keys import TypeKeys


def recount(t: TypeKeys) -> Flow[dict[str, tuple[int, int]]]:
    """Go on with the count that is under way, or make one. Return the lanes that were put right, each with
    what was written and what is there."""
    wrong: dict[str, tuple[int, int]] = {}
    while True:
        counted = yield from ask(lane_calls.recount(t))
        wrong |= counted.wrong
        if not counted.more:
            return wrong

"""Lanes whose older tasks are in another shard than their new ones, as the number of shards changed.

Owns how that is found and said: a lane has its shard by its name; a type with a limit, a rate or a fair share
of its own by that of the type. Each shard keeps its own books. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from streamq import joining
from streamq.calls import lanes as lane_calls
from streamq.calls import question as question_calls
from streamq.errors import DecodeError
from streamq.flow import Flow, ask
from streamq.joining import Rules
from streamq.keys import TypeKeys, type_keys
from streamq.shards import shard_of

LOOKED_AT: Final = 100
"""Lanes that a look reads of each list in each shard: there may be millions, and one is enough."""
CONSEQUENCE: Final = "until they have ended, limits count per shard, and order does not hold"
FIX: Final = (
    "let the type run empty before the number of shards changes: pause what enqueues it, wait for `streamq "
    "stats` to show none, deploy. Now: go back to the former number, or wait until the older tasks have ended"
)


def strayed(app: str, task_type: str, shards: int, known: int) -> Flow[list[int]]:
    """Return the shards, of the `known` ones, that hold tasks of lanes which belong to another one now."""
    found: list[int] = []
    if known == 1:
        return found
    for shard in range(known):
        keys = type_keys(app, shard, task_type)
        if not (yield from ask(lane_calls.are_there(keys))):
            continue
        try:
            rules = joining.of_policy((yield from ask(question_calls.policy(keys))))
        except DecodeError:  # of a later release, which knows where its tasks go
            continue
        lanes = yield from _some(keys)
        if any(_home(lane, task_type, shards, rules) not in (None, shard) for lane in lanes):
            found.append(shard)
    return found


def _some(keys: TypeKeys) -> Flow[set[str]]:
    """Return some lanes that wait or hold slots."""
    _, rows = yield from ask(lane_calls.listed(keys, "", LOOKED_AT))
    _, held = yield from ask(lane_calls.slots(keys, "0", LOOKED_AT))
    return {row.lane for row in rows} | {lane for lane, number in held.items() if number}


def _home(lane: str, task_type: str, shards: int, rules: Rules) -> int | None:
    """Return the shard of a lane; None where any will do."""
    home = rules.home(task_type, lane, None)
    return None if home is None else shard_of(home, shards)


def said(shards: Iterable[int]) -> str:
    """Return these shards as a sentence has them."""
    listed = list(shards)
    return f"shard{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed))}"

"""Ways to break streamq on purpose, so that the harness can be seen to notice.

Owns the broken scripts. Nothing here runs unless STREAMQ_CHAOS_SABOTAGE names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Final

from streamq import scripts
from streamq.scripts import Script

NAME: Final = "STREAMQ_CHAOS_SABOTAGE"

CHANGES: Final[dict[str, tuple[tuple[str, str, str], ...]]] = {
    # A stale worker is not told that it is one, and its settlements count like any other.
    "fence": (
        ("settle", "if done_ == number then", "done_ = number\n    if true then"),
        ("settle", "item.entry) == 1\n", "item.entry) >= 0\n"),
        ("renew", "lost[#lost + 1] = place", "local _ = place"),
    ),
    # A call that is sent again is carried out again.
    "dedupe": (
        ("enqueue", "if last == sequence then", "if false then"),
        ("enqueue", "if tonumber(last) > tonumber(sequence)", "if false"),
    ),
    # A task that is to run again is acknowledged and never parked.
    "forget": (("settle", "redis.call('ZADD', schedule, score, string", "tostring(string"),),
    # Who enters a stream takes no slot of its lane.
    "slot": (("", "r.held = r.held + 1", "r.held = r.held"),),
    # Turns go by the names of lanes: the first of them has each.
    "share": (("", "local want = score and whole.fair and score or score_of(r, head)", "local want = 0"),),
    # An ordered lane lets more than one go.
    "order": (("", "if r.ordered then r.running = math.min(r.running, 1) end", ""),),
    # A key that is held is free.
    "lock": (("enqueue_rich", "local held = lock and unique_holder(lock.what, lock.group)", "local held"),),
    # Nobody is asked to stop.
    "stop": (
        ("cancel", "redis.call('HSET', cancels, id, '1')\n", ""),
        ("cancel", "redis.call('PUBLISH', control, 'cancel ' .. task_id)\n", ""),
        ("tick", "redis.call('HSET', cancels, ending, '1')", "local _ = ending"),
    ),
    # What completed first is undone first; who waits for a node does not wait for its children; a timer is
    # over at once.
    "undo": (
        ("", "string.match(string.sub(f.order or '', -7), '(%d+)$')", "string.match(f.order or '', '(%d+)')"),
    ),
    "brood": (("", "return flow_grew(n) end", "letter = 'c' end"),),
    # Who joins children does not wait for them; a map is not undone.
    "gather": (("", "local join = map.left == 1 and flow_join(map)", "local join = flow_join(map)"),),
    "items": (("", "map.undo = told and told.k == 'map' and told.u or false", "map.undo = false"),),
    "timer": (("", "math.min(ms, 1e13)", "1"),),
    # Who loses a race goes on.
    "race": (
        (
            "",
            "ipairs(m ~= won and alone or {}) do flow_lose(loser) end",
            "ipairs({}) do flow_lose(loser) end",
        ),
    ),
    # Who waits for a signal sleeps on when it comes; of the new runs of a task the second is left out.
    "inner": (("signal", "if fields and field(fields, 's') == memo then", "if false then"),),
    "onward": (("settle_rich", "p = payload,", "p = string.gsub(payload, '\"run\":1', '\"run\":2'),"),),
    # A daemon makes a run again that another one has made since it looked.
    "tick": (
        ("tick", "or state.revision ~= tonumber(revision) then", "then"),
        ("tick", "if not found or tonumber(found) ~= tonumber(score) then", "if false then"),
        ("tick", "mode == 'tick' and tonumber(run) <= (tonumber(state.last) or 0)", "false"),
    ),
}
"""By name: the script, or '' for all that have it, what is in it, and what is to be there instead."""


def apply() -> None:
    """Break what the environment says is to be broken."""
    for name in filter(None, os.environ.get(NAME, "").split(",")):
        for change in CHANGES[name]:
            scripts.load = cache(_broken(scripts.load, *change))


def _broken(load: Callable[[str], Script], target: str, old: str, new: str) -> Callable[[str], Script]:
    def broken(name: str) -> Script:
        script = load(name)
        if name != target and (target or old not in script.text):
            return script
        if old not in script.text:
            raise LookupError(f"{name}.lua has no {old!r} to sabotage any more")
        return scripts.parse(name, script.text.replace(old, new))

    return broken

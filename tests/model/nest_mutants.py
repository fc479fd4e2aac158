"""The guards of flows that run for tasks, each to be taken out by itself.

Their machine, `nest_machine`, must notice each one.
"""

from __future__ import annotations

from typing import Final

from tests.model.mutant import Mutant

SEEDS: Final = 60
"""Runs that it takes at most until a mutant is noticed."""

_F = Mutant
_CHILD: Final = (
    "    if child then redis.pcall('ZADD', inbox, string.format('%.0f', (clock())), child .. ' 0 p') end\n"
)
_KEPT: Final = "if how ~= 'd' then memo_drop(id) end"
_ENDS: Final = [
    _F("settle_rich", _CHILD, "", "a flow goes on whose task has completed"),
    _F("cancel", _CHILD, "", "a flow goes on whose task was cancelled"),
    _F("purge", _CHILD, "", "a flow goes on whose task was purged"),
    _F("requeue", _CHILD, "", "a flow goes on whose task has forgotten it"),
    _F("settle_rich", _KEPT, "memo_drop(id)", "a flow is cancelled whose task may be requeued"),
    _F("settle_rich", "    if claims[n] == 's' then\n      memo_drop(item.id)\n",
       "    if claims[n] == 's' then\n", "a new run has the flow of the one before"),
]  # fmt: skip
_TOLD: Final = [
    ("      if at and how == 'p' then flow_orphaned() end\n", "", "a flow goes on that runs for nobody"),
    ("      if at and how == 'p' then flow_orphaned() end\n",
     "      if how == 'p' then flow_orphaned() end\n", "a flow is cancelled whose task lives"),
    ("at and how ~= 't' and how ~= 'p' then flow_ended", "at and how ~= 't' then flow_ended",
     "a node has ended as its flow runs for nobody"),
    ("  if f.state ~= 'running' and f.state ~= 'failing' then return end\n  f.state, f.undo = 'cancelling'",
     "  f.state, f.undo = 'cancelling'", "a flow that has ended is cancelled"),
    ("return f.parent and OVER[f.state] and f.state .. '!' or f.state end", "return f.state end",
     "nobody tells a task that its flow has ended"),
    ("return f.parent and OVER[f.state] and", "return f.parent and", "a task is told of each node"),
    ("return f.parent and OVER[f.state] and", "return OVER[f.state] and", "nobody is told of an end"),
]  # fmt: skip
NEST_MUTANTS: Final = [
    *_ENDS,
    *(_F("flow_advance", *one) for one in _TOLD),
    _F("signal", "if string.sub(before, n, n + 15) == key then return 'stored' end", "",
       "an end counts twice"),
    _F("signal", "redis.call('HSET', mail, '', string.sub(before .. key, -16 * 32))", "",
       "an end that is told twice counts twice"),
    _F("signal", "if fields and field(fields, 's') == memo then ready_now(row, fields, id, place) end", "",
       "a task sleeps whose flow has ended"),
    _F("settle_rich", "  if not until_ then return nil end\n", "  if not until_ then return due end\n",
       "a task sleeps whose flow ended before it did"),
]  # fmt: skip
QUICK_NESTS: Final = [NEST_MUTANTS[0], NEST_MUTANTS[len(_ENDS)]]
"""One of each kind."""

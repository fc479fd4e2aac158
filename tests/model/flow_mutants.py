"""The guards of flows, each to be taken out by itself, first of all the ends of a task that tell its flow.

Their own machine, `flow_machine`, must notice each one.
"""

from __future__ import annotations

from typing import Final

from tests.model.mutant import Mutant

SEEDS: Final = 120
"""Runs that it takes at most until a mutant is noticed."""

_F = Mutant
_TOLD = "release.f = flow_claim"
_LOST = "  if node then flow_told(string.format('%s-%s %d', ms, random, tonumber(node)), 'd') end\n"
ENDS: Final = [
    _F("settle_rich", _TOLD, "", "a flow is not told of a node that a worker has ended"),
    _F("reclaim", _TOLD, "", "a flow is not told of a node that was lost too often"),
    _F("cancel", _TOLD, "", "a flow is not told of a node that was cancelled"),
    _F("expire", _TOLD, "", "a flow is not told of a node that expired"),
    _F("reclaim", _LOST, "", "a flow is not told of a node whose entry was deleted"),
    _F("renew", _LOST, "", "a flow is not told of a node whose entry its worker misses"),
]  # fmt: skip
"""The ends of a task."""

_ADVANCES: Final = [
    ("      local at = number and tonumber(there[n - from + 1])\n", "      local at = number and 0\n",
     "a row that is not in the inbox counts"),
    ("    redis.call('ZREM', inbox, unpack(rows))\n", "", "a row stays in the inbox"),
    ("  if before ~= 'r' and not (letter == 'c' and FAILED[before]) then return end\n", "",
     "what was skipped ends"),
    ("  if letter ~= 'c' and n ~= f.on_failure and not (told and told.c) then flow_fail(n, why) end\n", "",
     "a failed node leaves others waiting"),
    ("not (told and told.c) then flow_fail(n, why) end", "true then flow_fail(n, why) end",
     "a failure that is none of the flow's fails it"),
    ("    local fine = letter == 'c' or FAILED[letter] and (flow_node(parents[m]) or {}).c\n",
     "    local fine = letter == 'c'\n", "who goes on after a failure waits"),
    ("    local fine = letter == 'c' or FAILED[letter] and (flow_node(parents[m]) or {}).c\n",
     "    local fine = true\n", "a join runs too early"),
    ("  if f.state == 'running' then flow_after(n) end\n", "", "nobody runs after a node"),
    ("  if map then flow_ended_child(map) else flow_after(n) end\n",
     "  if map then flow_ended_child(map) end\n",
     "nobody runs after a map"),
    ("  if left == 0 then return flow_map_done(map.number) end\n", "", "an empty map never ends"),
    ("  flow_skip(false)\n", "", "nobody is skipped"),
    ("      if waits == 1 then flow_put(last, 's') end\n", "",
     "the node for a failure waits when there was none"),
    ("    if last and flow_at(last) == 'w' then flow_put(last, 'q') end\n", "",
     "nobody is told of a failure"),
    ("if f.state == 'failing' and f.released == 0 then", "if f.state == 'failing' then",
     "a flow has failed before its nodes have ended"),
    ("f.state = f.stuck == '1' and 'stuck' or 'cancelled'", "f.state = 'cancelling'",
     "a cancelled flow never ends"),
    ("      flow_put(tonumber(control), 's')\n", "",
     "a map waits for children that were skipped"),
]  # fmt: skip
FLOW_MUTANTS: Final = [
    *ENDS,
    *(_F("flow_advance", old, new, fault) for old, new, fault in _ADVANCES),
    _F("flow_step", "if run(n) then flow_put(n, 'r') else", "if run(n) then else",
       "who runs by now is released again"),
    _F("flow_step", "of_type == task_type and not of and not cut and", "of_type == task_type and not cut and",
       "the child of a map runs with another one's arguments"),
    _F("flow_release", "if state == 'q' and run(first_number + n - 1) then",
       "if run(first_number + n - 1) then",
       "a node is released twice"),
    _F("flow_release", "    redis.call('SETRANGE', flow_states, first_number, table.concat(after))\n", "",
       "a node is released again"),
    _F("flow_release", "    unlist(id, old)\n", "", "who runs again is a dead letter as well"),
    _F("flow_release", "  redis.call('HINCRBY', flow, 'released', released)\n", "", "the books are wrong"),
    _F("flow_release", "if released == 0 then redis.call('SADD', types, task_type) end",
       "if number == 0 then redis.call('XADD', normal, '*', 'p', '{}') end", "a task of no node"),
    _F("flow_commit", "  if state and state ~= 'building' then return 'started' end\n", "",
       "a flow is started twice"),
    _F("flow_start", "if not why then\n", "if true then\n", "a flow is started twice in one call"),
    _F("flow_mark", "  flow_skip(true)\n  soon()", "  soon()", "a cancelled flow goes on"),
    _F("flow_again", "t = {s = 'w'}", "t = {s = 'w', d = 'w', x = 'w', e = 'w'}",
       "a failure that was none of the flow's is tried again"),
    _F("flow_again", "n = {s = 'w', d = 'w', x = 'w', e = 'w'}", "n = {s = 'w'}",
       "a retry leaves out who failed"),
    _F("flow_again", "for letter, by in pairs(changes) do flow_count(letter, by) end", "",
       "a retry leaves the books as they were"),
]  # fmt: skip
QUICK_FLOWS: Final = ENDS

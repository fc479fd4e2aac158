"""The guards of undo, children, timers, waits, races and retries, each to be taken out by itself.

Their machine, `flow_kinds_machine`, must notice each one.
"""

from __future__ import annotations

from typing import Final

from tests.model.mutant import Mutant

SEEDS: Final = 400
"""Runs that it takes at most until a mutant is noticed."""

_F = Mutant
_UNDO: Final = [
    ("if told and told.u and not flow_has_grown(n) then f.order = (f.order or '') .. ' ' .. n end", "",
     "what has completed is not undone"),
    ("string.match(string.sub(f.order or '', -7), '(%d+)$')", "string.match(f.order or '', '(%d+)')",
     "undo runs in the order of the ends"),
    ("    if letter == 's' or letter == 'q' or letter == 'r' then return true end\n", "",
     "a flow has failed before its undo has ended"),
    ("    if letter ~= 'c' then f.stuck = '1' else", "    if true then", "a failed undo is passed over"),
    ("  while f.undo ~= '0' and f.stuck ~= '1' do", "  while f.stuck ~= '1' do",
     "a flow is undone that was cancelled without"),
    ("f.state = f.stuck == '1' and 'stuck' or 'failed' end", "f.state = 'failed' end",
     "nobody is told that an undo failed"),
    ("      f.state = f.ends or 'failing'\n", "      f.state = 'failing'\n",
     "a flow that was cancelled has failed after its undo"),
    (" or (flow_node(n) or {}).k == 'undo') then letter = 'c' end", ") then letter = 'c' end",
     "an undo task has children, which nobody makes"),
    ("(n == f.on_failure or ", "(", "who is told of the failure has children, which nobody makes"),
]  # fmt: skip
_UNDO_OF_MAPS: Final = [
    ("  f.order, map.noted = (f.order or '') .. ' ' .. map.number, again\n", "",
     "what has completed of a map that failed is not undone"),
    ("  if map.noted == again then return end\n", "", "each item notes its map"),
    ("  if string.find(part, 'c', 1, true) then f.order =", "  if false then f.order =",
     "a map is undone before what it waited for while it ran"),
    ("  if string.find(part, 'c', 1, true) then f.order =", "  if true then f.order =",
     "a map is undone of which nothing has completed"),
]  # fmt: skip
_CHILDREN: Final = [
    ("  if letter == 'g' and before == 'r' and not flow_has_grown(n) then return flow_grew(n) end\n", "",
     "the children of a node are lost"),
    ("  if map then return flow_ended_child(map) end\n", "  if map then return end\n",
     "a node waits for children that have ended"),
    ("  if map then flow_ended_child(map) else flow_after(n) end\n", "  flow_after(n)\n",
     "nobody waits for the children of a child"),
    ("(f.grown and f.grown ~= '' and f.grown or ' ')", "(f.grown or ' ')",
     "a node that has children runs again after a retry"),
    ("  if flow_join(map) then last = last - 1 end\n", "", "the child that joins others runs beside them"),
    ("    return flow_join_now(map)\n", "    return\n", "nobody joins the children"),
]  # fmt: skip
_TIMERS: Final = [
    ("      if at and how == 't' and at <= now then flow_timer(tonumber(number)) end\n",
     "      if at and how == 't' then flow_timer(tonumber(number)) end\n", "a timer ends before its time"),
    ("      if at and how == 't' and at <= now then flow_timer(tonumber(number)) end\n", "",
     "a timer never ends"),
    ("        redis.call('ZADD', inbox, string.format('%.0f', at), flow_timer_row(number))\n", "",
     "a timer that is looked at too early is lost"),
    ("at > now and flow_at(tonumber(number)) == 'r' then", "at > now then",
     "the timer of a flow that has ended stays"),
    ("      redis.call('ZREM', inbox, flow_timer_row(tonumber(control)))\n", "",
     "the timer of what was skipped stays"),
    ("    flow_ended(n, 'e', 'the signal", "    flow_ended(n, 'c', 'the signal",
     "a wait that got nothing has completed"),
]  # fmt: skip
_RACES: Final = [
    ("  if not won and left then return end\n", "  if left then return end\n", "a race waits for its losers"),
    ("    if letter == 'c' then won = won or m end\n", "    if letter == 'c' then won = m end\n",
     "the last in the list wins"),
    ("  if not won then return flow_ended_now(n, 'd',", "  if not won then return flow_ended_now(n, 'c',",
     "somebody has won who did not complete"),
    ("    for _, loser in ipairs(m ~= won and alone or {}) do flow_lose(loser) end\n", "",
     "the losers of a race go on"),
    ("  if letter == 'r' then redis.call('ZREM', inbox, flow_timer_row(n)) end\n", "",
     "a loser's timer stays"),
    ("    return flow_put(n, letter == 'c' and 'c' or 's')\n", "    return flow_put(n, letter)\n",
     "a loser's failure is in the books"),
    ("'w' and letter ~= 'q' and letter ~= 'r' or flow_loses(n) then return end\n",
     "'w' and letter ~= 'q' and letter ~= 'r' or flow_loses(n) then return end\n"  # noqa: ISC004
     "  if letter == 'w' then return flow_put(n, 's') end\n",
     "the children of a map that loses wait"),
    ("  for at in string.gmatch(left, '()r') do flow_lose(map.first + at - 1) end\n", "",
     "the children of a map that loses go on"),
]  # fmt: skip
_SIGNALS: Final = [
    ("  if flow_at(tonumber(n)) == 'r' then\n", "  if true then\n", "a signal goes to who has had one"),
    ("  if string.sub(before, n, n + 15) == key then return 'stored' end\n", "", "a signal counts twice"),
    ("if f.state ~= 'running' then return 'dead' end\n", "", "a flow that has ended takes a signal"),
    ("  redis.call('ZREM', inbox, flow_timer_row(n))\nend\n\n-- A timer or", "end\n\n-- A timer or",
     "who got its signal waits for its time"),
    ("  redis.call('HSET', flow, 'v' .. n, value)\n", "", "a signal's value is lost"),
    ("  flow_look_on()\nelseif", "elseif", "nobody runs after a signal"),
]  # fmt: skip
_RETRIES: Final = [
    ("a = {s = 'w', d = 'w', x = 'w', e = 'w', c = 'w', r = 'w', q = 'w'}",
     "a = {s = 'w', d = 'w', x = 'w', e = 'w'}", "who is to run again does not"),
    ("s = {w = 's', d = 's', x = 's', e = 's', c = 's', r = 's', q = 's'}", "s = {}",
     "an undo task is not run a second time"),
    ("f.order = kept[5] ..", "f.order = f.order ..", "what was undone is undone again"),
    ("'maps', kept[3], 'grown', kept[4], ", "'maps', kept[3], ", "who runs again has its old children"),
    ("tonumber(generation) ~= f.generation then", "false then", "a plan is carried out that is old"),
    (", f.generation + 1, '1'", ", f.generation + 1, f.undo",
     "a flow that was cancelled without undo is never undone"),
]  # fmt: skip
FLOW_KIND_MUTANTS: Final = [
    *(_F("flow_advance", *one) for one in (*_UNDO, *_CHILDREN, *_TIMERS, *_RACES, *_UNDO_OF_MAPS)),
    *(_F("flow_signal", *one) for one in _SIGNALS),
    *(_F("flow_again", *one) for one in _RETRIES),
    _F("flow_advance", "    flow_put(n, 'c')\n    return flow_after(n)\n  end\n  flow_put(n, 'r')\n",
       "    flow_put(n, 'r')\n  end\n  flow_put(n, 'r')\n", "a signal that came before is lost"),
    _F("flow_grow", "if f.state ~= 'running' or flow_at(m) ~= 'q' then return 0 end", "",
       "children are made twice"),
    _F("flow_grow", "  flow_more(map)\n  flow_join_now(map)\n", "  flow_more(map)\n",
       "nobody joins an empty list"),
    _F("flow_mark", "  if FAILED[flow_at(failed)] then flow_put(failed, 's') end\n", "",
       "a failed undo is not tried again"),
    _F("flow_commit", "'skipped', skipped,", "'skipped', 0,", "undo tasks are not in the books"),
]  # fmt: skip
QUICK_FLOW_KINDS: Final = [
    FLOW_KIND_MUTANTS[0], FLOW_KIND_MUTANTS[len(_UNDO)], FLOW_KIND_MUTANTS[len(_UNDO) + len(_CHILDREN)],
    FLOW_KIND_MUTANTS[len(_UNDO) + len(_CHILDREN) + len(_TIMERS)],
]  # fmt: skip
"""One of each kind."""

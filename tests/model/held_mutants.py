"""The guards of rules that are held until every process can obey them, each to be taken out by itself.

Their own machine, `held_machine`, must notice each one.
"""

from __future__ import annotations

from typing import Final

from tests.model.mutant import Mutant

SEEDS: Final = 12
"""Runs that it takes at most until a mutant is noticed."""

_H = Mutant
_NEW_GATE = "told.gate and not known.gate and not ordered(told.gate)"
_NEW_UNIQUE = "told.unique and not before[2] and not kept.unique"
HELD_MUTANTS: Final = [
    _H("register", "if lacking == '?' and (new_gate or new_unique) then return '?' end", "",
       "nobody is asked"),
    _H("register", "if lacking == '?' and (new_gate or new_unique) then",
       "if lacking == '?' and new_gate then",
       "nobody is asked about unique keys"),
    _H("register", "if lacking == '?' and (new_gate or new_unique) then", "if lacking == '?' then",
       "who changes nothing is to ask"),
    _H("register", _NEW_GATE, "told.gate and not ordered(told.gate)", "rules in force are held"),
    _H("register", _NEW_GATE, "told.gate and not known.gate", "order is held"),
    _H("register", _NEW_UNIQUE, "told.unique and not kept.unique", "a rule in force is held"),
    _H("register", _NEW_UNIQUE, "told.unique and not before[2]", "a rule that was removed is new"),
    _H("register", "if new_gate and string.find(lacking, ',lanes,', 1, true) then", "if false then",
       "lanes are not held"),
    _H("register", "if new_gate and string.find(lacking, ',lanes,', 1, true) then", "if new_gate then",
       "lanes are held for ever"),
    _H("register", "if new_unique and string.find(lacking, ',unique,', 1, true) then", "if false then",
       "unique keys are not held"),
    _H("register", "if new_unique and string.find(lacking, ',unique,', 1, true) then", "if new_unique then",
       "unique keys are held for ever"),
    _H("register", "held.gate, held.lane, told.gate, told.lane = told.gate, told.lane, nil, nil",
       "held.gate, held.lane = told.gate, told.lane", "lanes are held and in force"),
    _H("register", "held.unique, told.unique, told.rich = told.unique, nil, nil",
       "held.unique, told.unique = told.unique, nil", "a held rule says that it is there"),
    _H("register", ", unique = told.unique, held = held})", ", unique = told.unique})",
       "what is held is forgotten"),
    _H("register", ", unique = told.unique, held = held})", ", held = held})",
       "an older release takes the rule away"),
    _H("register", "rules_put({gate = told.gate, lane", "rules_put({lane",
       "an older release takes the gate away"),
    _H("register", "if not stays[name] then redis.call('HDEL', policy, name) end", "",
       "rules that are gone from the code stay"),
    _H("register", "if waiting > 0 then return '!' .. waiting end", "", "who waits has no order"),
    _H("register", "if ordered(told.gate) and not known.lane then", "if ordered(told.gate) then",
       "an ordered type cannot be registered again"),
    _H("register", "if known.lost and told.gate then redis.call('HSET', policy, 'recount', '1') end", "",
       "what an older release ended holds its slot"),
    _H("register", "if told.gate ~= known.gate or known.lost then", "if told.gate ~= known.gate then",
       "nobody looks behind an older release"),
    _H("register", "if told.gate ~= known.gate or known.lost then", "if known.lost then",
       "changed rules are brought to no lane"),
    _H("enforce", "if held.gate and not string.find(lacking, ',lanes,', 1, true) then", "if held.gate then",
       "lanes are in force while an older one lives"),
    _H("enforce", "if held.gate and not string.find(lacking, ',lanes,', 1, true) then", "if false then",
       "lanes never come into force"),
    _H("enforce", "if held.unique and not string.find(lacking, ',unique,', 1, true) then",
       "if held.unique then",
       "unique keys are in force while an older one lives"),
    _H("enforce", "if held.unique and not string.find(lacking, ',unique,', 1, true) then", "if false then",
       "unique keys never come into force"),
    _H("enforce", "held.gate, held.lane, nil, nil, begun + 1",
       "held.gate, held.lane, held.gate, nil, begun + 1",
       "what is in force is held as well"),
    _H("enforce", "  redis.call('HSET', policy, 'gate', kept.gate)\n", "", "the gate is not in the policy"),
    _H("enforce", "  if kept.lane then redis.call('HSET', policy, 'lane', kept.lane) end\n", "",
       "nothing names the lanes"),
    _H("enforce", "  if redis.call('EXISTS', lanes) == 1 then redis.call('HSET', policy, 'sweep', '') end\n",
       "",
       "the rules are brought to no lane"),
    _H("enforce", "kept.unique, held.unique, begun = held.unique, nil, begun + 1",
       "kept.unique, begun = held.unique, begun + 1", "a rule comes into force again and again"),
    _H("enforce", "if kept.unique then redis.call('HSET', policy, 'rich', '1', 'unique', kept.unique) end",
       "",
       "a rule that was removed stays away"),
    _H("enforce", "  redis.call('HSET', policy, 'max_backlog', '1000000000000000')\n", "",
       "a caller of another release passes the rules"),
    _H("enforce", "  rules_put(kept)\n", "", "an older release takes them away for good"),
]  # fmt: skip
QUICK_HELD = HELD_MUTANTS[::9]

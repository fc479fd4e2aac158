"""The Lua that checks a script's keys before it writes: their types, and that counters are numbers.

A script that fails half way is not rolled back, so all that can fail is checked first. The type of a key
follows from its name in the script's header. Owns that Lua text. Does no I/O. Scripts that run for every task
(enqueue, settle) check only the keys that they use, by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streamq.keys import VALUES
from streamq.model.counts import COUNTERS

OWN: Final = frozenset(
    {"enqueue", "enqueue_rich", "settle", "settle_rich", "fetch", "trim", "repair_counters"}
)
"""Scripts that look for themselves, or for which a key that is wrong costs itself only."""
_SPARED: Final = frozenset(
    {
        ("leave", "streams"), ("groups", "streams"), ("reclaim", "heartbeats"), ("sweep", "workers"),
        ("reclaim", "policy"), ("repair_pending", "policy"),
    }
)  # fmt: skip
"""Keys that, if damaged, cost only themselves: they count as empty, or get no group."""
_RUNG: Final = frozenset({"ready", "bell"})
"""The keys that `ring` writes, which never fails: a damaged one must not keep a task from its stream."""
_OTHER: Final = {
    "stream": "stream", "streams": "stream", "beats": "zset", "details": "hash", "apps": "hash",
    "due_sets": "zset", "rollups": "hash",
}  # fmt: skip
"""Names in headers that are not kinds of keys."""
_PROBES: Final = {
    "stream": ("XLEN", "", "stream"),
    "zset": ("ZCARD", "", "sorted set"),
    "hash": ("HEXISTS", ", ''", "hash"),
    "list": ("LLEN", "", "list"),
}  # fmt: skip
"""A read that any role may send, what it is given beside the key, and what the value is called. Sets and
strings are written first, or over whatever is there."""
_HEAD: Final = """local function unsound_(key, kind, told)
  if type(told) ~= 'table' or not told.err then return nil end
  if not string.find(told.err, 'WRONGTYPE', 1, true) then return told end
  return redis.error_reply(
    'WRONGTYPE ' .. key .. ' is no ' .. kind .. ': somebody overwrote it; nothing was written')
end
"""
_BOOKS: Final = """local function uncountable_(key, reply)
  if reply.err then return unsound_(key, 'hash', reply) end
  for _, value in ipairs(reply) do
    if value and (not string.match(value, '^-?%d+$') or #value > 17) then
      return redis.error_reply('ERR ' .. key .. ' holds ' .. value .. ', no number; nothing was written')
    end
  end
end
"""


_REFUSED: Final = """if {acting}not redis.acl_check_cmd('LPUSH', action_log, '') then
  return redis.error_reply("NOPERM this user has no permissions to access '" .. action_log
    .. "' with lpush: that is for operators; nothing was written")
end
"""
"""A user without the right to write the log of actions may not act as an operator. Redis would refuse half
way."""
_BY_PROGRAMS: Final = frozenset(
    {"cancel", "flow_again", "flow_mark", "flow_signal", "signal", "write_schedule"}
)
"""Scripts that programs run too, not as operators and without a row in the log."""


def guard(name: str, keys: Sequence[str], header: str, args: Sequence[str] = ()) -> str:
    """Return the guard of a script, to follow the lines that bind its names; '' if it needs none."""
    return _rights(name, keys, args) + _kinds(name, keys, header)


def _rights(name: str, keys: Sequence[str], args: Sequence[str]) -> str:
    """Return the check of the user's rights, for scripts that write the log of actions."""
    if "action_log" not in keys or "action" not in args:
        return ""
    return _REFUSED.format(acting="action ~= '' and " if name in _BY_PROGRAMS else "")


def _kinds(name: str, keys: Sequence[str], header: str) -> str:
    """Return the checks of the types of keys."""
    if name in OWN or "no-writes" in header.partition("\n")[0]:
        return ""
    spared = _RUNG if name != "muster" else frozenset[str]()
    lines = "".join(_lines(name, key) for key in keys if key not in spared)
    if not lines:
        return ""
    books = _BOOKS if "uncountable_" in lines else ""
    return f"{_HEAD}{books}do\n  local bad\n{lines}  if bad then return bad end\nend\n"


def _lines(script: str, key: str) -> str:
    """Return the checks of a name in the header: a key, repeated keys, or a group of keys for each type."""
    if key.startswith("("):
        checks = "".join(
            f"    {check}\n" for one in key.strip("().").split() if (check := _check(one, f"of.{one}"))
        )
        return f"  for _, of in ipairs(each) do\n{checks}  end\n" if checks else ""
    name, several = key.removesuffix("..."), key.endswith("...")
    check = "" if (script, name) in _SPARED else _check(name, "KEYS[n]" if several else name)
    if not check:
        return ""
    return f"  for n = first_key, #KEYS do {check} end\n" if several else f"  {check}\n"


def _check(name: str, key: str) -> str:
    if name == "counters":
        fields = ", ".join(f"'{field}'" for field in ("sequence", *COUNTERS))
        return f"bad = bad or uncountable_({key}, redis.pcall('HMGET', {key}, {fields}))"
    kind = _OTHER.get(name, VALUES.get(name, ""))
    if kind not in _PROBES:
        return ""
    command, more, called = _PROBES[kind]
    return f"bad = bad or unsound_({key}, '{called}', redis.pcall('{command}', {key}{more}))"

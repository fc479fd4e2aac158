"""The Lua that looks at a script's keys before it writes: kinds of values, and counters that are numbers.

A script that fails half way is not undone, so what can fail is looked at first. Which kind of value a key
must hold is told by its name in the script's header. Owns that text; does no I/O. Scripts for every task
(enqueue, settle) look for themselves, at as little as they touch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streamq.keys import VALUES

OWN: Final = frozenset({"enqueue", "settle", "fetch", "trim", "repair_counters"})
"""Scripts that look for themselves, or for which a key that is wrong costs itself only."""
_SPARED: Final = frozenset(
    {
        ("leave", "streams"), ("groups", "streams"), ("reclaim", "heartbeats"), ("sweep", "workers"),
        ("reclaim", "policy"), ("repair_pending", "policy"),
    }
)  # fmt: skip
"""Keys where a wrong one costs itself only: it counts as empty, or gets no group."""
_RUNG: Final = frozenset({"ready", "bell"})
"""What `ring` writes, which fails for nothing: a wrong one must keep no task from its stream."""
_OTHER: Final = {
    "stream": "stream", "streams": "stream", "beats": "zset", "details": "hash", "apps": "hash",
    "due_sets": "zset", "rollups": "hash",
}  # fmt: skip
"""Names in headers that are no kinds of keys."""
_PROBES: Final = {
    "stream": ("XLEN", "", "stream"),
    "zset": ("ZCARD", "", "sorted set"),
    "hash": ("HEXISTS", ", ''", "hash"),
    "list": ("LLEN", "", "list"),
}  # fmt: skip
"""A read that any role may send, what it is given beside the key, and what the value is called. Sets and
strings are written first, or over whatever is there."""
_COUNTED: Final = (
    "sequence", "accepted", "started", "completed", "retried", "dead", "cancelled", "expired",
    "handed_back", "reclaimed", "repaired", "requeued", "purged", "adopted", "vanished",
)  # fmt: skip
_HEAD: Final = """local function unsound_(key, kind, told)
  if type(told) ~= 'table' or not told.err then return nil end
  if not string.find(told.err, 'WRONGTYPE', 1, true) then return told end
  return redis.error_reply(
    'WRONGTYPE ' .. key .. ' is no ' .. kind .. ': somebody overwrote it; nothing was written')
end
"""
_BOOKS: Final = """local function uncountable_(key, told)
  if told.err then return unsound_(key, 'hash', told) end
  for _, value in ipairs(told) do
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
"""Who may not write the log of operators' actions may not act as one. Redis would refuse it half way."""
_BY_PROGRAMS: Final = frozenset({"cancel", "write_schedule"})
"""What programs do as well: not as operators, and without a row in the log."""


def guard(name: str, keys: Sequence[str], header: str, args: Sequence[str] = ()) -> str:
    """The guard of a script, behind the lines that bind its names; '' where it needs none."""
    return _rights(name, keys, args) + _kinds(name, keys, header)


def _rights(name: str, keys: Sequence[str], args: Sequence[str]) -> str:
    """A look at the rights of the user, in scripts that keep the log of actions."""
    if "action_log" not in keys or "action" not in args:
        return ""
    return _REFUSED.format(acting="action ~= '' and " if name in _BY_PROGRAMS else "")


def _kinds(name: str, keys: Sequence[str], header: str) -> str:
    """A look at the kinds of the values."""
    if name in OWN or "no-writes" in header.partition("\n")[0]:
        return ""
    spared = _RUNG if name != "muster" else frozenset[str]()
    lines = "".join(_lines(name, key) for key in keys if key not in spared)
    if not lines:
        return ""
    books = _BOOKS if "uncountable_" in lines else ""
    return f"{_HEAD}{books}do\n  local bad\n{lines}  if bad then return bad end\nend\n"


def _lines(script: str, key: str) -> str:
    """A look at what a header names: a key, keys that are repeated, or a group of them once a type."""
    if key.startswith("("):
        looks = "".join(
            f"    {look}\n" for one in key.strip("().").split() if (look := _look(one, f"of.{one}"))
        )
        return f"  for _, of in ipairs(each) do\n{looks}  end\n" if looks else ""
    name, several = key.removesuffix("..."), key.endswith("...")
    look = "" if (script, name) in _SPARED else _look(name, "KEYS[n]" if several else name)
    if not look:
        return ""
    return f"  for n = first_key, #KEYS do {look} end\n" if several else f"  {look}\n"


def _look(name: str, key: str) -> str:
    if name == "counters":
        fields = ", ".join(f"'{field}'" for field in _COUNTED)
        return f"bad = bad or uncountable_({key}, redis.pcall('HMGET', {key}, {fields}))"
    kind = _OTHER.get(name, VALUES.get(name, ""))
    if kind not in _PROBES:
        return ""
    command, more, called = _PROBES[kind]
    return f"bad = bad or unsound_({key}, '{called}', redis.pcall('{command}', {key}{more}))"

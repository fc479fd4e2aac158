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

_CHANGES: Final[dict[str, tuple[tuple[str, str, str], ...]]] = {
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
}
"""By name: the script, what is in it, and what is to be there instead."""


def apply() -> None:
    """Break what the environment says is to be broken."""
    for name in filter(None, os.environ.get(NAME, "").split(",")):
        for change in _CHANGES[name]:
            scripts.load = cache(_broken(scripts.load, *change))


def _broken(load: Callable[[str], Script], target: str, old: str, new: str) -> Callable[[str], Script]:
    def broken(name: str) -> Script:
        script = load(name)
        if name != target:
            return script
        if old not in script.text:
            raise LookupError(f"{name}.lua has no {old!r} to sabotage any more")
        return scripts.parse(name, script.text.replace(old, new))

    return broken

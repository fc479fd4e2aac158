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

_CHANGES: Final[dict[str, tuple[str, tuple[tuple[str, str], ...]]]] = {
    # A stale worker's settlement counts like any other.
    "fence": (
        "settle",
        (
            ("if done_ == number then", "done_ = number\n    if true then"),
            ("item.entry) == 1\n", "item.entry) >= 0\n"),
        ),
    ),
    # A call that is sent again is carried out again.
    "dedupe": (
        "enqueue",
        (("if last == ARGV[2] then", "if false then"), ("if tonumber(last) > tonumber(ARGV[2])", "if false")),
    ),
    # A task that is to run again is acknowledged and never parked.
    "forget": (
        "settle",
        (("redis.call('ZADD', schedule, score, string", "tostring(string"),),
    ),
}  # fmt: skip


def apply() -> None:
    """Break what the environment says is to be broken."""
    for name in filter(None, os.environ.get(NAME, "").split(",")):
        scripts.load = cache(_broken(scripts.load, *_CHANGES[name]))


def _broken(
    load: Callable[[str], Script], target: str, changes: tuple[tuple[str, str], ...]
) -> Callable[[str], Script]:
    def broken(name: str) -> Script:
        script = load(name)
        if name != target:
            return script
        text = script.text
        for old, new in changes:
            if old not in text:
                raise LookupError(f"{name}.lua has no {old!r} to sabotage any more")
            text = text.replace(old, new)
        return scripts.parse(name, text)

    return broken

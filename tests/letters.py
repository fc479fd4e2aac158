"""Dead letters as they are stored, whole: streamq's own lists cut what is large."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from streamq import Inspector, TaskId, script_text, scripts
from streamq.calls.call import PRIORITY_OF, Call
from streamq.keys import TypeKeys, type_keys
from streamq.model.task import Priority


class DeadLetter(NamedTuple):
    """A task that will not run again by itself, with everything that is known of it."""

    id: TaskId
    died_ms: int
    reason: str
    priority: Priority
    fields: tuple[bytes, ...]


@cache
def _script() -> scripts.Script:
    text = (Path(__file__).parent / "lua" / "dead_page.lua").read_text("utf-8")
    return scripts.parse("dead_page", script_text.assembled(text))


def dead_page(t: TypeKeys, start: int = 0, limit: int = 100) -> Call[list[DeadLetter]]:
    """A page of dead letters of one shard, newest first."""
    return Call(_script(), _script().keys_of(t), (start, limit), partial(_letters, t))


def _letters(t: TypeKeys, reply: list[Any]) -> list[DeadLetter]:
    return [
        DeadLetter(
            id=TaskId(t.type, t.shard, local.decode("utf-8", "replace")),
            died_ms=int(died),
            reason=reason.decode("utf-8", "replace"),
            priority=PRIORITY_OF.get(letter.decode("utf-8", "replace"), "normal"),
            fields=tuple(fields),
        )
        for local, died, reason, letter, fields in reply
    ]


def all_dead(inspector: Inspector, task_type: str) -> list[DeadLetter]:
    """Every dead letter of a type, shard by shard."""
    found: list[DeadLetter] = []
    for shard in inspector.each():
        keys, start = type_keys(inspector.app, shard, task_type), 0
        while page := inspector.transport.run(dead_page(keys, start)):
            found += page
            start += len(page)
    return found

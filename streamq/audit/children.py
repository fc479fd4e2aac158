"""The flows that the tasks of a type have started: which tasks they are, and which wait for one that is gone.

Owns how that is read from the tasks' memos, in bounded steps. Must not write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from streamq.calls import flows as calls
from streamq.calls import steps as step_calls
from streamq.flow import Flow, ask
from streamq.keys import ShardKeys, TypeKeys
from streamq.memos import child_of, signal_of

_SUSPENDED: Final = b"~"


class Started(NamedTuple):
    """A flow that a task has started: the local ids of both."""

    task: str
    flow: str


def gone(s: ShardKeys, t: TypeKeys, most_scans: int) -> Flow[list[Started]]:
    """Return the tasks of a type that wait for a flow whose record is gone, as far as so many scans of about
    100 memos tell."""
    found: dict[Started, None] = {}
    cursor = 0
    for _ in range(most_scans):
        cursor, fields = yield from ask(step_calls.scan(t, cursor, b"*\0flow *"))
        for one in _of(fields):
            if (yield from _waits_for_gone(s, t, one)):
                found[one] = None
        if not cursor:
            break
    return list(found)


def _of(fields: list[str]) -> Iterator[Started]:
    for field in fields:
        task, _, memo = field.partition("\0")
        if (flow := child_of(memo)) is not None:
            yield Started(task, flow)


def _waits_for_gone(s: ShardKeys, t: TypeKeys, one: Started) -> Flow[bool]:
    [state] = yield from ask(calls.record(s, one.flow, ["state"]))
    if state is not None:
        return False
    first = 1
    while first:
        page = yield from ask(step_calls.memos(t, one.task, first))
        first = page.following
        for name, memo in page.by_name.items():
            if memo[:1] == _SUSPENDED and signal_of(name) == f"flow {one.flow}":
                return True
    return False

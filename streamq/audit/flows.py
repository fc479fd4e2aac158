"""The faults of a shard's flows: their books, nodes whose task is gone, and what nobody takes out of the
inbox.

Owns what a sound flow is: its numbers are those of its nodes' states, and a released node has a task, or a
row in the inbox. Writes only a row of the inbox, for a node whose task is gone.
"""

from __future__ import annotations

from typing import Final

from streamq.calls import flows as calls
from streamq.calls import question as question_calls
from streamq.calls.audit import Fault
from streamq.calls.flows import Audited
from streamq.calls.locate import locate
from streamq.errors import ServerError
from streamq.flow import Flow, Pause, ask
from streamq.flows import reading
from streamq.keys import ShardKeys, shard_keys, type_keys
from streamq.model.task import LIVING, NAME_PATTERN

LATE_MS: Final = 60_000
"""Ms after which a row of the inbox was left behind: a daemon takes them within seconds."""
_STEP: Final = 100
_SECOND_LOOK: Final = 1.0


def faults(s: ShardKeys) -> Flow[tuple[int, list[Fault]]]:
    """Return how many flows a shard has, and their faults. Raises ServerError if their lists cannot be
    read."""
    flows = yield from reading.every(s)
    found: list[Fault] = []
    for flow in flows:
        try:
            found += yield from _flow(s, flow)
        except ServerError as error:  # the others are checked
            found.append(Fault("unchecked", f"flow {flow}: {error}"))
    behind = yield from ask(calls.behind(s, LATE_MS, 100))
    found += [Fault("stuck_flow", f"{row.flow} {row.what}") for row in behind.rows]
    return len(flows), found


def _flow(s: ShardKeys, flow: str) -> Flow[list[Fault]]:
    found: list[Fault] = []
    first = 0
    while first >= 0:
        look = yield from ask(calls.audit(s, flow, first, _STEP))
        if look.wrong and first == 0:
            found.append(Fault("flow_books_off", f"{flow}: {look.wrong}"))
        suspects = yield from _lost(s, look)
        if suspects:
            yield Pause(_SECOND_LOOK)  # it may have ended just now, and have its row in the inbox taken
            again = yield from ask(calls.audit(s, flow, first, _STEP))
            lost = sorted(suspects & (yield from _lost(s, again)))
            rows = (yield from ask(calls.ends_of(s, flow, lost))) if lost else []
            told = {int(row.partition(" ")[0]) for row in rows}
            gone = [node for node in lost if node not in told]
            found += [Fault("lost_node", f"{flow} {node}") for node in gone]
        first = look.next
    return found


def _lost(s: ShardKeys, look: Audited) -> Flow[set[int]]:
    """Return the released nodes whose task does not live."""
    found: set[int] = set()
    for node, name, local in look.released:
        if not NAME_PATTERN.fullmatch(name):
            continue
        located = yield from ask(locate(type_keys(s.app, s.shard, name), local))
        if located.state not in LIVING:
            found.add(node)
    return found


def write_off(s: ShardKeys, where: str) -> Flow[bool]:
    """Record in a flow that a node whose task is gone has died."""
    s = shard_keys(s.app, s.shard)
    now = yield from ask(question_calls.now(s.inbox))
    return (yield from ask(calls.tell(s, f"{where} d", now)))

"""Build the call that lets the nodes of a flow that is over wait again, a page at a time.

Owns what is sent and how the reply is parsed. What waits again is planned in `flows.retry_plan`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from streamq.calls.call import Call, Reply, build, text
from streamq.calls.producer import NO_NOTE
from streamq.keys import ShardKeys
from streamq.model.reply import Note

PAGE: Final = 1_000
"""Nodes of one call."""


class Plan(NamedTuple):
    """What a retry is to make of a flow. generation: the flow's, for which the plan is. letters: one for each
    node (see the script `flow_again`). maps, grown, controls, order: what the record is to say then. seen:
    how many bytes of the order were known."""

    generation: int
    letters: str
    maps: str
    grown: str
    controls: str
    order: str
    seen: int


class Again(NamedTuple):
    """state: of the flow before this call, '' if there is none. left: how many nodes are to be looked at
    still; -1 if nothing is planned, as the flow is not over, or has changed since the plan was made."""

    state: str
    left: int


GO_ON: Final = Plan(0, "", "", "", "", "", 0)
"""No plan: the call goes on with the one that is kept with the flow, if there is one."""


def again(s: ShardKeys, flow: str, plan: Plan = GO_ON, note: Note = NO_NOTE) -> Call[Again]:
    """Let the next page of a flow's nodes wait again. A plan is ignored where another one is not done yet."""
    args = (flow, PAGE, *note, *plan)
    return build("flow_again", args, _again, s=s, flow=s.flow(flow), flow_states=s.flow_states(flow))


def _again(reply: list[Reply]) -> Again:
    return Again(text(reply[0]), int(reply[1]))

"""What a settlement does besides ending its delivery, as values.

Owns their names. A delivery with an effect is settled by the rich script; how an effect is written on the
wire is in `calls.effect`. A new one is a class here, a member of Effect, a line there and one in
`effects.lua`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from streamq.model.expansion import Child
from streamq.model.task import NewTask


class Hold(NamedTuple):
    """Nobody of the task's lane starts for so many ms, the task neither."""

    ms: int


class FollowUp(NamedTuple):
    """A task that a handler enqueued, of a type, with the local id that the handler was told."""

    type: str
    local: str
    task: NewTask


class Spawned(NamedTuple):
    """A child that a flow's node has spawned."""

    child: Child


class Follow(NamedTuple):
    """These tasks exist from the moment that this one is completed."""

    tasks: tuple[FollowUp, ...]


class Stepped(NamedTuple):
    """The handler may have stored memos of steps. They end with the task, and stay while it lives."""


class Suspend(NamedTuple):
    """The task sleeps, or waits for a signal: it is handed back until its time comes, and gives back the slot
    of its lane. memo: of the step that it waits in."""

    memo: str


class Continued(NamedTuple):
    """The attempt has done its part, and the task is handed back as a new run, with these arguments: no
    attempts, failures or memos are left of the run before. Follow-ups of the attempt exist from now on."""

    task: NewTask


NEW_RUN: Final = object()
"""What a handler returns that goes on as a new run."""


class NodeResult(NamedTuple):
    """The task is a node of this flow, which keeps its result. grown: how many bytes of children stand behind
    the result. expanded: the children's results are the node's, which has none of its own."""

    flow: str
    node: int
    grown: int = 0
    expanded: bool = False


class ResultBlob(NamedTuple):
    """The task's result is in the blob of this name, which lives for so many ms."""

    name: str
    life_ms: int


Effect = Hold | Follow | Stepped | Suspend | Continued | NodeResult | ResultBlob
"""Any of them."""

"""Define the children that a node of a flow gets while it runs: calls that its handler returned or spawned.

Owns these values. Knows nothing of flows, and checks nothing: `app.expand` does.
"""

from __future__ import annotations

from typing import NamedTuple

from streamq.model.task import NewTask


class Child(NamedTuple):
    """A task of a type, which becomes a child of the node that made it."""

    type: str
    task: NewTask


class Join(NamedTuple):
    """The child that runs behind the others. argument: which the list of their results is; '' for none."""

    child: Child
    argument: str


class Expansion:
    """What a handler returns instead of a result: its children, whose results are the result; or the one that
    joins them, whose result is."""

    __slots__ = ("children", "join")

    def __init__(self, children: tuple[Child, ...], join: Join | None = None) -> None:
        self.children: tuple[Child, ...] = children
        self.join: Join | None = join

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.children)} calls>"

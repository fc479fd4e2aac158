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


class Expansion:
    """What a handler returns instead of a result: its children, whose results are the result."""

    __slots__ = ("children",)

    def __init__(self, children: tuple[Child, ...]) -> None:
        self.children: tuple[Child, ...] = children

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.children)} calls>"

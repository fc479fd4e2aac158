"""What a call of a flow is given instead of a value: the output of another node, which is known later.

Owns that value, and how the arguments of a call tell that they have some. Knows nothing of flows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeGuard

OutputKind = Literal["one", "map", "item", "failure"]


class Output:
    """The output of a node. graph: the flow that is being declared. number: of the node there. kind: of one
    node, of the children of a map, an item of the list that a map goes over, or the failure of the flow.
    tolerant: a Failure is accepted in its place. hint: the type of the output, where that is known."""

    __slots__ = ("graph", "hint", "kind", "number", "tolerant")

    def __init__(
        self,
        graph: object,
        number: int,
        kind: OutputKind = "one",
        *,
        tolerant: bool = False,
        hint: object = None,
    ) -> None:
        self.graph: object = graph
        self.number: int = number
        self.kind: OutputKind = kind
        self.tolerant: bool = tolerant
        self.hint: object = hint


class NamesOutputs(Exception):
    """The arguments of a call have outputs of nodes. outputs: those by argument, one or a list; payload: the
    other arguments as JSON."""

    def __init__(self, outputs: Mapping[str, Output | list[Output]], payload: bytes) -> None:
        super().__init__("the arguments name nodes of a flow, which only a flow can resolve")
        self.outputs: Mapping[str, Output | list[Output]] = outputs
        self.payload: bytes = payload


def outputs_in(arguments: Mapping[str, object]) -> dict[str, Output | list[Output]]:
    """Return the arguments that are outputs, or lists of them."""
    return {name: value for name, value in arguments.items() if _is_output(value)}


def _is_output(value: object) -> TypeGuard[Output | list[Output]]:
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, Output) for one in value)
    return isinstance(value, Output)

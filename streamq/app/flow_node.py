"""A node of a flow that is being declared, as a program holds it.

Owns what stands for its output, with the type that a checker knows. Must not declare anything: `flow_graph`
does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Literal, Protocol, TypeVar, cast, overload

from streamq.app.bound_task import Bound
from streamq.app.expand import Expand, Joined
from streamq.flows.inputs import Failure
from streamq.model.output import Output

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
OnError = Literal["fail", "continue"]


class AddsCalls(Protocol):
    """What a node needs of its flow."""

    def add(
        self,
        call: Bound[T],
        *,
        name: str | None = None,
        after: Node[object] | Iterable[Node[object]] = (),
        on_error: OnError = "fail",
    ) -> Node[T]:
        """Add a call."""
        ...


class _OutputOf:
    """The attribute `output` of a node."""

    @overload
    def __get__(self, node: Node[Joined[T]], owner: object) -> T: ...
    @overload
    def __get__(self, node: Node[list[Joined[T]]], owner: object) -> list[T]: ...
    @overload
    def __get__(self, node: Node[Expand[Joined[T]]], owner: object) -> list[T]: ...
    @overload
    def __get__(self, node: Node[Expand[Expand[T]]], owner: object) -> list[list[T]]: ...
    @overload
    def __get__(self, node: Node[Expand[T]], owner: object) -> list[T]: ...
    @overload
    def __get__(self, node: Node[list[Expand[T]]], owner: object) -> list[list[T]]: ...
    @overload
    def __get__(self, node: Node[R], owner: object) -> R: ...

    def __get__(self, node: Node[object] | None, owner: object) -> object:
        return self if node is None else node


class _OutcomeOf:
    """The attribute `outcome` of a node."""

    @overload
    def __get__(self, node: Node[Joined[T]], owner: object) -> T | Failure: ...
    @overload
    def __get__(self, node: Node[Expand[T]], owner: object) -> list[T | Failure]: ...
    @overload
    def __get__(self, node: Node[R], owner: object) -> R | Failure: ...

    def __get__(self, node: Node[object] | None, owner: object) -> object:
        return self if node is None else Output(node.graph, node.number, node.kind, tolerant=True)


class Node(Output, Generic[R_co]):
    """A node of a flow that is being declared. Its `output` stands for what its handler will return."""

    __slots__ = ("name",)

    def __init__(self, graph: AddsCalls, number: int, name: str, *, of_map: bool, hint: object) -> None:
        super().__init__(graph, number, "map" if of_map else "one", hint=hint)
        self.name: str = name

    def __repr__(self) -> str:
        return f"<Node {self.name!r}>"

    output: _OutputOf = _OutputOf()
    """What the node returns, as an argument for the `bind` of another node's call; of a handler that returns
    Expand the list of its children's results, of one that returns Joined that of the call that joins them."""
    outcome: _OutcomeOf = _OutcomeOf()
    """The same, or a Failure where the node failed: for one with on_error="continue"."""

    def then(self, call: Bound[T], *, name: str | None = None, on_error: OnError = "fail") -> Node[T]:
        """Add a call that runs after this node."""
        graph = cast("AddsCalls", self.graph)
        return graph.add(call, name=name, after=self, on_error=on_error)

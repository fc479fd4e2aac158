"""The nodes of a flow while it is being declared: their names, their order, and what must hold of each.

Owns the checks in the caller's line. A node can only name nodes that exist already, so there is no cycle.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Concatenate, Final, TypeVar

from streamq.app.bound_task import Bound
from streamq.app.expand import check_child
from streamq.app.flow_arguments import check_fits, is_one, listed, need_of, outputs_of, result_of
from streamq.app.flow_node import Node, OnError
from streamq.app.flow_parts import Declared
from streamq.app.task_type import TaskType
from streamq.calls.flows import MOST
from streamq.errors import InvalidArguments, InvalidOption, PayloadError
from streamq.flows import needs
from streamq.flows.advancing import MOST_CHILDREN
from streamq.flows.reading import NodeKind
from streamq.model.output import NamesOutputs, Output
from streamq.options.names import check_name
from streamq.registry.handler import Handler
from streamq.registry.registry import Registry

R = TypeVar("R")
T = TypeVar("T")
Undo = TaskType[..., Any, Any] | Bound[object]
"""What undoes a node: a task that is called with its result, of a map with those of the items that completed;
or a call."""

MOST_STATIC: Final = 10_000
"""The most nodes that are declared one by one."""
MOST_PARENTS: Final = 1_000
"""The most nodes that one node waits for; a map has any number of children."""


class Declaration:
    """The nodes of one flow. graph: what the program declares it with, and its nodes belong to. raced: of the
    nodes that take part in a race, the name of the node that ends it."""

    def __init__(self, registry: Registry, graph: object, name: str) -> None:
        self._registry, self._graph, self._name = registry, graph, name
        self.nodes: list[Declared] = []
        self.raced: dict[int, str] = {}
        self._names: dict[str, int] = {}

    def inputs(self, call: Bound[object]) -> list[int]:
        """Return the nodes whose outputs a call has as arguments. Raises InvalidOption, InvalidArguments."""
        waits: list[int] = []
        for argument, given in outputs_of(call).items():
            for one in given if isinstance(given, list) else [given]:
                if one.kind in ("item", "failure"):
                    continue
                self.owned(one)
                self.check_tolerant(one, allowed=one.tolerant)
                if not isinstance(given, list):
                    check_fits(one, call.handler, argument)
                elif one.kind == "map":
                    raise InvalidArguments(
                        f"argument {argument}: the output of a map is a list: pass it alone"
                    )
                waits.append(one.number)
        return waits

    def owned(self, one: Output) -> Output:
        """Return a node that others may wait for. Raises InvalidOption."""
        if one.graph is not self._graph:
            raise InvalidOption(
                f"{one!r} is a node of another flow: a flow waits for its own nodes only. Add its call to "
                "this one"
            )
        if one.kind != "failure" and one.number in self.raced:
            racer, race = self.nodes[one.number].name, self.raced[one.number]
            raise InvalidOption(
                f"node {racer!r} may be skipped, as it takes part in {race!r}: wait for that one"
            )
        return one

    def given(self, after: Node[object] | Iterable[Node[object]]) -> list[Node[object]]:
        """Return the nodes of an `after`. Raises InvalidOption and InvalidArguments."""
        every = [after] if isinstance(after, Node) else list(after)
        for one in every:
            if not isinstance(one, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidArguments(f"after={one!r:.80} is not a node: pass what wf.add(...) has returned")
            self.owned(one)
        return every

    def check_tolerant(self, one: Output, *, allowed: bool) -> None:
        """Raise InvalidOption for a node whose output may be a Failure, unless that is allowed."""
        node = self.nodes[one.number]
        if node.tolerated and not allowed and one.kind != "map":
            raise InvalidOption(
                f"node {node.name!r} has on_error='continue', so there may be a Failure instead of its "
                "output: pass its `outcome`"
            )

    def name_of(self, output: object) -> str:
        """Return the name of the node that an output is of, if its type is sure to be that of the result.
        Raises InvalidArguments and InvalidOption."""
        if not isinstance(output, Output) or output.kind not in ("one", "map"):
            raise InvalidArguments(
                f"returns={output!r:.80} is not the output of a node: pass that, as in returns=node.output"
            )
        self.owned(output)
        self.check_tolerant(output, allowed=output.tolerant)
        node = self.nodes[output.number]
        if node.kind in ("wait", "first") or (node.kind == "map" and node.tolerated):
            raise InvalidOption(
                f"returns=: what node {node.name!r} returns is not sure to be of that type: it is a wait, "
                "a race, or a map whose children may fail: leave returns= out"
            )
        return node.name

    def declare(
        self, handler: Handler, name: str | None, on_error: OnError, kind: NodeKind,
        parents: Mapping[int, None], call: Bound[object], outputs: Mapping[str, Output | list[Output]],
    ) -> int:  # fmt: skip
        """Add a node with a task; return its number. Raises InvalidOption."""
        self.check(handler, call, on_error, len(parents))
        number = len(self.nodes)
        tail = needs.written({key: need_of(one) for key, one in outputs.items() if not is_one(one, "item")})
        self.nodes.append(
            Declared(
                self.named(name, handler.name),
                handler,
                kind,
                list(parents),
                call.task,
                tail,
                on_error == "continue",
            )
        )
        return number

    def declare_control(
        self, kind: NodeKind, name: str | None, parents: Sequence[int], more: Mapping[str, object],
        on_error: OnError,
    ) -> int:  # fmt: skip
        """Add a node without a task; return its number."""
        self.check_node(on_error, len(parents))
        named, tolerated = self.named(name, kind), on_error == "continue"
        waits = list(dict.fromkeys(parents))
        self.nodes.append(Declared(named, None, kind, waits, None, "", tolerated, dict(more)))
        return len(self.nodes) - 1

    def undo_of(self, handler: Handler, undo: Undo, *, of_map: bool = False) -> Bound[object]:
        """Return the call that undoes a node of this handler, or a map."""
        if isinstance(undo, Bound):
            found = undo
        elif not isinstance(undo, TaskType):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArguments(
                f"undo={undo!r:.80}: pass a task type, such as refund, or refund.bind(...)"
            )
        else:
            argument = undo.handler.first_argument
            if argument is None:
                raise InvalidArguments(
                    f"undo: task type {undo.handler.name!r} takes no argument for the result of "
                    f"{handler.name!r}: pass undo={undo.handler.name}.bind()"
                )
            hint = result_of(handler)
            hint = types.GenericAlias(list, (hint or Any,)) if of_map else hint
            result = Output(self._graph, len(self.nodes), "item", hint=hint)
            check_fits(result, undo.handler, argument)
            found = undo.bind(result)
            if handler.expands:
                raise InvalidOption(
                    f"undo: task type {handler.name!r} returns children, which may not all complete: give "
                    "them what undoes them in flows of their own, or pass a call, undo=refund.bind(...)"
                )
        if any(one.kind != "item" for one in listed(outputs_of(found))):
            raise InvalidOption("undo: its call is given values, or the result of its own node only")
        self.check(found.handler, found, "fail", 0)
        return found

    def declare_undo(self, number: int, name: str, call: Bound[object]) -> int:
        """Add the node of such a call; return its number."""
        of_map = self.nodes[number].kind == "map"
        need = needs.OfCompleted(number) if of_map else number
        tail = needs.written(dict.fromkeys(outputs_of(call), need))
        undo = self.named(None, f"undo-{name}"[:100])
        self.nodes.append(Declared(undo, call.handler, "undo", [], call.task, tail, tolerated=False))
        return len(self.nodes) - 1

    def check(self, handler: Handler, call: Bound[object], on_error: str, parents: int) -> None:
        """Raise InvalidOption for a call that cannot be a node as it is meant."""
        name = handler.name
        if self._registry.handlers.get(name) is not handler and handler.app != "":
            raise InvalidOption(
                f"task type {name!r} belongs to app {handler.app!r}: a flow has nodes of its own app, "
                f"{self._registry.name!r}"
            )
        check_child(handler, call)
        self.check_node(on_error, parents)

    def check_node(self, on_error: str, parents: int) -> None:
        """Raise InvalidOption for what no node can have."""
        if on_error not in ("fail", "continue"):
            raise InvalidOption(f"on_error={on_error!r:.40}: 'fail' or 'continue'")
        if parents > MOST_PARENTS:
            raise InvalidOption(f"a node waits for at most {MOST_PARENTS:,} others: use a map")
        if len(self.nodes) >= MOST_STATIC:
            raise InvalidOption(
                f"a flow has at most {MOST_STATIC:,} nodes that are declared one by one: use a map for "
                f"the same call with many arguments (in total at most {MOST:,} nodes)"
            )

    def named(self, name: str | None, default: str) -> str:
        """Return the name of a node: the given one, or one that no other node has."""
        if name is not None:
            check_name(name, "a node")
            if name in self._names:
                raise InvalidOption(
                    f"flow {self._name!r} has a node {name!r} already: give each another name"
                )
            self._names[name] = 1
            return name
        found = default
        while found in self._names:
            self._names[default] += 1
            found = f"{default}-{self._names[default]}"
        self._names[found] = 1
        return found

    def items(
        self, task: TaskType[Concatenate[T, ...], R, Any], source: Iterable[T], fixed: Mapping[str, object]
    ) -> list[bytes]:
        """Return the payload of each child of a map over a list."""
        found: list[bytes] = []
        handler = task.handler
        for one in source:
            if len(found) == MOST_CHILDREN:
                raise PayloadError(f"a map goes over at most {MOST_CHILDREN:,} items: split the list")
            if isinstance(one, Output):
                raise InvalidArguments("a map takes one node, or a list of values, but not a list of nodes")
            try:
                payload = handler.payload((one,), fixed)
            except NamesOutputs as named:
                payload = named.payload
            found.append(handler.stored(payload))
        return found

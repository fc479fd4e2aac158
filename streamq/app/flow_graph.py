"""The declaration of a flow in a program: its nodes, what they wait for, and how it is started.

Owns the public interface for declaring flows. What must hold of a node is in `flow_declaration`, how a flow
is stored in `flow_builder`.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, TypeVar, cast, overload

from streamq.app.bound_task import Bound
from streamq.app.enqueuer import Enqueuer
from streamq.app.flow_arguments import check_fits, is_one, listed, outputs_of, result_of
from streamq.app.flow_builder import Built, start
from streamq.app.flow_declaration import Declaration, Undo
from streamq.app.flow_handle import FlowHandle
from streamq.app.flow_node import Node, OnError
from streamq.app.flow_parts import Declares
from streamq.app.task_type import TaskType
from streamq.blocking import refuse
from streamq.client.signals import checked_name
from streamq.errors import InvalidArguments, InvalidOption, UsageError
from streamq.flows.inputs import Failure
from streamq.flows.reading import NodeKind
from streamq.model.output import Output
from streamq.options.checks import Duration, key_text, seconds
from streamq.options.names import check_name
from streamq.registry.registry import Registry

R = TypeVar("R")
T = TypeVar("T")


class FlowGraph:
    """A flow that is being declared: made by `app.flow(name)`, started by `start` or `astart`."""

    def __init__(self, registry: Registry, enqueuer: Enqueuer, name: str, *, fail_fast: bool = False) -> None:
        check_name(name, "a flow")
        self.name: str = name
        self._registry, self._enqueuer = registry, enqueuer
        self._flow = Declaration(registry, self, name)
        self._on_failure: int | None = None
        self._fail_fast = fail_fast

    if not TYPE_CHECKING:  # type checkers know already that it cannot be awaited

        def __await__(self) -> NoReturn:
            raise UsageError(
                "a FlowGraph cannot be awaited: write await flow.astart(), then its handle's aresult()"
            )

    def __repr__(self) -> str:
        return f"<FlowGraph {self.name!r} with {len(self._flow.nodes)} nodes>"

    @property
    def failure(self) -> Failure:
        """Why the flow failed, as an argument for the call that is given to `on_failure`."""
        return cast("Failure", Output(self, 0, "failure", tolerant=True))

    def add(
        self,
        call: Bound[R],
        *,
        name: str | None = None,
        after: Node[object] | Iterable[Node[object]] = (),
        on_error: OnError = "fail",
        undo: Undo | None = None,
    ) -> Node[R]:
        """Add a call. It runs when the nodes whose output it has as an argument have completed, and those of
        `after`. on_error: whether its failure fails the flow, or is handed on, as a Failure. undo: a task
        that is called with its result, or a call, where the flow fails or is cancelled after it has
        completed. The output of a handler that returns Expand is the list of its children's results. Raises
        InvalidOption and InvalidArguments."""
        waits, needed = self._flow.inputs(call), outputs_of(call)
        parents = dict.fromkeys([*waits, *(one.number for one in self._flow.given(after))])
        if any(is_one(one, "failure") for one in needed.values()):
            raise InvalidOption("wf.failure is for the call that is given to wf.on_failure(...)")
        if undo is not None:  # all checks come before the node
            undo = self._flow.undo_of(call.handler, undo)
        number = self._flow.declare(call.handler, name, on_error, "task", parents, call, needed)
        declared = self._flow.nodes[number]
        if undo is not None:
            declared.undo = self._flow.declare_undo(number, declared.name, undo)
        return Node(self, number, declared.name, of_map=False, hint=result_of(call.handler))

    def map(
        self,
        task: TaskType[Concatenate[T, ...], R, Any],
        source: Node[list[T]] | Iterable[T],
        *,
        fixed: Mapping[str, object] | None = None,
        name: str | None = None,
        after: Node[object] | Iterable[Node[object]] = (),
        on_error: OnError = "fail",
        undo: Undo | None = None,
    ) -> Node[list[R]]:
        """Add a node that calls a task for each item of a list, or of the list that another node returns: at
        most 10,000. The item is the first argument, `fixed` are the others by name. Its output is the list of
        their results, in the order of the items. undo: a task that is called once, with the list of the
        results of the items that completed, or a call, where the flow fails or is cancelled after one did."""
        handler = task.handler
        argument = handler.first_argument
        if argument is None:
            raise InvalidArguments(f"task type {handler.name!r} takes no argument for the items of a map")
        item = Output(self, 0, "item")
        call = cast("Bound[object]", task.bind(cast("T", item), **(fixed or {})))
        items = None if isinstance(source, Output) else self._flow.items(task, source, fixed or {})
        if isinstance(source, Output):
            check_fits(source, handler, argument, item=True)
        waits, needed = self._flow.inputs(call), outputs_of(call)
        parents = dict.fromkeys([*waits, *(one.number for one in self._flow.given(after))])
        origin = None
        if isinstance(source, Node):
            origin = self._flow.owned(source).number
            parents[origin] = None
            self._flow.check_tolerant(source, allowed=False)
        if undo is not None:  # all checks come before the node
            undo = self._flow.undo_of(handler, undo, of_map=True)
        number = self._flow.declare(handler, name, on_error, "map", parents, call, needed)
        declared = self._flow.nodes[number]
        declared.source, declared.argument, declared.items = origin, argument, items
        if undo is not None:
            declared.undo = self._flow.declare_undo(number, declared.name, undo)
        return Node(self, number, declared.name, of_map=True, hint=_list_of(handler.hint("return")))

    def sleep(
        self,
        duration: Duration,
        *,
        name: str | None = None,
        after: Node[object] | Iterable[Node[object]] = (),
    ) -> Node[None]:
        """Add a timer: a node that completes so long after the nodes of `after` (seconds, timedelta or "1h").
        It takes no slot. A daemon ends it, about a second late at most. Raises InvalidOption."""
        ms = max(1, round(seconds(duration, "duration") * 1000))
        parents = [one.number for one in self._flow.given(after)]
        return cast("Node[None]", self._control("sleep", name, parents, {"z": ms}, hint=None))

    @overload
    def wait(
        self, signal: str, kind: type[T], *, timeout: Duration | None = None, name: str | None = None,
        after: Node[object] | Iterable[Node[object]] = (), on_error: OnError = "fail",
    ) -> Node[T]: ...  # fmt: skip
    @overload
    def wait(
        self, signal: str, *, timeout: Duration | None = None, name: str | None = None,
        after: Node[object] | Iterable[Node[object]] = (), on_error: OnError = "fail",
    ) -> Node[Any]: ...  # fmt: skip

    def wait(
        self,
        signal: str,
        kind: object = Any,
        *,
        timeout: Duration | None = None,
        name: str | None = None,
        after: Node[object] | Iterable[Node[object]] = (),
        on_error: OnError = "fail",
    ) -> Node[Any]:
        """Add a node that completes with a signal of the flow, `handle.signal(name, value)`; the value is its
        output. Each node takes one signal, also one that came before. kind: the type of the value. timeout:
        after which the node fails (seconds, timedelta or "7d"). Raises InvalidOption."""
        more: dict[str, object] = {"g": checked_name(signal)}
        if timeout is not None:
            more["z"] = max(1, round(seconds(timeout, "timeout") * 1000))
        parents = [one.number for one in self._flow.given(after)]
        hint = None if kind is Any else kind
        return self._control("wait", name, parents, more, hint=hint, on_error=on_error)

    @overload
    def first(
        self, one: Node[R], other: Node[T], /, *, name: str | None = None, on_error: OnError = "fail"
    ) -> Node[R | T]: ...
    @overload
    def first(
        self, *nodes: Node[object], name: str | None = None, on_error: OnError = "fail"
    ) -> Node[Any]: ...

    def first(self, *nodes: Node[object], name: str | None = None, on_error: OnError = "fail") -> Node[Any]:
        """Add a node that completes with the first of these that does, whose output it has; the others, and
        what runs for them alone, are skipped, and their tasks cancelled. It fails if none of them completes.
        No other node can wait for them. Raises InvalidOption and InvalidArguments."""
        numbers = list(dict.fromkeys(one.number for one in self._flow.given(nodes)))
        if len(numbers) < 2:
            raise InvalidArguments(
                "first() takes at least two nodes: wf.first(wf.wait('go'), wf.sleep('1h'))"
            )
        for number in numbers:
            waits = next((one.name for one in self._flow.nodes if number in one.waits), None)
            if waits is not None:
                racer = self._flow.nodes[number].name
                raise InvalidOption(f"first(): node {waits!r} waits for {racer!r}, which may be skipped")
        found: Node[object] = self._control("first", name, numbers, {}, hint=None, on_error=on_error)
        self._flow.raced |= dict.fromkeys(numbers, found.name)
        return found

    def _control(
        self,
        kind: NodeKind,
        name: str | None,
        parents: Sequence[int],
        more: Mapping[str, object],
        *,
        hint: object,
        on_error: OnError = "fail",
    ) -> Node[object]:
        """Add a node without a task."""
        number = self._flow.declare_control(kind, name, parents, more, on_error)
        return Node(self, number, self._flow.nodes[number].name, of_map=False, hint=hint)

    def chain(self, *calls: Bound[object]) -> Node[Any]:
        """Add calls that run one after the other; return the node of the last."""
        node: Node[object] | None = None
        for call in calls:
            node = self.add(call, after=() if node is None else node)
        if node is None:
            raise InvalidArguments("chain() takes at least one call: wf.chain(a.bind(), b.bind())")
        return node

    def group(self, *calls: Bound[R], after: Node[object] | Iterable[Node[object]] = ()) -> list[Node[R]]:
        """Add calls that run side by side; return their nodes. `after=` takes that list."""
        before = self._flow.given(after)
        return [self.add(call, after=before) for call in calls]

    def on_failure(self, call: Bound[R], *, name: str | None = None) -> Node[R]:
        """Set the call that runs once if the flow fails, when nothing else of it runs any more. It may have
        `wf.failure` as an argument."""
        if self._on_failure is not None:
            raise InvalidOption(f"flow {self.name!r} has a call for its failure already")
        if any(one.kind != "failure" for one in listed(outputs_of(call))):
            raise InvalidOption("the call for a failure cannot have outputs of nodes: they may not exist")
        number = self._flow.declare(call.handler, name, "fail", "task", {}, call, outputs_of(call))
        self._on_failure = number
        return Node(self, number, self._flow.nodes[number].name, of_map=False, hint=None)

    def node_of(self, returns: object) -> str:
        """Return the name of the node whose output this is, of one whose result is sure to be of that type.
        Raises InvalidArguments and InvalidOption for another."""
        return self._flow.name_of(returns)

    # -- starting --------------------------------------------------------------------------------------

    def start(self, key: str | None = None) -> FlowHandle:
        """Start the flow. key: of flows with one key one is started, and its handle is returned, with
        `duplicate`, as long as it is stored. Raises RedisErrors."""
        refuse("FlowGraph.start()", "await wf.astart()")
        return self._handle(self._enqueuer.drive(start(self._registry, self._declared(), self._key(key))))

    async def astart(self, key: str | None = None) -> FlowHandle:
        """Start the flow, as `start` does."""
        steps = start(self._registry, self._declared(), self._key(key))
        return self._handle(await self._enqueuer.adrive(steps))

    def _key(self, key: str | None) -> str:
        return "" if key is None else f"{self.name}:{key_text(key, 'key')}"

    def _handle(self, built: Built) -> FlowHandle:
        return FlowHandle(
            built.id, self._registry, self._enqueuer, duplicate=built.duplicate, last=built.last
        )

    def _declared(self) -> Declares:
        if not self._flow.nodes or (self._on_failure is not None and len(self._flow.nodes) == 1):
            raise InvalidOption(f"flow {self.name!r} has no nodes: wf.add(task.bind(...))")
        return Declares(self.name, self._flow.nodes, self._on_failure, fail_fast=self._fail_fast)


def declared_of(graph: FlowGraph, registry: Registry) -> Declares:
    """Return what was declared, to run for a task of this app. Raises InvalidOption for another's."""
    if registry is not graph._registry:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        raise InvalidOption(f"flow {graph.name!r} is of another app: make it with that of the handler")
    return graph._declared()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def _list_of(hint: object) -> object:
    """Return the annotation of a list of such items; None if it is not known."""
    return None if hint is None else types.GenericAlias(list, (hint,))

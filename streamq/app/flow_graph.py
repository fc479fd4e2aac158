"""The declaration of a flow in a program: its nodes, what they wait for, and how it is started.

Owns the public interface for declaring flows, and the checks in the caller's line. A node can only name nodes
that exist already, so there is no cycle. How a flow is stored is in `flow_builder`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Concatenate, Final, Generic, Literal, TypeVar, cast, overload

from streamq.app.bound_task import Bound, BoundNode
from streamq.app.enqueuer import Enqueuer
from streamq.app.expand import Expand, check_child
from streamq.app.flow_builder import Built, Declared, Declares, start
from streamq.app.flow_handle import FlowHandle
from streamq.app.task_type import TaskType
from streamq.blocking import refuse
from streamq.calls.flows import MOST
from streamq.client.signals import checked_name
from streamq.errors import InvalidArguments, InvalidOption, PayloadError
from streamq.flows import needs
from streamq.flows.advancing import MOST_CHILDREN
from streamq.flows.inputs import Failure
from streamq.flows.needs import Need, OfFailure, OfMap
from streamq.flows.reading import NodeKind
from streamq.model.output import NamesOutputs, Output
from streamq.options.checks import Duration, key_text, seconds
from streamq.options.names import check_name
from streamq.registry.handler import Handler
from streamq.registry.registry import Registry

R = TypeVar("R")
T = TypeVar("T")
OnError = Literal["fail", "continue"]
Undo = TaskType[..., Any, Any] | Bound[Any]
"""What undoes a node: a task that is called with its result, or a call."""

MOST_STATIC: Final = 10_000
"""The most nodes that are declared one by one."""
MOST_PARENTS: Final = 1_000
"""The most nodes that one node waits for; a map has any number of children."""
_NUMBERS: Final = (int, float)


class _OutputOf:
    """The attribute `output` of a node."""

    @overload
    def __get__(self, node: Node[Expand[Expand[T]]], owner: object) -> list[list[T]]: ...
    @overload
    def __get__(self, node: Node[Expand[T]], owner: object) -> list[T]: ...
    @overload
    def __get__(self, node: Node[list[Expand[T]]], owner: object) -> list[list[T]]: ...
    @overload
    def __get__(self, node: Node[R], owner: object) -> R: ...

    def __get__(self, node: Any, owner: object) -> Any:
        return self if node is None else node


class _OutcomeOf:
    """The attribute `outcome` of a node."""

    @overload
    def __get__(self, node: Node[Expand[T]], owner: object) -> list[T | Failure]: ...
    @overload
    def __get__(self, node: Node[R], owner: object) -> R | Failure: ...

    def __get__(self, node: Any, owner: object) -> Any:
        return self if node is None else Output(node.graph, node.number, node.kind, tolerant=True)


class Node(Output, Generic[R]):
    """A node of a flow that is being declared. Its `output` stands for what its handler will return."""

    __slots__ = ("name",)

    def __init__(self, graph: FlowGraph, number: int, name: str, *, of_map: bool, hint: Any) -> None:
        super().__init__(graph, number, "map" if of_map else "one", hint=hint)
        self.name: str = name

    def __repr__(self) -> str:
        return f"<Node {self.name!r}>"

    output: _OutputOf = _OutputOf()
    """What the node returns, as an argument for the `bind` of another node's call; of a handler that returns
    Expand the list of its children's results."""
    outcome: _OutcomeOf = _OutcomeOf()
    """The same, or a Failure where the node failed: for one with on_error="continue"."""

    def then(self, call: Bound[T], *, name: str | None = None, on_error: OnError = "fail") -> Node[T]:
        """Add a call that runs after this node."""
        graph = cast("FlowGraph", self.graph)
        return graph.add(call, name=name, after=self, on_error=on_error)


class FlowGraph:
    """A flow that is being declared: made by `app.flow(name)`, started by `start` or `astart`."""

    def __init__(self, registry: Registry, enqueuer: Enqueuer, name: str, *, fail_fast: bool = False) -> None:
        check_name(name, "a flow")
        self.name: str = name
        self._registry, self._enqueuer = registry, enqueuer
        self._nodes: list[Declared] = []
        self._names: dict[str, int] = {}
        self._raced: dict[int, str] = {}
        self._on_failure: int | None = None
        self._fail_fast = fail_fast

    def __repr__(self) -> str:
        return f"<FlowGraph {self.name!r} with {len(self._nodes)} nodes>"

    @property
    def failure(self) -> Failure:
        """Why the flow failed, as an argument for the call that is given to `on_failure`."""
        return cast("Failure", Output(self, 0, "failure", tolerant=True))

    def add(
        self,
        call: Bound[R],
        *,
        name: str | None = None,
        after: Node[Any] | Iterable[Node[Any]] = (),
        on_error: OnError = "fail",
        undo: Undo | None = None,
    ) -> Node[R]:
        """Add a call. It runs when the nodes whose output it has as an argument have completed, and those of
        `after`. on_error: whether its failure fails the flow, or is handed on, as a Failure. undo: a task
        that is called with its result, or a call, where the flow fails or is cancelled after it has
        completed. The output of a handler that returns Expand is the list of its children's results. Raises
        InvalidOption and InvalidArguments."""
        waits, needed = self._inputs(call), _outputs(call)
        parents = dict.fromkeys([*waits, *(one.number for one in self._given(after))])
        if any(_is(one, "failure") for one in needed.values()):
            raise InvalidOption("wf.failure is for the call that is given to wf.on_failure(...)")
        if undo is not None:  # all checks come before the node
            undo = self._undo_of(call.handler, undo)
        number = self._declare(call.handler, name, on_error, "task", parents, call, needed)
        declared = self._nodes[number]
        if undo is not None:
            declared.undo = self._declare_undo(number, declared.name, undo)
        return Node(self, number, declared.name, of_map=False, hint=_result_of(call.handler))

    def _undo_of(self, handler: Handler, undo: Undo) -> Bound[Any]:
        """Return the call that undoes a node of this handler."""
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
            result = Output(self, len(self._nodes), "item", hint=_result_of(handler))
            _fits(result, undo.handler, argument)
            found = undo.bind(result)
            if handler.expands:
                raise InvalidOption(
                    f"undo: task type {handler.name!r} returns children, which may not all complete: give "
                    "them what undoes them in flows of their own, or pass a call, undo=refund.bind(...)"
                )
        if any(one.kind != "item" for one in _listed(_outputs(found))):
            raise InvalidOption("undo: its call is given values, or the result of its own node only")
        self._check(found.handler, found, "fail", 0)
        return found

    def _declare_undo(self, number: int, name: str, call: Bound[Any]) -> int:
        tail = needs.written(dict.fromkeys(_outputs(call), number))
        undo = self._named(None, f"undo-{name}"[:100])
        self._nodes.append(Declared(undo, call.handler, "undo", [], call.task, tail, tolerated=False))
        return len(self._nodes) - 1

    def map(
        self,
        task: TaskType[Concatenate[T, ...], R, Any],
        source: Node[list[T]] | Iterable[T],
        *,
        fixed: Mapping[str, object] | None = None,
        name: str | None = None,
        after: Node[Any] | Iterable[Node[Any]] = (),
        on_error: OnError = "fail",
    ) -> Node[list[R]]:
        """Add a node that calls a task for each item of a list, or of the list that another node returns: at
        most 10,000. The item is the first argument, `fixed` are the others by name. Its output is the list of
        their results, in the order of the items."""
        handler = task.handler
        argument = handler.first_argument
        if argument is None:
            raise InvalidArguments(f"task type {handler.name!r} takes no argument for the items of a map")
        item = Output(self, 0, "item")
        call = cast("Bound[Any]", task.bind(cast("T", item), **(fixed or {})))
        if isinstance(source, Output):
            items = None
            _fits(source, handler, argument, item=True)
        else:
            items = self._items(task, source, fixed or {})
        waits, needed = self._inputs(call), _outputs(call)
        parents = dict.fromkeys([*waits, *(one.number for one in self._given(after))])
        origin = None
        if isinstance(source, Node):
            origin = self._owned(source).number
            parents[origin] = None
            self._check_tolerant(source, allowed=False)
        number = self._declare(handler, name, on_error, "map", parents, call, needed)
        declared = self._nodes[number]
        declared.source, declared.argument, declared.items = origin, argument, items
        result = handler.hint("return")
        return Node(
            self,
            number,
            declared.name,
            of_map=True,
            hint=None if result is None else types.GenericAlias(list, (result,)),
        )

    def sleep(
        self,
        duration: Duration,
        *,
        name: str | None = None,
        after: Node[Any] | Iterable[Node[Any]] = (),
    ) -> Node[None]:
        """Add a timer: a node that completes so long after the nodes of `after` (seconds, timedelta or "1h").
        It takes no slot. A daemon ends it, about a second late at most. Raises InvalidOption."""
        ms = max(1, round(seconds(duration, "duration") * 1000))
        parents = [one.number for one in self._given(after)]
        return self._control("sleep", name, parents, {"z": ms}, hint=None)

    @overload
    def wait(
        self, signal: str, kind: type[T], *, timeout: Duration | None = None, name: str | None = None,
        after: Node[Any] | Iterable[Node[Any]] = (), on_error: OnError = "fail",
    ) -> Node[T]: ...  # fmt: skip
    @overload
    def wait(
        self, signal: str, *, timeout: Duration | None = None, name: str | None = None,
        after: Node[Any] | Iterable[Node[Any]] = (), on_error: OnError = "fail",
    ) -> Node[Any]: ...  # fmt: skip

    def wait(
        self,
        signal: str,
        kind: Any = Any,
        *,
        timeout: Duration | None = None,
        name: str | None = None,
        after: Node[Any] | Iterable[Node[Any]] = (),
        on_error: OnError = "fail",
    ) -> Node[Any]:
        """Add a node that completes with a signal of the flow, `handle.signal(name, value)`; the value is its
        output. Each node takes one signal, also one that came before. kind: the type of the value. timeout:
        after which the node fails (seconds, timedelta or "7d"). Raises InvalidOption."""
        more: dict[str, object] = {"g": checked_name(signal)}
        if timeout is not None:
            more["z"] = max(1, round(seconds(timeout, "timeout") * 1000))
        parents = [one.number for one in self._given(after)]
        hint = None if kind is Any else kind
        return self._control("wait", name, parents, more, hint=hint, on_error=on_error)

    @overload
    def first(
        self, one: Node[R], other: Node[T], /, *, name: str | None = None, on_error: OnError = "fail"
    ) -> Node[R | T]: ...
    @overload
    def first(self, *nodes: Node[Any], name: str | None = None, on_error: OnError = "fail") -> Node[Any]: ...

    def first(self, *nodes: Node[Any], name: str | None = None, on_error: OnError = "fail") -> Node[Any]:
        """Add a node that completes with the first of these that does, whose output it has; the others, and
        what runs for them alone, are skipped, and their tasks cancelled. It fails if none of them completes.
        No other node can wait for them. Raises InvalidOption and InvalidArguments."""
        numbers = list(dict.fromkeys(one.number for one in self._given(nodes)))
        if len(numbers) < 2:
            raise InvalidArguments(
                "first() takes two nodes at least: wf.first(wf.wait('go'), wf.sleep('1h'))"
            )
        for number in numbers:
            waits = next((one.name for one in self._nodes if number in one.waits), None)
            if waits is not None:
                racer = self._nodes[number].name
                raise InvalidOption(f"first(): node {waits!r} waits for {racer!r}, which may be skipped")
        found: Node[Any] = self._control("first", name, numbers, {}, hint=None, on_error=on_error)
        self._raced |= dict.fromkeys(numbers, found.name)
        return found

    def _control(
        self,
        kind: NodeKind,
        name: str | None,
        parents: Sequence[int],
        more: Mapping[str, object],
        *,
        hint: Any,
        on_error: OnError = "fail",
    ) -> Node[Any]:
        """Add a node without a task."""
        self._check_node(on_error, len(parents))
        number = len(self._nodes)
        named = self._named(name, kind)
        tolerated = on_error == "continue"
        self._nodes.append(
            Declared(named, None, kind, list(dict.fromkeys(parents)), None, "", tolerated, dict(more))
        )
        return Node(self, number, named, of_map=False, hint=hint)

    def chain(self, *calls: Bound[Any]) -> Node[Any]:
        """Add calls that run one after the other; return the node of the last."""
        node: Node[Any] | None = None
        for call in calls:
            node = self.add(call, after=() if node is None else node)
        if node is None:
            raise InvalidArguments("chain() takes at least one call: wf.chain(a.bind(), b.bind())")
        return node

    def group(self, *calls: Bound[R], after: Node[Any] | Iterable[Node[Any]] = ()) -> list[Node[R]]:
        """Add calls that run side by side; return their nodes. `after=` takes that list."""
        before = self._given(after)
        return [self.add(call, after=before) for call in calls]

    def on_failure(self, call: Bound[R], *, name: str | None = None) -> Node[R]:
        """Set the call that runs once if the flow fails, when nothing else of it runs any more. It may have
        `wf.failure` as an argument."""
        if self._on_failure is not None:
            raise InvalidOption(f"flow {self.name!r} has a call for its failure already")
        if any(one.kind != "failure" for one in _listed(_outputs(call))):
            raise InvalidOption("the call for a failure cannot have outputs of nodes: they may not exist")
        number = self._declare(call.handler, name, "fail", "task", {}, call, _outputs(call))
        self._on_failure = number
        return Node(self, number, self._nodes[number].name, of_map=False, hint=None)

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
        return FlowHandle(built.id, self._registry, self._enqueuer, duplicate=built.duplicate)

    def _declared(self) -> Declares:
        if not self._nodes or (self._on_failure is not None and len(self._nodes) == 1):
            raise InvalidOption(f"flow {self.name!r} has no nodes: wf.add(task.bind(...))")
        return Declares(self.name, self._nodes, self._on_failure, fail_fast=self._fail_fast)

    # -- checks ----------------------------------------------------------------------------------------

    def _inputs(self, call: Bound[Any]) -> list[int]:
        """Return the nodes whose outputs a call has as arguments. Raises InvalidOption, InvalidArguments."""
        waits: list[int] = []
        for argument, given in _outputs(call).items():
            for one in given if isinstance(given, list) else [given]:
                if one.kind in ("item", "failure"):
                    continue
                self._owned(one)
                self._check_tolerant(one, allowed=one.tolerant)
                if not isinstance(given, list):
                    _fits(one, call.handler, argument)
                elif one.kind == "map":
                    raise InvalidArguments(
                        f"argument {argument}: the output of a map is a list: pass it alone"
                    )
                waits.append(one.number)
        return waits

    def _owned(self, one: Output) -> Output:
        if one.graph is not self:
            raise InvalidOption(
                f"{one!r} is a node of another flow: a flow waits for its own nodes only. Add its call to "
                "this one"
            )
        if one.kind != "failure" and one.number in self._raced:
            racer, race = self._nodes[one.number].name, self._raced[one.number]
            raise InvalidOption(
                f"node {racer!r} may be skipped, as it takes part in {race!r}: wait for that one"
            )
        return one

    def _given(self, after: Node[Any] | Iterable[Node[Any]]) -> list[Node[Any]]:
        listed = [after] if isinstance(after, Node) else list(after)
        for one in listed:
            if not isinstance(one, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidArguments(f"after={one!r:.80} is not a node: pass what wf.add(...) has returned")
            self._owned(one)
        return listed

    def _check_tolerant(self, one: Output, *, allowed: bool) -> None:
        node = self._nodes[one.number]
        if node.tolerated and not allowed and one.kind != "map":
            raise InvalidOption(
                f"node {node.name!r} has on_error='continue', so there may be a Failure instead of its "
                "output: "
                "pass its `outcome`"
            )

    def _declare(
        self,
        handler: Handler,
        name: str | None,
        on_error: OnError,
        kind: NodeKind,
        parents: Mapping[int, None],
        call: Bound[Any],
        outputs: Mapping[str, Output | list[Output]],
    ) -> int:
        self._check(handler, call, on_error, len(parents))
        number = len(self._nodes)
        tail = needs.written({key: _need(one) for key, one in outputs.items() if not _is(one, "item")})
        self._nodes.append(
            Declared(
                self._named(name, handler.name),
                handler,
                kind,
                list(parents),
                call.task,
                tail,
                on_error == "continue",
            )
        )
        return number

    def _check(self, handler: Handler, call: Bound[Any], on_error: str, parents: int) -> None:
        """Raise InvalidOption for a call that cannot be a node as it is meant."""
        name = handler.name
        if self._registry.handlers.get(name) is not handler and handler.app != "":
            raise InvalidOption(
                f"task type {name!r} belongs to app {handler.app!r}: a flow has nodes of its own app, "
                f"{self._registry.name!r}"
            )
        check_child(handler, call)
        self._check_node(on_error, parents)

    def _check_node(self, on_error: str, parents: int) -> None:
        """Raise InvalidOption for what no node can have."""
        if on_error not in ("fail", "continue"):
            raise InvalidOption(f"on_error={on_error!r:.40}: 'fail' or 'continue'")
        if parents > MOST_PARENTS:
            raise InvalidOption(f"a node waits for at most {MOST_PARENTS:,} others: use a map")
        if len(self._nodes) >= MOST_STATIC:
            raise InvalidOption(
                f"a flow has at most {MOST_STATIC:,} nodes that are declared one by one: use a map for "
                "the same "
                f"call with many arguments (all in all at most {MOST:,} nodes)"
            )

    def _named(self, name: str | None, default: str) -> str:
        """Return the name of a node: the given one, or one that no other node has."""
        if name is not None:
            check_name(name, "a node")
            if name in self._names:
                raise InvalidOption(f"flow {self.name!r} has a node {name!r} already: give each another name")
            self._names[name] = 1
            return name
        found = default
        while found in self._names:
            self._names[default] += 1
            found = f"{default}-{self._names[default]}"
        self._names[found] = 1
        return found

    def _items(
        self, task: TaskType[Concatenate[T, ...], R, Any], source: Iterable[T], fixed: Mapping[str, object]
    ) -> list[bytes]:
        """Return the payload of each child of a map over a list."""
        found: list[bytes] = []
        handler = task.handler
        for one in source:
            if len(found) == MOST_CHILDREN:
                raise PayloadError(f"a map goes over at most {MOST_CHILDREN:,} items: split the list")
            if isinstance(one, Output):
                raise InvalidArguments("a map goes over one node, or over values: not over a list of nodes")
            try:
                payload = handler.payload((one,), fixed)
            except NamesOutputs as named:
                payload = named.payload
            found.append(handler.stored(payload))
        return found


def declared_of(graph: FlowGraph, registry: Registry) -> Declares:
    """Return what was declared, to run for a task of this app. Raises InvalidOption for another's."""
    if registry is not graph._registry:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        raise InvalidOption(f"flow {graph.name!r} is of another app: make it with that of the handler")
    return graph._declared()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def _outputs(call: Bound[Any]) -> Mapping[str, Output | list[Output]]:
    if not isinstance(call, Bound):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArguments(f"{call!r:.80} is not a call: pass task_type.bind(...)")
    return call.outputs if isinstance(call, BoundNode) else {}


def _result_of(handler: Handler) -> object:
    """Return the type of a node's output; None if it is not known."""
    hint = handler.hint("return")
    if not handler.expands:
        return hint
    return types.GenericAlias(list, typing.get_args(hint) or (Any,))


def _listed(outputs: Mapping[str, Output | list[Output]]) -> list[Output]:
    return [one for given in outputs.values() for one in (given if isinstance(given, list) else [given])]


def _is(one: Output | list[Output], *kinds: str) -> bool:
    return isinstance(one, Output) and one.kind in kinds


def _need(one: Output | list[Output]) -> Need:
    if isinstance(one, list):
        return [each.number for each in one]
    if one.kind == "failure":
        return OfFailure()
    return OfMap(one.number) if one.kind == "map" else one.number


def _fits(one: Output, handler: Handler, argument: str, *, item: bool = False) -> None:
    """Raise InvalidArguments where an output cannot be what an argument takes: both are plain classes, and
    are not related."""
    given, wanted = one.hint, handler.hint(argument)
    if item:
        if given is None or given is Any:
            return
        if typing.get_origin(given) not in (list, Sequence, tuple) and given is not list:
            raise InvalidArguments(f"a map goes over a list: node {one!r} returns {_text(given)}")
        parts = typing.get_args(given)
        given = parts[0] if parts else None
    given, wanted = _plain(given), _plain(wanted)
    if given is None or wanted is None or object in (given, wanted):
        return
    if issubclass(given, wanted) or issubclass(wanted, given) or (wanted is float and given is int):
        return
    raise InvalidArguments(
        f"argument {argument} of task type {handler.name!r} takes {_text(wanted)}, and node {one!r} returns "
        f"{_text(given)}"
    )


def _plain(hint: object) -> type | None:
    """Return the class of values with this annotation; None if it is not as plain as that."""
    origin = typing.get_origin(hint)
    if origin in (list, dict, tuple, set, frozenset):
        return cast("type", origin)
    return hint if origin is None and isinstance(hint, type) else None


def _text(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)

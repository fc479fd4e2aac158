"""The children of a flow's node: what its handler returns as `Expand`, or adds with `spawn`.

Owns their checks and their bounds. Sends nothing: they travel with the settlement of the attempt.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Concatenate, Final, Generic, TypeVar, overload

from streamq.app.batch import checked
from streamq.app.bound_task import Bound, BoundNode
from streamq.app.flow_arguments import check_fits
from streamq.app.task_type import TaskType
from streamq.errors import InvalidArguments, InvalidOption, PayloadError, UsageError
from streamq.flows.advancing import MOST_CHILDREN
from streamq.flows.inputs import Failure
from streamq.model.delivery import Delivery
from streamq.model.effect import Continued, Spawned
from streamq.model.expansion import Child, Expansion, Join
from streamq.model.output import Output
from streamq.registry.growth import MOST_TYPES
from streamq.registry.handler import Handler
from streamq.registry.registry import Registry

R = TypeVar("R")
J = TypeVar("J")
T = TypeVar("T")

MOST_SPAWNED: Final = 1_000
MOST_BYTES: Final = 524_288
"""The most children that an attempt spawns, and bytes of their arguments together."""


class Expand(Expansion, Generic[R]):
    """Calls that a flow's node returns as its result: they run as its children, side by side, and the output
    of the node is the list of their results, in order. Of a handler that is annotated `-> Expand[R]`.

    Raises InvalidArguments and InvalidOption for a call that cannot be a child, PayloadError for more than
    10,000.
    """

    __slots__ = ()

    def __init__(self, calls: Iterable[Bound[R]]) -> None:
        listed = list(calls)
        if len(listed) > MOST_CHILDREN:
            raise PayloadError(
                f"{len(listed):,} children: a node has at most {MOST_CHILDREN:,}. Let each expand a part"
            )
        super().__init__(tuple(_child(call) for call in _calls(listed)))
        _check_types(self.children)

    @overload
    def then(self: Expand[Joined[T]], call: TaskType[Concatenate[list[T], ...], J, Any]) -> Joined[J]: ...
    @overload
    def then(
        self: Expand[Expand[T]], call: TaskType[Concatenate[list[list[T]], ...], J, Any]
    ) -> Joined[J]: ...
    @overload
    def then(self, call: TaskType[Concatenate[list[R], ...], J, Any]) -> Joined[J]: ...
    @overload
    def then(self, call: TaskType[Concatenate[list[R | Failure], ...], J, Any]) -> Joined[J]: ...
    @overload
    def then(self, call: Bound[J]) -> Joined[J]: ...

    def then(self, call: TaskType[..., Any, Any] | Bound[Any]) -> Joined[Any]:
        """Return these children with one that runs when they have completed, and whose result is the output
        of the node: a task that is called with the list of their results, or a call. Raises InvalidArguments
        and InvalidOption."""
        join = _join(call)
        _check_types([*self.children, join.child])
        return Joined(self.children, join)


class Joined(Expansion, Generic[J]):
    """What `Expand(…).then(…)` returns: calls, and the one that runs behind them. Of a handler that is
    annotated `-> Joined[J]`, J being what that one returns."""

    __slots__ = ()
    JOINS: ClassVar = True


def _join(call: TaskType[..., Any, Any] | Bound[Any]) -> Join:
    if isinstance(call, Bound):
        [bound] = _calls([call])
        return Join(_child(bound), "")
    if not isinstance(call, TaskType):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArguments(f"then({call!r:.80}): pass a task type, such as total, or total.bind(...)")
    argument = call.handler.first_argument
    if argument is None:
        raise InvalidArguments(
            f"then(): task type {call.handler.name!r} takes no argument for the list of results: pass "
            f"then({call.handler.name}.bind())"
        )
    results = Output(None, 0, "item", hint=list)
    check_fits(results, call.handler, argument)
    return Join(_child(call.bind(results)), argument)


def _calls(listed: Iterable[object]) -> list[Bound[object]]:
    found: list[Bound[object]] = []
    for one in listed:
        if not isinstance(one, Bound):
            raise InvalidArguments(f"{one!r:.80} is not a call: pass task_type.bind(...)")
        if isinstance(one, BoundNode):
            raise InvalidArguments("a child is given values: the output of a flow's node has none yet")
        found.append(one)
    return found


def _child(call: Bound[object]) -> Child:
    handler = call.handler
    check_child(handler, call)
    return Child(handler.name, call.task)


def _check_types(children: Sequence[Child]) -> None:
    if len({one.type for one in children}) > MOST_TYPES:
        raise InvalidOption(f"the children of a node are of at most {MOST_TYPES} task types")


def check_child(handler: Handler, call: Bound[object]) -> None:
    """Raise InvalidOption for a call that cannot be a node of a flow as it is meant."""
    name = handler.name
    if call.task.key is not None or handler.lock is not None or '"u' in call.task.joins:
        raise InvalidOption(
            f"task type {name!r}: a node has no unique key and no idempotency key, as the flow itself starts "
            "it once. Give the flow a key: wf.start(key=...)"
        )
    if call.route is not None and call.route.shard_key is not None and not call.task.joins:
        raise InvalidOption("shard_key: a flow lives in one shard, which its own key chooses")
    if handler.options.batch is not None:
        raise InvalidOption(f"task type {name!r} takes batches, and a node is one call: use another type")


class Spawns:
    """Takes the calls that an app's handlers spawn. Safe to call in any thread."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()

    def spawn(self, task: Delivery, before: list[object], calls: Iterable[object]) -> None:
        """Check calls and add them to those before. Adds all or none."""
        if not task.node:
            raise UsageError(
                f"task {task.id} is no node of a flow: nothing would wait for what it spawns. "
                "Enqueue follow-ups with get_context().enqueue(...)"
            )
        listed = checked(_calls(calls), self._registry.name, self._registry.handlers)
        children = [Spawned(_child(call)) for call in listed]
        if any(isinstance(one, Continued) for one in before):
            raise UsageError(
                "the attempt goes on as a new run, and only the last run of a node has children: spawn them "
                "there"
            )
        with self._lock:
            _check_bounds([one for one in before if isinstance(one, Spawned)] + children)
            self._check_place(task)
            before += children

    def _check_place(self, task: Delivery) -> None:
        own = self._registry.handlers.get(task.type)
        if own is not None and own.expands:
            raise UsageError(
                f"task type {task.type!r} returns its children as Expand: put these calls there too, "
                "instead of spawning them"
            )


def _check_bounds(spawned: Sequence[Spawned]) -> None:
    if len(spawned) > MOST_SPAWNED:
        raise PayloadError(
            f"{len(spawned):,} children: an attempt spawns at most {MOST_SPAWNED:,}. Return Expand([...]), "
            "or let children spawn a part"
        )
    size = sum(len(one.child.task.payload) for one in spawned)
    if size > MOST_BYTES:
        raise PayloadError(
            f"the children of an attempt have {size:,} bytes, over the limit of {MOST_BYTES:,}. "
            "Store the data elsewhere and pass references"
        )
    _check_types([one.child for one in spawned])

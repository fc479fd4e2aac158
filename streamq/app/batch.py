"""The calls of one `enqueue_many`: the destination of each, which are sent together, and the handle of each.

Owns the mapping from calls to answers. Must not send anything: the enqueuer does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from streamq.app.bound_task import Bound, BoundNode
from streamq.app.handle import TaskHandle
from streamq.app.refusals import existing_of, refuse
from streamq.client.flows import Destination
from streamq.errors import InvalidArguments
from streamq.model.task import Accepted, Answer, Duplicate, NewTask, Unconfirmed, Unjoined
from streamq.options.checks import Durability
from streamq.registry.handler import Handler

R = TypeVar("R")

EXISTS: Final = (Accepted, Duplicate)
MakeHandle = Callable[[Handler, int, Accepted | Duplicate], TaskHandle[R]]


class Group(NamedTuple):
    """Tasks of one type for one shard, which are sent together. numbers: their positions in the batch."""

    task_type: str
    shard: int
    durability: Durability
    tasks: list[NewTask]
    numbers: list[int]


class Batch(Generic[R]):
    """Calls in order, with the destination of each and, once it is known, the server's answer."""

    def __init__(self, bound: Sequence[Bound[R]], destinations: Sequence[Destination]) -> None:
        self._bound = list(bound)
        self._destinations = list(destinations)
        self._answers: list[Answer | None] = [destination.answer for destination in destinations]
        self._unjoined = False

    def groups(self) -> Iterable[Group]:
        """Return what must be sent: each call that has no answer yet."""
        groups: dict[tuple[str, int, Durability], Group] = {}
        group, handler, shard, route = None, None, -1, None
        for n, (item, destination, answer) in enumerate(
            zip(self._bound, self._destinations, self._answers, strict=True)
        ):
            if answer is not None:
                continue
            # Mostly a call goes where the one before it went: a look at its parts is cheaper than a key.
            same = item.handler is handler and destination.shard == shard and item.route is route
            if group is None or not same:
                handler, shard, route = item.handler, destination.shard, item.route
                key = (handler.name, shard, route.durability if route else "master")
                group = groups.get(key) or Group(*key, [], [])
                groups[key] = group
            group.tasks.append(item.task)
            group.numbers.append(n)
        return groups.values()

    def answered(self, group: Group, answers: Sequence[Answer]) -> None:
        """Note the server's answers to a group."""
        for n, answer in zip(group.numbers, answers, strict=True):
            self._answers[n] = answer
        if Unjoined in set(map(type, answers)):
            self._unjoined = True

    def unjoined(self) -> list[int]:
        """Return the positions of calls that lack the unique key that their type's policy asks for."""
        if not self._unjoined:
            return []
        return [n for n, answer in enumerate(self._answers) if isinstance(answer, Unjoined)]

    def at(self, n: int) -> tuple[Bound[R], Destination]:
        """Return a call and its destination."""
        return self._bound[n], self._destinations[n]

    def rejoin(self, n: int, bound: Bound[R], destination: Destination) -> None:
        """Replace a call that lacked its unique key: it is sent again."""
        self._bound[n], self._destinations[n], self._answers[n] = bound, destination, destination.answer

    def handles(self, handle: MakeHandle[R]) -> list[TaskHandle[R]]:
        """Return the handle of each call. Raises the error of the first that was refused."""
        rows = zip(self._bound, self._destinations, self._answers, strict=True)
        handles = [
            handle(item.handler, destination.shard, answer)
            for item, destination, answer in rows
            if isinstance(answer, EXISTS)
        ]
        if len(handles) < len(self._bound):
            self._refuse(handle)
        return handles

    def _refuse(self, handle: MakeHandle[R]) -> None:
        rows = list(zip(self._bound, self._destinations, self._answers, strict=True))
        handles: list[TaskHandle[R] | None] = []
        for item, destination, answer in rows:
            exists = existing_of(answer) if answer is not None else None
            handles.append(handle(item.handler, destination.shard, exists) if exists else None)
        # An unconfirmed task comes first: a refusal would mean that all other tasks are as durable as asked.
        for item, destination, answer in sorted(rows, key=lambda row: not isinstance(row[2], Unconfirmed)):
            if answer is not None and not isinstance(answer, EXISTS):
                refuse(item.handler.name, destination.shard, answer, handles)


def checked(bound: Iterable[Bound[R]], app: str, handlers: Mapping[str, Handler]) -> Sequence[Bound[R]]:
    """Return the calls as a list. Raises InvalidArguments for one that is not a call of this app."""
    listed = bound if isinstance(bound, list) else list(bound)
    if not set(map(type, listed)) <= {Bound}:
        if any(isinstance(item, BoundNode) for item in listed):
            raise InvalidArguments(
                "an argument is the output of a flow's node, which has no value yet: add the call to the "
                "flow, as wf.add(task_type.bind(node.output))"
            )
        raise InvalidArguments(
            "enqueue_many takes calls: make them with task_type.bind(...) or app.bound(name, {...})"
        )
    for handler in {id(item.handler): item.handler for item in listed}.values():
        ours = handlers.get(handler.name) is handler
        if not ours and handler.app not in ("", app):
            raise InvalidArguments(
                f"task type {handler.name!r} belongs to app {handler.app!r}: the workers of {app!r} do "
                "not know it. Send the call with its own app"
            )
    return listed

"""A call as a value: its handler, the task it creates, and the destination of that task.

Owns how a policy and the options of a call become a new task; `binding` makes the call of it. Must not send
anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Generic, NamedTuple, NoReturn, TypeVar

from streamq import envelope
from streamq.errors import InvalidOption, UsageError
from streamq.model.task import NewTask
from streamq.options.call import CallOptions
from streamq.options.checks import Durability
from streamq.options.names import check_name
from streamq.options.task import TaskOptions
from streamq.options.unique_plan import Plan, UniqueOptions, plan, unique_options
from streamq.registry.handler import Handler

if TYPE_CHECKING:
    from streamq.app.handle import TaskHandle
    from streamq.model.output import Output

R_co = TypeVar("R_co", covariant=True)


class Route(NamedTuple):
    """The shard key or lock of a task that must go to a certain shard, and how durable it must be.

    shard_key: also the home of its lane. lock: the name of the unique key's lock; its home is that of the
    shard_key, its own if there is none. trailing: a repeated call is more than a duplicate: it must reach the
    shard that has its key. split: with several shards, the task's keys may have different homes.
    """

    shard_key: str | None
    durability: Durability
    lock: str | None = None
    trailing: bool = False
    split: bool = False


@dataclass(slots=True)  # not frozen: that would take three times as long to create
class Bound(Generic[R_co]):
    """A call of a task type, not sent yet, for `enqueue_many`. A plain call has no route."""

    handler: Handler
    task: NewTask
    route: Route | None = None

    if TYPE_CHECKING:

        def _enqueued(self) -> TaskHandle[R_co]: ...
        def _returned(self) -> R_co: ...

    else:

        def __await__(self) -> NoReturn:
            raise UsageError(
                "a bound call is not sent and cannot be awaited: write await app.aenqueue_many([...]), or "
                "await task.aenqueue(...) instead of task.bind(...)"
            )


@dataclass(slots=True)
class BoundNode(Bound[R_co]):
    """A call some of whose arguments are outputs of a flow's nodes: only that flow can run it."""

    outputs: Mapping[str, Output | list[Output]] = field(default_factory=dict[str, "Output | list[Output]"])


NO_OPTIONS = CallOptions()


def lock_of(handler: Handler, options: CallOptions) -> Plan | None:
    """Return the unique key rule of a call with options. Raises InvalidOption."""
    if options.version not in (None, handler.options.version) and handler.function is not in_another_program:
        raise InvalidOption(
            f"version={options.version}: task type {handler.name!r} is defined in this program, with version "
            f"{handler.options.version}: leave it out"
        )
    own = unique_options(options)
    found = handler.lock if own == _NO_UNIQUE_OPTIONS else plan(unique_options(handler.options), own)
    if found is not None:
        if options.shard_key is not None:
            raise InvalidOption(
                "shard_key and a unique key exclude each other: each determines the shard. Pass one of them"
            )
        if found.debounce_ms and (options.delay or options.at_ms is not None):
            raise InvalidOption("debounce sets when the task is due: leave out delay and at")
        if found.trailing and (options.delay or options.at_ms is not None):
            raise InvalidOption("trailing sets when the last call runs: leave out delay and at")
        handler.check_names(found.by)
    return found


_NO_UNIQUE_OPTIONS = UniqueOptions()
PLAIN = Route(None, "master")
_new = tuple.__new__


def new_task(policy: TaskOptions, options: CallOptions | None, payload: bytes) -> NewTask:
    """Return a payload as a task: the policy, with the options of the call."""
    if options is None:
        if policy.expires is None and policy.version == 1:
            return _new(NewTask, (payload, policy.priority, None, False, (), None, ""))
        options = NO_OPTIONS
    fields: list[tuple[str, bytes | str]] = []
    expires = options.expires if options.expires is not None else policy.expires
    if expires is not None:
        fields.append(("x", str(round(expires * 1000))))
    if options.overrides is not None:
        fields.append(("m", envelope.encode_overrides(options.overrides)))
    version = options.version or policy.version
    if version > 1:
        fields.append(("V", str(version)))
    due = options.at_ms if options.at_ms is not None else None
    if options.delay:
        due = max(1, round(options.delay * 1000))
    return NewTask(
        payload, options.priority or policy.priority, due, options.at_ms is not None, tuple(fields)
    )


@cache
def remote_handler(task_type: str) -> Handler:
    """Return a placeholder for the handler of a task type whose code is in another program."""
    handler = Handler(task_type, in_another_program, TaskOptions())
    check_name(task_type)
    return handler


def in_another_program(**_arguments: object) -> NoReturn:
    raise NotImplementedError("the handler of this task type is in another program")

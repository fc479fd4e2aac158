"""A call as a value: its handler, the task it creates, and the destination of that task.

Owns how a policy and the options of a call become a new task. Must not send anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, TypeVar

from streamq import envelope, joining, locks
from streamq.errors import DecodeError, InvalidOption, UsageError
from streamq.model.output import NamesOutputs, Output
from streamq.model.task import IdempotencyKey, NewTask
from streamq.options.call import CallOptions
from streamq.options.checks import Durability
from streamq.options.task import TaskOptions
from streamq.options.unique import Plan, UniqueOptions, plan, unique_options
from streamq.payloads.pipeline import opened
from streamq.payloads.ring import index_key
from streamq.payloads.stage import About
from streamq.registry.handler import Handler, check_name

if TYPE_CHECKING:
    from streamq.app.handle import TaskHandle

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


@dataclass(slots=True)
class BoundNode(Bound[R_co]):
    """A call some of whose arguments are outputs of a flow's nodes: only that flow can run it."""

    outputs: Mapping[str, Output | list[Output]] = field(default_factory=dict[str, "Output | list[Output]"])


_NO_OPTIONS = CallOptions()


def bound_to_outputs(handler: Handler, options: CallOptions | None, named: NamesOutputs) -> BoundNode[Any]:
    """Return a call with outputs of nodes as a value. It has a route, so that it is looked at where it is
    sent."""
    found = bound_to(handler, options, named.payload)
    return BoundNode(handler, found.task, found.route or Route(None, "master"), named.outputs)


def bound_to(handler: Handler, options: CallOptions | None, payload: bytes, app: str = "") -> Bound[Any]:
    """Return a call as a value: the policy, with the options of the call. app: that sends it, where the
    handler is of none."""
    if options is not None and options.pool is not None:
        found = bound_to(handler.in_pool(options.pool), replace(options, pool=None), payload, app)
        found.route = found.route or _PLAIN  # so that it is looked whether the pool is served
        return found
    stored = payload if handler.pipeline is None else handler.stored(payload)
    task, policy, app = new_task(handler.options, options, stored), handler.options, app or handler.app
    if policy.gated or (options is not None and (options.lane is not None or options.cost is not None)):
        return in_lane(handler, options, payload, task, index_key(app))
    lock = handler.lock if options is None else lock_of(handler, options)
    if lock is not None:
        return _locked(handler, options, task, lock, payload, index_key(app))
    if options is None:
        if policy.durability == "master":
            return Bound(handler, task)
        return Bound(handler, task, Route(None, policy.durability))
    if options.idempotency_key is not None:
        digest = envelope.digest(handler.name, payload, index_key(app))
        task = task._replace(key=IdempotencyKey(options.idempotency_key, digest, options.window_ms))
    if handler.lock is not None:
        task = task._replace(joins=locks.NO_LOCK)
    route = Route(options.shard_key, options.durability or policy.durability)
    return Bound(handler, task, None if route == _PLAIN and task.key is None else route)


def lock_of(handler: Handler, options: CallOptions) -> Plan | None:
    """Return the unique key rule of a call with options. Raises InvalidOption."""
    if options.version not in (None, handler.options.version) and handler.function is not _in_another_program:
        raise InvalidOption(
            f"version={options.version}: the code of task type {handler.name!r} is here, of version "
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


def _locked(
    handler: Handler,
    options: CallOptions | None,
    task: NewTask,
    lock: Plan,
    payload: bytes,
    secret: bytes,
) -> Bound[Any]:
    """Return a call that has a unique key."""
    if options is not None and options.idempotency_key is not None:
        if lock.throttle_ms:
            raise InvalidOption("throttle is itself an idempotency key: pass throttle or idempotency_key")
        own = envelope.digest(handler.name, payload, secret)
        task = task._replace(key=IdempotencyKey(options.idempotency_key, own, options.window_ms))
    task, name = locks.joined(handler.name, task, lock, payload, secret)
    durability = options.durability if options is not None else None
    return Bound(handler, task, Route(None, durability or handler.options.durability, name, lock.trailing))


def rejoined(bound: Bound[Any], rules: joining.Rules, app: str) -> Bound[Any]:
    """Return a call by name with the unique key and the lane that the type's policy in Redis asks for. Raises
    UsageError if the arguments cannot be read here."""
    name, task, before = bound.handler.name, bound.task, bound.route or _PLAIN
    lock = None if task.key is not None and rules.lock is not None and rules.lock.throttle_ms else rules.lock
    reads = lock is not None or (rules.lane and not joining.has_lane(task))
    payload = _readable(task.payload, About(app, name, "payload")) if reads else b"{}"
    task, of_lock, home, split = joining.rejoin(
        name, task, rules._replace(lock=lock), payload, index_key(app)
    )
    keyed = rules.lane is not None and task.key is not None and of_lock is None and home is not None
    trailing = lock is not None and lock.trailing
    route = Route(home or before.shard_key, before.durability, of_lock, trailing, split or keyed)
    return Bound(bound.handler, task, bound.route if lock is None and route == _PLAIN else route)


def by_name_in_lane(bound: Bound[Any]) -> bool:
    """Return whether a call names its lane, of a type whose code is in another program."""
    return bound.handler.function is _in_another_program and joining.has_lane(bound.task)


def _readable(payload: bytes, about: About) -> bytes:
    try:
        return opened(payload, about)
    except DecodeError as error:
        raise UsageError(
            f"the policy of task type {about.type!r} asks for its arguments, which cannot be read here "
            f"({error}): send with the handler's app, or name the lane, as send(..., lane=...)"
        ) from None


_NO_UNIQUE_OPTIONS = UniqueOptions()
_PLAIN = Route(None, "master")
_new = tuple.__new__


def new_task(policy: TaskOptions, options: CallOptions | None, payload: bytes) -> NewTask:
    """Return a payload as a task: the policy, with the options of the call."""
    if options is None:
        if policy.expires is None and policy.version == 1:
            return _new(NewTask, (payload, policy.priority, None, False, (), None, ""))
        options = _NO_OPTIONS
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


def in_lane(
    handler: Handler, options: CallOptions | None, payload: bytes, task: NewTask, secret: bytes
) -> Bound[Any]:
    """Return a call of a type with lanes, or one that names its lane: with its lane, and so its shard."""
    options = options or _NO_OPTIONS
    _check_lane(handler, options)
    lock = lock_of(handler, options)
    if options.idempotency_key is not None:
        if lock is not None and lock.throttle_ms:
            raise InvalidOption("throttle is itself an idempotency key: pass throttle or idempotency_key")
        digest = envelope.digest(handler.name, payload, secret)
        task = task._replace(key=IdempotencyKey(options.idempotency_key, digest, options.window_ms))
    rules = joining.of_options(handler.options, handler.lock)
    task, name, home, split = joining.join(
        handler.name,
        task,
        rules,
        payload,
        lock=lock,
        lane=options.lane,
        cost=options.cost,
        secret=secret,
    )
    if handler.function is _in_another_program and options.unique is None:
        task = joining.unasked(task)
    split = split or (options.idempotency_key is not None and name is None and home is not None)
    trailing = lock is not None and lock.trailing
    route = Route(home, options.durability or handler.options.durability, name, trailing, split)
    return Bound(handler, task, None if route == _PLAIN and task.key is None else route)


def _check_lane(handler: Handler, options: CallOptions) -> None:
    policy = handler.options
    if options.shard_key is not None:
        raise InvalidOption(f"shard_key: task type {handler.name!r} has lanes, which have their shards")
    if handler.function is _in_another_program:  # Redis knows its policy
        if options.cost is not None and options.lane is None:
            raise InvalidOption(
                "cost needs the lane as well, where the handler is in another program: lane=..."
            )
        return
    if not policy.gated:
        raise InvalidOption(
            f"task type {handler.name!r} has no lanes: declare them, as @app.task(lane=Lane('customer_id'))"
        )
    if policy.lane is not None and policy.lane.order and options.priority not in (None, "normal"):
        raise InvalidOption(
            f"priority={options.priority!r}: the lanes of {handler.name!r} are ordered, its tasks run in the "
            "order they were accepted"
        )
    rate = policy.lane.per_start if policy.lane is not None else None
    if rate is not None and options.cost is not None and options.cost > rate.burst:
        raise InvalidOption(
            f"cost={options.cost}: no task of {handler.name!r} can cost more than its lane's burst, which is "
            f"{rate.burst}"
        )


@cache
def remote_handler(task_type: str) -> Handler:
    """Return a placeholder for the handler of a task type whose code is in another program."""
    handler = Handler(task_type, _in_another_program, TaskOptions())
    check_name(task_type)
    return handler


def _in_another_program(**_arguments: object) -> NoReturn:
    raise NotImplementedError("the handler of this task type is in another program")

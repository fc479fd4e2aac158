"""A call with a lane or a unique key as a value.

Owns how the lane and the key of a call determine its task and its shard. Must not send anything.
"""

from __future__ import annotations

from typing import TypeVar

from streamq import envelope, joining, locks
from streamq.app.bound_task import NO_OPTIONS, PLAIN, Bound, Route, in_another_program, lock_of
from streamq.errors import DecodeError, InvalidOption, UsageError
from streamq.model.task import IdempotencyKey, NewTask
from streamq.options.call import CallOptions
from streamq.options.unique_plan import Plan
from streamq.payloads.pipeline import opened
from streamq.payloads.ring import index_key
from streamq.payloads.stage import About
from streamq.registry.handler import Handler

R = TypeVar("R")


def locked(
    handler: Handler,
    options: CallOptions | None,
    task: NewTask,
    lock: Plan,
    payload: bytes,
    secret: bytes,
) -> Bound[object]:
    """Return a call that has a unique key."""
    if options is not None and options.idempotency_key is not None:
        if lock.throttle_ms:
            raise InvalidOption("throttle is itself an idempotency key: pass throttle or idempotency_key")
        own = envelope.digest(handler.name, payload, secret)
        task = task._replace(key=IdempotencyKey(options.idempotency_key, own, options.window_ms))
    task, name = locks.joined(handler.name, task, lock, payload, secret)
    durability = options.durability if options is not None else None
    return Bound(handler, task, Route(None, durability or handler.options.durability, name, lock.trailing))


def rejoined(bound: Bound[R], rules: joining.Rules, app: str) -> Bound[R]:
    """Return a call by name with the unique key and the lane that the type's policy in Redis asks for. Raises
    UsageError if the arguments cannot be read here."""
    name, task, before = bound.handler.name, bound.task, bound.route or PLAIN
    lock = None if task.key is not None and rules.lock is not None and rules.lock.throttle_ms else rules.lock
    reads = lock is not None or (rules.lane and not joining.has_lane(task))
    payload = _readable(task.payload, About(app, name, "payload")) if reads else b"{}"
    asked = rules._replace(lock=lock)
    task, of_lock, home, split = joining.rejoin(name, task, asked, payload, index_key(app))
    keyed = rules.lane is not None and task.key is not None and of_lock is None and home is not None
    trailing = lock is not None and lock.trailing
    route = Route(home or before.shard_key, before.durability, of_lock, trailing, split or keyed)
    return Bound(bound.handler, task, bound.route if lock is None and route == PLAIN else route)


def _readable(payload: bytes, about: About) -> bytes:
    try:
        return opened(payload, about)
    except DecodeError as error:
        raise UsageError(
            f"the policy of task type {about.type!r} asks for its arguments, which cannot be read here "
            f"({error}): send with the handler's app, or name the lane, as send(..., lane=...)"
        ) from None


def in_lane(
    handler: Handler, options: CallOptions | None, payload: bytes, task: NewTask, secret: bytes
) -> Bound[object]:
    """Return a call of a type with lanes, or one that names its lane: with its lane, and so its shard."""
    options = options or NO_OPTIONS
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
    if handler.function is in_another_program and options.unique is None:
        task = joining.unasked(task)
    split = split or (options.idempotency_key is not None and name is None and home is not None)
    trailing = lock is not None and lock.trailing
    route = Route(home, options.durability or handler.options.durability, name, trailing, split)
    return Bound(handler, task, None if route == PLAIN and task.key is None else route)


def _check_lane(handler: Handler, options: CallOptions) -> None:
    policy = handler.options
    if options.shard_key is not None:
        raise InvalidOption(f"shard_key: task type {handler.name!r} has lanes, which have their shards")
    if handler.function is in_another_program:  # Redis knows its policy
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
    _check_cost(handler, options.cost)


def _check_cost(handler: Handler, cost: int | None) -> None:
    """A task that costs more than a burst would be charged for less. A burst of 1, as the rate of a type has
    unless it is told, counts starts, whatever they cost."""
    policy = handler.options
    per = policy.lane.per_start if policy.lane is not None else None
    if cost is not None and per is not None and cost > per.burst:
        raise InvalidOption(
            f"cost={cost}: no task of {handler.name!r} can cost more than its lane's burst, which is "
            f"{per.burst}: raise burst, or split the task"
        )
    of_all = policy.start_rate
    if cost is not None and of_all is not None and 1 < of_all.burst < cost:
        raise InvalidOption(
            f"cost={cost}: no task of {handler.name!r} can cost more than the burst of its start_rate, which "
            f"is {of_all.burst}: raise burst, or split the task"
        )

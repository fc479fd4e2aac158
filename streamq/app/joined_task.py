"""A call with a lane or a unique key as a value.

Owns how the lane and the key of a call determine its task and its shard. Must not send anything.
"""

from __future__ import annotations

from typing import Any

from streamq import envelope, joining, locks
from streamq.app.bound_task import NO_OPTIONS, PLAIN, Bound, Route, in_another_program, lock_of
from streamq.errors import InvalidOption
from streamq.model.task import IdempotencyKey, NewTask
from streamq.options.call import CallOptions
from streamq.options.unique_plan import Plan
from streamq.payloads.pipeline import opened
from streamq.payloads.ring import index_key
from streamq.payloads.stage import About
from streamq.registry.handler import Handler


def locked(
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


def rejoined(bound: Bound[Any], lock: Plan | None, app: str) -> Bound[Any]:
    """Return a call by name with the unique key that the type's policy in Redis asks for."""
    before = bound.route or PLAIN
    if bound.task.key is not None and lock is not None and lock.throttle_ms:
        lock = None
    about = About(app, bound.handler.name, "payload")
    payload = b"" if lock is None else opened(bound.task.payload, about)
    task, name = joining.rejoin(bound.handler.name, bound.task, lock, payload, index_key(app))
    if lock is None:
        return Bound(bound.handler, task, bound.route)
    split = before.shard_key is not None and joining.has_lane(task)
    home = before.shard_key if split else None
    return Bound(bound.handler, task, Route(home, before.durability, name, lock.trailing, split))


def in_lane(
    handler: Handler, options: CallOptions | None, payload: bytes, task: NewTask, secret: bytes
) -> Bound[Any]:
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
    rate = policy.lane.per_start if policy.lane is not None else None
    if rate is not None and options.cost is not None and options.cost > rate.burst:
        raise InvalidOption(
            f"cost={options.cost}: no task of {handler.name!r} can cost more than its lane's burst, which is "
            f"{rate.burst}"
        )

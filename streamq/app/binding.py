"""Bind a payload to a handler: a call as a value, with its options.

Owns which calls are plain, and have no route. Lanes and unique keys are up to `joined_task`, which is loaded
for the first call with one. Must not send anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamq import envelope
from streamq.app.bound_task import PLAIN, Bound, BoundNode, Route, lock_of, new_task
from streamq.model.task import IdempotencyKey
from streamq.options.call import CallOptions
from streamq.payloads.ring import index_key
from streamq.registry.handler import Handler

if TYPE_CHECKING:
    from streamq.model.output import NamesOutputs


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
        found.route = found.route or PLAIN  # so that it is looked whether the pool is served
        return found
    stored = payload if handler.pipeline is None else handler.stored(payload)
    task, policy, app = new_task(handler.options, options, stored), handler.options, app or handler.app
    if policy.gated or (options is not None and (options.lane is not None or options.cost is not None)):
        from streamq.app.joined_task import in_lane  # noqa: PLC0415 - few types have lanes or unique keys

        return in_lane(handler, options, payload, task, index_key(app))
    lock = handler.lock if options is None else lock_of(handler, options)
    if lock is not None:
        from streamq.app.joined_task import locked  # noqa: PLC0415 - as above

        return locked(handler, options, task, lock, payload, index_key(app))
    if options is None:
        if policy.durability == "master":
            return Bound(handler, task)
        return Bound(handler, task, Route(None, policy.durability))
    if options.idempotency_key is not None:
        digest = envelope.digest(handler.name, payload, index_key(app))
        task = task._replace(key=IdempotencyKey(options.idempotency_key, digest, options.window_ms))
    if handler.lock is not None:
        from streamq import locks  # noqa: PLC0415 - as above

        task = task._replace(joins=locks.NO_LOCK)
    route = Route(options.shard_key, options.durability or policy.durability)
    return Bound(handler, task, None if route == PLAIN and task.key is None else route)

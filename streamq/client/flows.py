"""The client's operations of more than one call, written once for the sync and the async client.

Owns the order of the calls: announce an app, choose the shard of a key, open a closed shard, wait until a
batch is durable. Each is a flow (see `streamq.flow`). Does no I/O.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from streamq.calls import producer as producer_calls
from streamq.calls.call import Call
from streamq.calls.producer import ShardClosed
from streamq.client.durability import Confirmation
from streamq.errors import DecodeError, RedisError, ServerError, ServerTooOld
from streamq.flow import Ask, Flow, ask
from streamq.keys import TypeKeys, shard_keys, type_keys
from streamq.model.task import Answer, Conflict, Duplicate, IdempotencyKey, TaskId
from streamq.options.checks import LONGEST_WINDOW, Durability
from streamq.registry.redefinition import importable
from streamq.registry.registry import Registry
from streamq.shards import AppRecord

if TYPE_CHECKING:
    from streamq.joining import Rules

R = TypeVar("R")

FRESH: Final = 5.0
"""Seconds for which a cached app record is used to choose the shard of an idempotency key."""


class Destination(NamedTuple):
    """The shard that a task is sent to; with its answer if there is one already."""

    shard: int
    answer: Duplicate | Conflict | None = None


def announce(registry: Registry) -> Flow[AppRecord]:
    """Announce the app. The first announcement of a process makes its number of shards the current one."""
    lead = registry.record is None
    record: AppRecord = yield Ask(producer_calls.announce(registry.name, registry.shards, lead=lead))
    return registry.learn(record, time.monotonic())


def register(registry: Registry, task_type: str, shard: int) -> Flow[None]:
    """Register a task type, before its first task is sent."""
    if registry.record is None:
        yield from announce(registry)
    handler = registry.find(task_type)
    if handler is None or (task_type, shard) in registry.registered:
        return
    # A caller that sends by name reads the rule of unique keys in whichever shard it sends to.
    for n in [shard] if handler.lock is None else range(max(shard + 1, registry.shards)):
        keys = type_keys(registry.name, n, task_type), shard_keys(registry.name, n)
        policy, reference = handler.options.policy(), importable(handler.reference)
        if handler.options.gated or handler.lock is not None:
            from streamq import registering  # noqa: PLC0415 - most types have no such rules

            yield from registering.register(*keys, reference, policy)
        else:
            yield Ask(producer_calls.register(*keys, reference, policy))
        if handler.lock is not None:
            registry.registered.add((task_type, n))


def destination(registry: Registry, key: IdempotencyKey, *, answers: bool = True) -> Flow[Destination]:
    """Find the shard of an idempotency key. Asks the shards that the key belonged to before whether they have
    it: their record is the answer. Without `answers` the call goes to that shard, if it is still served."""
    record = registry.record
    if record is None or time.monotonic() - registry.record_at > FRESH:
        record = yield from _current_record(registry)
    home, others = record.homes(key.name, (time.time() - LONGEST_WINDOW) * 1000)
    for shard in others:
        answer: Duplicate | Conflict | None
        answer = yield Ask(producer_calls.earlier(shard_keys(registry.name, shard), key))
        if answer is not None and answers:
            return Destination(shard, answer)
        if answer is not None and shard < record.known:
            return Destination(shard)
    return Destination(home)


def holder_of_key(registry: Registry, key: str) -> Flow[TaskId | None]:
    """Return the task that has an idempotency key; None if none has. Asks each shard that was its home."""
    record = registry.record
    if record is None or time.monotonic() - registry.record_at > FRESH:
        record = yield from _current_record(registry)
    home, others = record.homes(key, (time.time() - LONGEST_WINDOW) * 1000)
    for shard in (home, *others):
        found: tuple[str, str] | None = yield Ask(
            producer_calls.holder_of_key(shard_keys(registry.name, shard), key)
        )
        if found is not None:
            return TaskId(found[0], shard, found[1])
    return None


def home_of_lock(
    registry: Registry, task_type: str, name: str, home_key: str | None = None
) -> Flow[Destination]:
    """Return the shard of a unique key's lock, by the lock's name, or by the home of its task's lane.

    A shard that was the key's home before is still used if it is served and holds the lock.
    """
    record = registry.record
    if record is None or time.monotonic() - registry.record_at > FRESH:
        record = yield from _current_record(registry)
    home, others = record.homes(home_key or name, 0)
    for shard in others:
        if shard < record.known:
            holder: str = yield from ask(
                producer_calls.lock_holder(type_keys(registry.name, shard, task_type), bytes.fromhex(name))
            )
            if holder:
                return Destination(shard)
    return Destination(home)


def policy_rules(registry: Registry, task_type: str, shard: int) -> Flow[Rules]:
    """Return the rules of a type as its policy in Redis has them. Raises ServerError if this release cannot
    read the rule of its unique keys: a task without its lock could run twice."""
    from streamq import joining  # noqa: PLC0415 - few calls by name need it

    known = registry.rules.get(task_type)
    if known is not None and time.monotonic() - known[1] < FRESH:
        return known[0]
    stored = yield from ask(producer_calls.policy_rules(type_keys(registry.name, shard, task_type)))
    try:
        found = joining.of_policy(stored)
    except DecodeError:
        raise ServerError(
            f"task type {task_type!r} has a rule of unique keys that this release cannot read: nothing was "
            "sent. Upgrade streamq in this program"
        ) from None
    registry.rules[task_type] = found, time.monotonic()
    return found


def _current_record(registry: Registry) -> Flow[AppRecord]:
    record: AppRecord | None = None
    if registry.record is not None:
        record = yield Ask(producer_calls.app_record(registry.name))
    return registry.learn(record, time.monotonic()) if record else (yield from announce(registry))


def reopen(app: str, shard: int, call: Call[R], patience: float | None = None) -> Flow[R]:
    """Open a shard that was closed, and run the call again: a program with more shards needs it.

    In this order, so that a daemon that closes it at the same time notices; see `lua/announce.lua`.
    """
    closed = 0
    while True:
        record: AppRecord = yield Ask(
            producer_calls.announce(app, shard + 1, lead=False, floor=max(0, closed))
        )
        closed = yield Ask(producer_calls.open_shard(shard_keys(app, shard), record.epoch))
        if closed < record.epoch:
            try:
                return (yield from ask(call, patience))
            except ShardClosed:
                continue


def make_durable(
    keys: TypeKeys, call: Call[list[Answer]], durability: Durability, confirmation: Confirmation
) -> Flow[Sequence[Answer]]:
    """Send a batch until it is as durable as asked or the time is over. The answer for a task that exists but
    is not confirmed is Unconfirmed; errors are raised only while nothing is known of the tasks."""
    while not confirmation.over(now := time.monotonic()):
        wait_ms = confirmation.wait_ms(now)
        confirmed = producer_calls.confirmed(call, durability, wait_ms)
        left = confirmation.left(now)
        try:
            try:
                confirmation.answered((yield from ask(confirmed, left)))
            except ShardClosed:
                confirmation.answered((yield from reopen(keys.app, keys.shard, confirmed, left)))
        except RedisError as error:
            confirmation.failed(error)
    return confirmation.answers


def probe_aof(keys: TypeKeys) -> Flow[None]:
    """Check that the server can confirm that data is in its append-only file. Raises RedisErrors."""
    try:
        yield Ask(producer_calls.probe_aof(keys))
    except ServerError as error:
        if "unknown command" in str(error).lower():
            raise ServerTooOld(
                "durability='aof' needs the command WAITAOF, which Redis and Valkey have since 7.2 "
                f"({error}). Upgrade the server, or use durability='replicas:1'"
            ) from None
        raise ServerError(
            f"durability='aof' needs an append-only file ({error}). Set appendonly yes on the server"
        ) from None

"""What a client asks in more than one step, written once for the sync and the async client.

Owns the order of the questions: announcing an app, choosing the shard of a key, opening a shard that was
given up, waiting until a batch is durable. Each is a flow (`flow.py`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

from streamq.calls import producer as producer_calls
from streamq.calls.call import Call
from streamq.calls.producer import ShardClosed
from streamq.client.durability import Confirmation
from streamq.errors import RedisError, ServerError, ServerTooOld
from streamq.flow import Ask, Flow
from streamq.keys import TypeKeys, shard_keys, type_keys
from streamq.model.task import Answer, Conflict, Duplicate, IdempotencyKey
from streamq.options.checks import LONGEST_WINDOW, Durability
from streamq.options.unique import Plan
from streamq.registry.redefinition import importable
from streamq.registry.registry import Registry
from streamq.shards import AppRecord

R = TypeVar("R")

FRESH: Final = 5.0
"""Seconds for which the app record is believed when the shard of an idempotency key is chosen."""


class Destination(NamedTuple):
    """Where a task goes; with the answer where there is one already."""

    shard: int
    answer: Duplicate | Conflict | None = None


def announce(registry: Registry) -> Flow[AppRecord]:
    """Make the app known. The first of a process says that its number of shards is the current one."""
    lead = registry.record is None
    record: AppRecord = yield Ask(producer_calls.announce(registry.name, registry.shards, lead=lead))
    return registry.learn(record, time.monotonic())


def register(registry: Registry, task_type: str, shard: int) -> Flow[None]:
    """What to tell the server before the first task of a type."""
    if registry.record is None:
        yield from announce(registry)
    handler = registry.handlers.get(task_type)
    if handler is None or (task_type, shard) in registry.told:
        return
    # Who sends by name finds a rule of unique keys in whichever shard it comes to.
    for n in [shard] if handler.lock is None else range(max(shard + 1, registry.shards)):
        keys = type_keys(registry.name, n, task_type), shard_keys(registry.name, n)
        yield Ask(producer_calls.register(*keys, importable(handler.reference), handler.options.policy()))
        if handler.lock is not None:
            registry.told.add((task_type, n))


def destination(registry: Registry, key: IdempotencyKey) -> Flow[Destination]:
    """The shard of an idempotency key. Shards that were it before are asked whether they know the key."""
    record = registry.record
    if record is None or time.monotonic() - registry.record_at > FRESH:
        record = yield from _look(registry)
    home, others = record.homes(key.name, (time.time() - LONGEST_WINDOW) * 1000)
    for shard in others:
        answer: Duplicate | Conflict | None
        answer = yield Ask(producer_calls.earlier(shard_keys(registry.name, shard), key))
        if answer is not None:
            return Destination(shard, answer)
    return Destination(home)


def home_of_lock(registry: Registry, task_type: str, name: str) -> Flow[Destination]:
    """The shard of a unique key's lock, by the lock's name. A shard that was it before is the task's as long
    as it is served and the lock is held there: the script judges there."""
    record = registry.record
    if record is None or time.monotonic() - registry.record_at > FRESH:
        record = yield from _look(registry)
    home, others = record.homes(name, 0)
    for shard in others:
        if shard < record.known:
            held: str = yield Ask(
                producer_calls.lock_holder(type_keys(registry.name, shard, task_type), bytes.fromhex(name))
            )
            if held:
                return Destination(shard)
    return Destination(home)


def policy_lock(registry: Registry, task_type: str, shard: int) -> Flow[Plan | None]:
    """What the unique keys of a type are, as its policy in Redis says."""
    known = registry.locks.get(task_type)
    if known is not None and time.monotonic() - known[1] < FRESH:
        return known[0]
    fields: tuple[bytes | None, bytes | None]
    fields = yield Ask(producer_calls.policy_fields(type_keys(registry.name, shard, task_type)))
    found = Plan.parse(fields[1])
    registry.locks[task_type] = found, time.monotonic()
    return found


def _look(registry: Registry) -> Flow[AppRecord]:
    record: AppRecord | None = None
    if registry.record is not None:
        record = yield Ask(producer_calls.app_record(registry.name))
    return registry.learn(record, time.monotonic()) if record else (yield from announce(registry))


def reopen(app: str, shard: int, ask: Ask) -> Flow[Any]:
    """A shard was given up, as a program with more shards needs it: make it known, have it opened, ask.

    In this order, so that whoever gave it up meanwhile notices; see `lua/announce.lua`.
    """
    closed = 0
    while True:
        record: AppRecord = yield Ask(
            producer_calls.announce(app, shard + 1, lead=False, floor=max(0, closed))
        )
        closed = yield Ask(producer_calls.open_shard(shard_keys(app, shard), record.epoch))
        if closed < record.epoch:
            try:
                return (yield ask)
            except ShardClosed:
                continue


def make_durable(
    keys: TypeKeys, call: Call[list[Answer]], durability: Durability, tries: Confirmation
) -> Flow[Sequence[Answer]]:
    """Send a batch, again until it is as durable as asked or the time is up. A task that exists and is not
    is answered as Unconfirmed; errors are raised only as long as nothing is known of the tasks."""
    while not tries.over(now := time.monotonic()):
        asked = Ask(producer_calls.confirmed(call, durability, tries.wait_ms(now)), tries.left(now))
        try:
            try:
                tries.answered((yield asked))
            except ShardClosed:
                tries.answered((yield from reopen(keys.app, keys.shard, asked)))
        except RedisError as error:
            tries.failed(error)
    return tries.answers


def probe_aof(keys: TypeKeys) -> Flow[None]:
    """Whether the server can say that something is in its append-only file. Raises RedisErrors."""
    try:
        yield Ask(producer_calls.probe_aof(keys))
    except ServerError as error:
        if "unknown command" in str(error).lower():
            raise ServerTooOld(
                "durability='aof' needs the command WAITAOF, which Redis and Valkey have from 7.2 on: "
                f"upgrade the server, or use durability='replicas:1' ({error})"
            ) from None
        raise ServerError(
            f"durability='aof' needs an append-only file: set appendonly yes on the server ({error})"
        ) from None

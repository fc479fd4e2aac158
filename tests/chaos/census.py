"""What the server holds at the end: which task ended how, the counters, and what should not be there.

Reads with the plain client library wherever it can, so that a fault of streamq's own reading cannot hide
what it did. Owns the knowledge of which keys may be left when everything has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import redis

from streamq import envelope, stored_result
from streamq.control.inspector import Inspector
from streamq.keys import (
    APPS,
    DAEMON_HEARTBEATS,
    DAEMONS,
    GROUP,
    OF_FLOWS,
    ShardKeys,
    TypeKeys,
    shard_keys,
    type_keys,
)
from tests.chaos.flow_census import FlowEnd, flows
from tests.letters import all_dead

EMPTY: Final = (
    "high", "normal", "low", "suspect", "schedule", "index", "cancels", "waiters", "expiring", "unique",
    "after", "lanes", "turns", "ripe", "slots",
)  # fmt: skip
OVER: Final = ("completed", "failed", "cancelled", "stuck")
"""The states of flows that have ended."""
STREAM_BYTES: Final = 8192
"""What an empty stream with its group and its consumers may take."""
MOST_CONSUMERS: Final = 400
MOST_WRITERS: Final = 4000


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: why, and the errors of its attempts, oldest first."""

    reason: str
    failures: list[dict[str, Any]]


@dataclass
class Tally:
    """The end of a run as the server tells it.

    ended: every task the server knows to have ended, as (id, state); one that is there twice is a fault.
    tokens: results by id. counters: by task type, over all shards. schedules: the state of each, as stored.
    left: what should have been empty.
    """

    ended: list[tuple[str, str]] = field(default_factory=list)
    tokens: dict[str, Any] = field(default_factory=dict)
    letters: dict[str, Letter] = field(default_factory=dict)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    flows: list[FlowEnd] = field(default_factory=list)
    audit: list[str] = field(default_factory=list)


class Census:
    """Counts one app on one set of servers. `nodes`: a client for each primary."""

    def __init__(self, nodes: list[redis.Redis], inspector: Inspector, app: str, shards: int) -> None:
        self._nodes = nodes
        self._inspector = inspector
        self._app, self._shards = app, shards

    def take(self, types: list[str]) -> Tally:
        found = Tally()
        self._keys = {key.decode(): node for node in self._nodes for key in node.scan_iter("*", count=1000)}
        for name in types:
            total: Counter[str] = Counter()
            for shard in range(self._shards):
                self._type(type_keys(self._app, shard, name), found)
                total.update(self._counters(type_keys(self._app, shard, name)))
            found.counters[name] = dict(total)
            for letter in all_dead(self._inspector, name):
                failures = envelope.failures(envelope.fields_dict(letter.fields).get("f", b""))
                found.letters[str(letter.id)] = Letter(letter.reason, failures)
        for shard in range(self._shards):
            self._flows(shard_keys(self._app, shard), found)
        found.schedules = schedule_states(self._nodes, self._app, self._shards)
        self._unknown_keys(types, found)
        found.audit = [
            f"{p.invariant} {p.type}:{p.shard} {p.problem} {p.where}"
            for p in self._inspector.audit().problems
        ]
        return found

    def _type(self, keys: TypeKeys, found: Tally) -> None:
        for local, state, value in self._ended(keys):
            task = f"{keys.type}:{keys.shard}:{local}"
            found.ended.append((task, state))
            if state == "completed":
                found.tokens[task] = orjson.loads(value) if value else None
        for name in EMPTY:
            key: str = getattr(keys, name)
            if size := self._size(key):
                found.left.append(f"{key}: {size} entries")
        for stream in keys.streams:
            found.left += self._stream(stream)

    def _flows(self, keys: ShardKeys, found: Tally) -> None:
        """What became of flows, and of their nodes' tasks: a flow keeps what these returned."""
        mine = list(flows(self._keys, keys))
        found.flows += mine
        for flow in mine:
            for name, result in flow.results.items():
                if (task := flow.tasks[name]) not in found.tokens:
                    found.ended.append((task, "completed"))
                    found.tokens[task] = result
            if flow.state not in OVER:
                found.left.append(f"flow {flow.id}: {flow.state}, with {flow.states}")
        if size := self._size(keys.inbox):
            found.left.append(f"{keys.inbox}: {size} entries, such as {self._members(keys.inbox)[:3]}")

    def _ended(self, keys: TypeKeys) -> Iterator[tuple[str, str, bytes]]:
        for key, node in self._keys.items():
            if key.startswith(f"{keys.base}:results:"):
                for local, value in _dict(node.hgetall(key)).items():
                    yield local.decode(), "completed", stored_result.unpack_result(local.decode(), value)[0]
        for local in self._members(keys.dead):
            yield local.decode(), "dead", b""
        for mark in self._members(keys.gone):
            yield mark[1:].decode(), {b"x": "cancelled", b"e": "expired"}[mark[:1]], b""

    def _members(self, key: str) -> list[bytes]:
        found: Any = self._keys[key].zrange(key, 0, -1) if key in self._keys else []
        return list(found)

    def _counters(self, keys: TypeKeys) -> dict[str, int]:
        if (node := self._keys.get(keys.counters)) is None:
            return {}
        return {name.decode(): int(value) for name, value in _dict(node.hgetall(keys.counters)).items()}

    def _size(self, key: str) -> int:
        if (node := self._keys.get(key)) is None:
            return 0
        kind: Any = node.type(key)
        sizes: dict[bytes, Any] = {b"stream": node.xlen, b"zset": node.zcard, b"hash": node.hlen}
        return int(sizes[kind](key)) if kind in sizes else 0  # it may be gone by now

    def _stream(self, stream: str) -> list[str]:
        """Nothing pending, few consumers, little memory."""
        node = self._keys.get(stream)
        if node is None:
            return [f"{stream}: the stream is gone"]
        found: list[str] = []
        groups: Any = node.xinfo_groups(stream)
        if [group["name"] for group in groups] != [GROUP.encode()]:
            found.append(f"{stream}: its groups are {[group['name'] for group in groups]}")
        for group in groups:
            if group["pending"]:
                found.append(f"{stream}: {group['pending']} pending")
            if group["consumers"] > MOST_CONSUMERS:
                found.append(f"{stream}: {group['consumers']} consumers")
        used: Any = node.memory_usage(stream, samples=0)
        allowed = STREAM_BYTES + 500 * sum(group["consumers"] for group in groups)
        if used > allowed:
            found.append(f"{stream}: {used} bytes for an empty stream")
        return found

    def _unknown_keys(self, types: list[str], found: Tally) -> None:
        """Every key is one that streamq means to leave, and each writer's memory ends by itself."""
        known = {APPS, DAEMONS, DAEMON_HEARTBEATS}
        for shard in range(self._shards):
            keys = shard_keys(self._app, shard)
            known |= {keys.types, keys.workers, keys.heartbeats, keys.schedules, keys.schedules_due}
            known |= {keys.actions, keys.action_log, keys.flows, keys.flow_names, keys.blobs}
            for name in types:
                t = type_keys(self._app, shard, name)
                known |= {*t.streams, t.dead, t.letters, t.groups, t.counters, t.policy, t.gone, t.rate}
                known |= {t.sampled, t.buckets, t.rules, t.steps}
        writers = [key for key in self._keys if ":writer:" in key]
        if len(writers) > MOST_WRITERS:
            found.left.append(f"{len(writers)} writers are remembered")
        for key in sorted(self._keys.keys() - known):
            passing = any(f":{kind}:" in key for kind in ("writer", "results", "minute", "quarter", "mail"))
            passing = passing or any(f":{kind}=" in key for kind in OF_FLOWS)
            lifetime: Any = self._keys[key].pttl(key)
            if not passing:
                found.left.append(f"{key}: should not be there")
            elif lifetime == -1:
                found.left.append(f"{key}: has no lifetime")


def _dict(found: Any) -> dict[bytes, bytes]:
    return dict(found)


def schedule_states(nodes: list[redis.Redis], app: str, shards: int) -> dict[str, dict[str, Any]]:
    """How each schedule of an app stands, as it is stored."""
    found: dict[str, dict[str, Any]] = {}
    for node in nodes:
        for shard in range(shards):
            with suppress(redis.ResponseError):  # the slot is another node's
                stored = _dict(node.hgetall(shard_keys(app, shard).schedules))
                states = {name: raw for name, raw in stored.items() if name.endswith(b":state")}
                found |= {name.decode()[: -len(":state")]: orjson.loads(raw) for name, raw in states.items()}
    return found

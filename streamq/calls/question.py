"""Build the calls that only read: counts, tasks, dead letters, workers.

Owns how their replies are parsed. Must not write.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from streamq.calls.call import (
    Call,
    Reply,
    build,
    moment,
    number,
    pairs,
    text,
)
from streamq.keys import GROUP, ShardKeys, TypeKeys
from streamq.model.counts import Counts
from streamq.namespace import DEFAULT_NAMESPACE, Namespace
from streamq.shards import AppRecord


def now(key: str = "") -> Call[int]:
    """Return the server's clock in ms: of the server that has the key, as clocks differ, or of any server."""
    return Call(None, (key,) if key else (), ("TIME",), lambda r: int(r[0]) * 1000 + int(r[1]) // 1000)


def ready(key: str = "") -> Call[bool]:
    """Return whether the server that has the key is working: a server that loads its data answers PING with
    an error, but not TIME."""
    return Call(None, (key,) if key else (), ("PING",), bool)


def info(key: str = "", section: str = "") -> Call[dict[str, str]]:
    """Return INFO, or a section of it, from the server that has the key, or from any server."""
    return Call(None, (key,) if key else (), ("INFO", section) if section else ("INFO",), _info)


def _info(reply: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {name: value for name, mark, value in lines if mark and not name.startswith("#")}


def apps(namespace: Namespace = DEFAULT_NAMESPACE) -> Call[dict[str, AppRecord]]:
    """Return the apps of a namespace by name."""
    return Call(None, (namespace.apps,), ("HGETALL", namespace.apps), partial(_apps, namespace))


def _apps(namespace: Namespace, reply: list[Reply]) -> dict[str, AppRecord]:
    return {
        namespace.app(name.decode("utf-8", "replace")): AppRecord.parse(raw) for name, raw in pairs(reply)
    }


def types(s: ShardKeys) -> Call[list[str]]:
    return Call(None, (s.types,), ("SMEMBERS", s.types), lambda r: sorted(map(text, r)))


def policy(t: TypeKeys) -> Call[dict[str, str]]:
    return Call(None, (t.policy,), ("HGETALL", t.policy), lambda r: {text(k): text(v) for k, v in pairs(r)})


def policy_version(t: TypeKeys) -> Call[int]:
    """Return the version of a type's payloads that was registered last; 1 if none was."""
    return Call(None, (t.policy,), ("HGET", t.policy, "version"), lambda r: number(r) if r else 1)


def workers(s: ShardKeys) -> Call[list[tuple[str, int]]]:
    """Return the names and last heartbeats (ms) of the workers, oldest first."""
    return _beats(s.workers)


def heartbeats(s: ShardKeys) -> Call[dict[str, bytes]]:
    return _details(s.heartbeats)


def daemons(namespace: Namespace = DEFAULT_NAMESPACE) -> Call[list[tuple[str, int]]]:
    """Return the same as `workers` for daemons."""
    return _beats(namespace.daemons)


def daemon_heartbeats(namespace: Namespace = DEFAULT_NAMESPACE) -> Call[dict[str, bytes]]:
    return _details(namespace.daemon_heartbeats)


def _beats(key: str) -> Call[list[tuple[str, int]]]:
    args = ("ZRANGE", key, 0, -1, "WITHSCORES")
    return Call(None, (key,), args, lambda r: [(text(k), moment(v)) for k, v in pairs(r)])


def _details(key: str) -> Call[dict[str, bytes]]:
    return Call(None, (key,), ("HGETALL", key), lambda r: {text(k): v for k, v in pairs(r)})


def died_since(t: TypeKeys, since_ms: int) -> Call[int]:
    """Count the dead letters that died after `since_ms`."""
    return Call(None, (t.dead,), ("ZCOUNT", t.dead, f"({since_ms}", "+inf"), int)


def counts(t: TypeKeys) -> Call[Counts]:
    return build("counts", (GROUP,), _counts, t)


def _counts(reply: list[Reply]) -> Counts:
    now_ms, ready, running, scheduled, dead, suspect, oldest, due, counters, parked = reply
    return Counts(
        now_ms=now_ms,
        ready=ready,
        running=running,
        scheduled=scheduled,
        dead=dead,
        suspect=suspect,
        oldest_ready_ms=None if oldest < 0 else oldest,
        next_due_ms=None if due < 0 else due,
        counters={text(k): number(v) for k, v in pairs(counters) if k != b"sequence"},
        parked=parked,
    )


@dataclass(frozen=True, slots=True)
class Sizes:
    """Number of rows in the structures that must be consistent."""

    index: int
    dead: int
    letters: int
    cancels: int
    waiters: int
    gone: int
    groups: int
    expiring: int
    unique: int
    after: int
    scored: int


def sizes(t: TypeKeys) -> Call[Sizes]:
    return build("sizes", (), lambda r: Sizes(*r), t)

"""The only place that spells a Redis key or channel, with `namespace`, which owns what they begin with.

Owns their names. A shard is a whole queue under one hash tag, so everything that one script touches
lives in one slot: `streamq:{shop:0}:email:high`. All names begin with the prefix of their namespace. Does
no I/O; nobody else formats a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from streamq.namespace import DEFAULT_NAMESPACE, Namespace, namespace_of

GROUP: Final = "workers"
"""The one consumer group of every stream. It starts at id 0: a task is never older than its group."""

APPS: Final = DEFAULT_NAMESPACE.apps
DAEMONS: Final = DEFAULT_NAMESPACE.daemons
DAEMON_HEARTBEATS: Final = DEFAULT_NAMESPACE.daemon_heartbeats

_TYPE_KEYS: Final = (
    "high", "normal", "low", "suspect", "schedule", "index", "dead", "letters", "counters", "policy", "rate",
    "cancels", "waiters", "gone", "groups", "buckets", "sampled", "expiring", "done_channel",
)  # fmt: skip

_SHARD_KEYS: Final = (
    "types", "workers", "heartbeats", "paused", "drains", "action_log", "actions", "tail",
    "closed", "doorbell", "ready", "bell",
)  # fmt: skip
_IDEMPOTENCY: Final = "key="
"""Begins the name of each idempotency key's record in a shard: `…:key=<caller's key>`."""
_MANY: Final = ("writer", "results", "minute", "quarter")
"""Kinds of which a task type has many keys, as `…:email:writer:<id>`."""

MORTAL: Final = frozenset(
    {"writer", "results", "rate", "minute", "quarter", "drains", "tail", "key", "doorbell"}
)
"""The kinds that must have a lifetime. All others live for ever: one that expired would take tasks along."""

VALUES: Final = {
    "high": "stream", "normal": "stream", "low": "stream", "suspect": "stream",
    "schedule": "zset", "dead": "zset", "waiters": "zset", "gone": "zset", "workers": "zset",
    "index": "hash", "letters": "hash", "counters": "hash", "policy": "hash", "cancels": "hash",
    "results": "hash", "heartbeats": "hash", "rate": "list", "types": "set", "writer": "string",
    "groups": "zset", "sampled": "hash", "minute": "hash", "quarter": "hash", "paused": "hash",
    "drains": "hash", "action_log": "list", "actions": "hash", "tail": "string",
    "closed": "string", "key": "string", "expiring": "zset", "doorbell": "string", "ready": "zset",
    "bell": "zset",
}  # fmt: skip
"""What kind of value Redis holds under each kind of key."""

RESULT_BUCKET_MS: Final = 1000
"""Tasks whose ids fall in the same second share one result hash: small hashes are stored packed
(25 bytes a result instead of 180 for a key of its own), and one that expires is freed in little time."""

SCHEDULED_RESULTS: Final = 256
"""As many tasks that began in the schedule share one result hash, for the same reason."""


@dataclass(frozen=True, slots=True)
class TypeKeys:
    """The keys of one task type in one shard. See each script's header for what is in them."""

    app: str
    shard: int
    type: str
    base: str = field(init=False, repr=False)
    high: str = field(init=False, repr=False)
    normal: str = field(init=False, repr=False)
    low: str = field(init=False, repr=False)
    suspect: str = field(init=False, repr=False)
    schedule: str = field(init=False, repr=False)
    index: str = field(init=False, repr=False)
    dead: str = field(init=False, repr=False)
    letters: str = field(init=False, repr=False)
    counters: str = field(init=False, repr=False)
    policy: str = field(init=False, repr=False)
    rate: str = field(init=False, repr=False)
    cancels: str = field(init=False, repr=False)
    waiters: str = field(init=False, repr=False)
    gone: str = field(init=False, repr=False)
    groups: str = field(init=False, repr=False)
    buckets: str = field(init=False, repr=False)
    sampled: str = field(init=False, repr=False)
    expiring: str = field(init=False, repr=False)
    done_channel: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        base = f"{shard_tag(self.app, self.shard)}:{self.type}"
        object.__setattr__(self, "base", base)
        for name in _TYPE_KEYS:
            object.__setattr__(self, name, f"{base}:{name}")
        end = namespace_of(self.app).channels_end.removeprefix(":")
        object.__setattr__(self, "done_channel", f"{base}:done:{end}:" if end else f"{base}:done:")

    @property
    def streams(self) -> tuple[str, str, str, str]:
        """The streams in the order of the letters h, n, l, s."""
        return (self.high, self.normal, self.low, self.suspect)

    def stream(self, letter: str) -> str:
        return self.streams["hnls".index(letter)]

    def writer(self, writer: str) -> str:
        """What is remembered of one writer: its last call and that call's answer; expires."""
        return f"{self.base}:writer:{writer}"

    def results(self, local: str) -> str:
        """The hash that holds the result of this task; expires as a whole."""
        stamp, _, number = local[1:].partition("-")
        if local[0] == "d":
            return f"{self.base}:results:d{int(number) // SCHEDULED_RESULTS}"
        return f"{self.base}:results:{int(stamp) // RESULT_BUCKET_MS}"

    def minute(self, number: int) -> str:
        """The rollup of a minute since the epoch; expires."""
        return f"{self.base}:minute:{number}"

    def quarter(self, number: int) -> str:
        """The rollup of a quarter of an hour since the epoch; expires."""
        return f"{self.base}:quarter:{number}"

    def done(self, local: str) -> str:
        """The channel on which a task's end is told to those who registered as waiting for it."""
        return self.done_channel + local


@dataclass(frozen=True, slots=True)
class ShardKeys:
    """The keys of one shard that belong to no single task type."""

    app: str
    shard: int
    base: str = field(init=False, repr=False)
    end: str = field(init=False, repr=False)
    # Those that every enqueue and settle names are made once.
    types: str = field(init=False, repr=False)
    wake: str = field(init=False, repr=False)
    """Channel: something is due earlier than the daemons know."""
    closed: str = field(init=False, repr=False)
    """There where the shard was given up: enqueue takes nothing into it until it is opened."""
    rung: tuple[str, str, str] = field(init=False, repr=False)
    """What a script needs to ring: `doorbell`, `ready` and `bell`."""

    def __post_init__(self) -> None:
        base, end = shard_tag(self.app, self.shard), namespace_of(self.app).channels_end
        made = {
            "base": base, "end": end, "types": f"{base}:types", "wake": f"{base}:wake{end}",
            "closed": f"{base}:closed", "rung": (f"{base}:doorbell", f"{base}:ready", f"{base}:bell"),
        }  # fmt: skip
        for name, value in made.items():
            object.__setattr__(self, name, value)

    @property
    def workers(self) -> str:
        return f"{self.base}:workers"

    @property
    def heartbeats(self) -> str:
        return f"{self.base}:heartbeats"

    @property
    def paused(self) -> str:
        """Hash: task type -> who paused it, when and why."""
        return f"{self.base}:paused"

    @property
    def drains(self) -> str:
        """Hash: the workers that were asked to drain; expires."""
        return f"{self.base}:drains"

    @property
    def action_log(self) -> str:
        """List: what operators did, newest first; the rows are in `actions`."""
        return f"{self.base}:action_log"

    @property
    def actions(self) -> str:
        return f"{self.base}:actions"

    @property
    def tail(self) -> str:
        """There while somebody listens to `events`; expires."""
        return f"{self.base}:tail"

    @property
    def events(self) -> str:
        """Channel: what happens to tasks, told only while `tail` is there."""
        return f"{self.base}:events{self.end}"

    @property
    def doorbell(self) -> str:
        """There while workers wait for `bell` instead of for each stream; expires."""
        return self.rung[0]

    @property
    def ready(self) -> str:
        """Sorted set: the streams that have ready tasks, kept while `doorbell` is there."""
        return self.rung[1]

    @property
    def bell(self) -> str:
        """Sorted set: those of `ready` that nobody has been woken for."""
        return self.rung[2]

    def key(self, name: str) -> str:
        """What is remembered of an idempotency key: digest and id of its first task; expires.

        No task type can have a `=` in its name, so this is no key of one.
        """
        return f"{self.base}:{_IDEMPOTENCY}{name}"

    @property
    def control(self) -> str:
        """Channel: requests to the workers: cancel, to those of each shard; shards, to those of the first."""
        return f"{self.base}:control{self.end}"


def shard_tag(app: str, shard: int) -> str:
    """What the names of a shard's keys begin with. The braces have Redis keep them in one slot."""
    return f"{namespace_of(app).prefix}{{{app}:{shard}}}"


def app_pattern(app: str) -> str:
    """Matches every key of an app, whatever the shard."""
    return f"{namespace_of(app).prefix}{{{app}:*}}:*"


def kind_pattern(prefix: str, kind: str) -> str:
    """Matches every key of a kind (see `VALUES`, and `apps`) in all apps of a prefix, and none of another."""
    if kind == "apps":
        return f"{prefix}apps"
    if kind == "key":
        return f"{prefix}{{*}}:{_IDEMPOTENCY}*"
    if kind in _MANY:
        return f"{prefix}{{*}}:*:{kind}:*"
    return f"{prefix}{{*}}:{kind}" if kind in _SHARD_KEYS else f"{prefix}{{*}}:*:{kind}"


def channel_rules(prefix: str, *kinds: str) -> list[str]:
    """The ACL rules for the channels of these kinds in all apps and databases of a prefix."""
    special = {"done": f"&{prefix}{{*}}:*:done:*", "news": f"&{prefix}apps*"}
    return [special.get(kind, f"&{prefix}{{*}}:{kind}*") for kind in kinds]


def type_pattern(app: str, task_type: str) -> str:
    """Matches every key of a task type, whatever the shard."""
    return app_pattern(app)[:-1] + re.sub(r"([][*?\\])", r"\\\1", task_type) + ":*"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that streamq made: its shard, its task type ('' where it belongs to the shard) and its kind."""

    shard: int
    type: str
    kind: str


def known_key(app: str, key: str) -> KnownKey | None:
    """What an app's key is; None where streamq would not have made it."""
    head, _, rest = key.removeprefix(f"{namespace_of(app).prefix}{{{app}:").partition("}:")
    if not head.isascii() or not head.isdigit():
        return None
    if rest.startswith(_IDEMPOTENCY):
        return KnownKey(int(head), "", "key")
    name, colon, kind = rest.partition(":")
    if not colon:
        return KnownKey(int(head), "", name) if name in _SHARD_KEYS else None
    many, colon, one = kind.partition(":")
    if many in _MANY and one:
        return KnownKey(int(head), name, many)
    return KnownKey(int(head), name, kind) if kind in _TYPE_KEYS and kind != "done_channel" else None


def type_keys(app: str, shard: int, task_type: str) -> TypeKeys:
    """The keys of a task type in a shard."""
    return _type_keys(namespace_of(app), app, shard, task_type)


def shard_keys(app: str, shard: int) -> ShardKeys:
    """The keys of a shard."""
    return _shard_keys(namespace_of(app), app, shard)


# An app's name is equal to that of an app of another namespace.
@lru_cache(maxsize=4096)
def _type_keys(_: Namespace, app: str, shard: int, task_type: str) -> TypeKeys:
    return TypeKeys(app, shard, task_type)


@lru_cache(maxsize=1024)
def _shard_keys(_: Namespace, app: str, shard: int) -> ShardKeys:
    return ShardKeys(app, shard)

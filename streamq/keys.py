"""The only place that spells a Redis key or channel, with `namespace`, which owns what they begin with.

Owns their names. A shard is a whole queue under one hash tag, so everything that one script touches
lives in one slot: `streamq:{shop:0}:email:high`. All names begin with the prefix of their namespace. Does
no I/O; nobody else formats a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, Final, Literal

from streamq.namespace import DEFAULT_NAMESPACE, Namespace, namespace_of

GROUP: Final = "workers"
"""The one consumer group of every stream. It starts at id 0: a task is never older than its group."""

APPS: Final = DEFAULT_NAMESPACE.apps
DAEMONS: Final = DEFAULT_NAMESPACE.daemons
DAEMON_HEARTBEATS: Final = DEFAULT_NAMESPACE.daemon_heartbeats

_IDEMPOTENCY: Final = "key="
"""Begins the name of each idempotency key's record in a shard: `…:key=<caller's key>`."""

Closing = Literal["empty", "dropped", "kept"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a kind of key.

    value: the type of value that Redis holds there. mortal: it must have a lifetime; all others live for
    ever, as one that expired would take tasks along. tasks: it holds tasks or dead letters. closing: what
    becomes of it when its shard is given up: it must be empty before, is dropped then, or kept.
    """

    value: str
    mortal: bool = False
    tasks: bool = False
    closing: Closing = "kept"


def _key(value: str, *, mortal: bool = False, tasks: bool = False, closing: Closing = "kept") -> Any:
    """Declare a key of which a task type, or a shard, has one: its name is that of the field."""
    return field(
        init=False, repr=False, compare=False, metadata={"kind": Kind(value, mortal, tasks, closing)}
    )


def _name() -> Any:
    """Declare a name that is no key: what keys begin with, or a channel."""
    return field(init=False, repr=False, compare=False)


MANY: Final = {
    "writer": Kind("string", mortal=True),
    "results": Kind("hash", mortal=True),
    "minute": Kind("hash", mortal=True),
    "quarter": Kind("hash", mortal=True),
}
"""Kinds of which a task type has many keys, as `…:email:writer:<id>`."""

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
    high: str = _key("stream", tasks=True, closing="empty")
    normal: str = _key("stream", tasks=True, closing="empty")
    low: str = _key("stream", tasks=True, closing="empty")
    suspect: str = _key("stream", tasks=True, closing="empty")
    schedule: str = _key("zset", tasks=True, closing="empty")
    index: str = _key("hash", closing="empty")
    dead: str = _key("zset", tasks=True, closing="empty")
    letters: str = _key("hash", tasks=True)
    counters: str = _key("hash")
    policy: str = _key("hash")
    rate: str = _key("list", mortal=True)
    cancels: str = _key("hash", closing="empty")
    waiters: str = _key("zset", closing="dropped")
    gone: str = _key("zset", closing="empty")
    groups: str = _key("zset")
    buckets: str = _key("zset")
    sampled: str = _key("hash")
    expiring: str = _key("zset", closing="dropped")
    lanes: str = _key("zset", tasks=True, closing="empty")
    turns: str = _key("zset", closing="dropped")
    ripe: str = _key("zset", closing="dropped")
    slots: str = _key("hash", closing="dropped")
    limits: str = _key("hash")
    done_channel: str = _name()
    resolved: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)
    """The keys of scripts, by the script's hash: see `scripts.Script.keys_of`."""

    def __post_init__(self) -> None:
        base = f"{shard_tag(self.app, self.shard)}:{self.type}"
        object.__setattr__(self, "base", base)
        for name in TYPE_KINDS:
            object.__setattr__(self, name, f"{base}:{name}")
        object.__setattr__(self, "resolved", {})
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
    end: str = _name()
    types: str = _key("set")
    workers: str = _key("zset")
    heartbeats: str = _key("hash")
    paused: str = _key("hash")
    """Hash: task type -> who paused it, when and why."""
    drains: str = _key("hash", mortal=True)
    """Hash: the workers that were asked to drain; expires."""
    action_log: str = _key("list")
    """List: what operators did, newest first; the rows are in `actions`."""
    actions: str = _key("hash")
    tail: str = _key("string", mortal=True)
    """There while somebody listens to `events`; expires."""
    closed: str = _key("string")
    """There where the shard was given up: enqueue takes nothing into it until it is opened."""
    doorbell: str = _key("string", mortal=True)
    """There while workers wait for `bell` instead of for each stream; expires."""
    ready: str = _key("zset")
    """Sorted set: the streams that have ready tasks, kept while `doorbell` is there."""
    bell: str = _key("zset")
    """Sorted set: those of `ready` that nobody has been woken for."""
    wake: str = _name()
    """Channel: something is due earlier than the daemons know."""
    resolved: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)
    """As that of a task type, for scripts that name no key of one."""

    def __post_init__(self) -> None:
        base, end = shard_tag(self.app, self.shard), namespace_of(self.app).channels_end
        for name in SHARD_KINDS:
            object.__setattr__(self, name, f"{base}:{name}")
        for name, value in {"base": base, "end": end, "wake": f"{base}:wake{end}", "resolved": {}}.items():
            object.__setattr__(self, name, value)

    @property
    def events(self) -> str:
        """Channel: what happens to tasks, told only while `tail` is there."""
        return f"{self.base}:events{self.end}"

    def key(self, name: str) -> str:
        """What is remembered of an idempotency key: digest and id of its first task; expires.

        No task type can have a `=` in its name, so this is no key of one.
        """
        return f"{self.base}:{_IDEMPOTENCY}{name}"

    @property
    def control(self) -> str:
        """Channel: requests to the workers: cancel, to those of each shard; shards, to those of the first."""
        return f"{self.base}:control{self.end}"


def _kinds(keys: type[Any]) -> dict[str, Kind]:
    return {one.name: one.metadata["kind"] for one in fields(keys) if "kind" in one.metadata}


TYPE_KINDS: Final = _kinds(TypeKeys)
"""The kinds of keys of which a task type has one in each shard."""
SHARD_KINDS: Final = _kinds(ShardKeys)
"""The kinds of keys of which a shard has one."""
KINDS: Final = {**TYPE_KINDS, **MANY, **SHARD_KINDS, "key": Kind("string", mortal=True)}
"""All kinds of keys: `key` is the record of an idempotency key."""

VALUES: Final = {name: kind.value for name, kind in KINDS.items()}
"""What kind of value Redis holds under each kind of key."""
MORTAL: Final = frozenset(name for name, kind in KINDS.items() if kind.mortal)
"""The kinds that must have a lifetime."""
HOLDING: Final = frozenset(name for name, kind in KINDS.items() if kind.tasks)
"""The kinds that hold tasks or dead letters."""


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
    if kind in MANY:
        return f"{prefix}{{*}}:*:{kind}:*"
    return f"{prefix}{{*}}:{kind}" if kind in SHARD_KINDS else f"{prefix}{{*}}:*:{kind}"


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
        return KnownKey(int(head), "", name) if name in SHARD_KINDS else None
    many, colon, one = kind.partition(":")
    if many in MANY and one:
        return KnownKey(int(head), name, many)
    return KnownKey(int(head), name, kind) if kind in TYPE_KINDS else None


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

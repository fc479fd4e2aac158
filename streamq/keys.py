"""The names of Redis keys and channels; `namespace` owns their prefix.

Owns these names: no other module may format a key. A shard is a whole queue under one hash tag, so that all
keys of a script are in one slot: `streamq:{shop:0}:email:high`. Does no I/O.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from streamq.namespace import DEFAULT_NAMESPACE, Namespace, namespace_of
from streamq.payloads.ring import ring_of

GROUP: Final = "workers"
"""The one consumer group of every stream. It starts at id 0: a task is never older than its group."""

APPS: Final = DEFAULT_NAMESPACE.apps
DAEMONS: Final = DEFAULT_NAMESPACE.daemons
DAEMON_HEARTBEATS: Final = DEFAULT_NAMESPACE.daemon_heartbeats

_IDEMPOTENCY: Final = "key="
"""Starts the name of the record of an idempotency key in a shard: `…:key=<caller's key>`."""

FLOW_PAGE: Final = 200
"""Nodes of a flow whose items, and whose results, share a key."""

SCHEDULES: Final = "@schedules"
"""What the wake channel says of schedules; of a task type it says the name."""

Closing = Literal["empty", "dropped", "kept"]

SUCCESSOR_DUE_MS: Final = 99_999_999_999_999
"""The due time in the row of a task that waits for the end of another one, which holds its unique key: later
than anything can be scheduled."""


class Kind(NamedTuple):
    """The properties of a kind of key.

    value: the type of value in Redis. mortal: it must have a lifetime; all others live forever, as their
    expiry would lose tasks. tasks: it holds tasks or dead letters. closing: when its shard is closed, it must
    be empty, is dropped, or is kept.
    """

    value: str
    mortal: bool = False
    tasks: bool = False
    closing: Closing = "kept"


def _key(value: str, *, mortal: bool = False, tasks: bool = False, closing: Closing = "kept") -> Any:
    """Declare a key that a task type, or a shard, has one of: its name is that of the field."""
    return Kind(value, mortal, tasks, closing)


def _kinds(keys: type) -> dict[str, Kind]:
    return {name: kind for name, kind in vars(keys).items() if isinstance(kind, Kind)}


MANY: Final = {
    "writer": Kind("string", mortal=True),
    "results": Kind("hash", mortal=True),
    "live": Kind("stream", mortal=True),
    "mail": Kind("hash", mortal=True),
    "minute": Kind("hash", mortal=True),
    "quarter": Kind("hash", mortal=True),
}
"""The kinds that a task type has many keys of, as `…:email:writer:<id>`."""

OF_FLOWS: Final = {
    "flow": Kind("hash", mortal=True),
    "flow_states": Kind("string", mortal=True),
    "flow_items": Kind("hash", mortal=True),
    "flow_results": Kind("hash", mortal=True),
}
"""The kinds that a shard has many keys of, as `…:flow=<id>`: a flow's record, the states of its nodes, and by
page what its nodes are to do and have returned. The name of a task type has no `=`."""

RESULT_BUCKET_MS: Final = 1000
"""Tasks with ids of the same second share one result hash: small hashes are stored packed (25 bytes a result
instead of 180 for a key of its own), and an expired one is freed in little time."""

SCHEDULED_RESULTS: Final = 256
"""So many tasks that began in the schedule share one result hash, for the same reason."""


class TypeKeys:
    """The keys of one task type in one shard. The scripts' headers describe their values. Not to be changed:
    they are shared."""

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
    unique: str = _key("hash", closing="empty")
    """Hash: digest of a unique key -> local id of the task that holds its lock."""
    after: str = _key("hash", closing="empty")
    """Hash: digest of a unique key -> local id of the task that runs after the holder of its lock."""
    steps: str = _key("hash", closing="empty")
    """Hash: the memos of the steps of all tasks; `lib/memo_names.lua` describes the fields."""
    lanes: str = _key("zset", tasks=True, closing="empty")
    turns: str = _key("zset", closing="dropped")
    ripe: str = _key("zset", closing="dropped")
    slots: str = _key("hash", closing="dropped")
    limits: str = _key("hash")
    rules: str = _key("string")
    """The rules of its lanes and unique keys, as JSON: a registration by an older release takes them out of
    `policy`, and those that not all processes can obey yet are held here. See `lua/lib/rules_kept.lua`."""

    def __init__(self, app: str, shard: int, task_type: str) -> None:
        base = f"{shard_tag(app, shard)}:{task_type}"
        self.app: str = app
        self.shard: int = shard
        self.type: str = task_type
        self.base: str = base
        self.resolved: dict[str, tuple[str, ...]] = {}
        """The keys of scripts, by the script's SHA: see `scripts.Script.keys_of`."""
        end = namespace_of(app).channels_end.removeprefix(":")
        self.done_channel: str = f"{base}:done:{end}:" if end else f"{base}:done:"
        for name in TYPE_KINDS:
            setattr(self, name, f"{base}:{name}")

    def __repr__(self) -> str:
        return f"TypeKeys({self.app!r}, {self.shard}, {self.type!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeKeys) and other.base == self.base

    def __hash__(self) -> int:
        return hash(self.base)

    @property
    def streams(self) -> tuple[str, str, str, str]:
        """The streams in the order of the letters h, n, l, s."""
        return (self.high, self.normal, self.low, self.suspect)

    def stream(self, letter: str) -> str:
        """Return the stream of a letter."""
        return self.streams["hnls".index(letter)]

    def writer(self, writer: str) -> str:
        """Return the key of one writer's last call and its answer; it expires."""
        return f"{self.base}:writer:{writer}"

    def results(self, local: str) -> str:
        """Return the hash with the result of this task; it expires as a whole."""
        stamp, _, number = local[1:].partition("-")
        if local[0] == "d":
            return f"{self.base}:results:d{int(number) // SCHEDULED_RESULTS}"
        return f"{self.base}:results:{int(stamp) // RESULT_BUCKET_MS}"

    def live(self, local: str) -> str:
        """Return the stream of what this task tells while it runs; it expires."""
        return f"{self.base}:live:{local}"

    def mail(self, local: str) -> str:
        """Return the mailbox of this task: the signals that it has not taken yet; it expires."""
        return f"{self.base}:mail:{local}"

    def watched(self, local: str) -> str:
        """Return the channel that says that a task has told something, to which watchers subscribe."""
        return f"{self.done(local)}:live"

    def minute(self, number: int) -> str:
        """Return the rollup of a minute since the epoch; it expires."""
        return f"{self.base}:minute:{number}"

    def quarter(self, number: int) -> str:
        """Return the rollup of a quarter of an hour since the epoch; it expires."""
        return f"{self.base}:quarter:{number}"

    def done(self, local: str) -> str:
        """Return the channel for a task's end, to which clients that wait for it subscribe."""
        return self.done_channel + local


class ShardKeys:
    """The keys of one shard that belong to no single task type. Not to be changed: they are shared."""

    types: str = _key("set")
    workers: str = _key("zset")
    heartbeats: str = _key("hash")
    paused: str = _key("hash")
    """Hash: task type -> the operator who paused it, when and why."""
    drains: str = _key("hash", mortal=True)
    """Hash: the workers that were asked to drain; it expires."""
    action_log: str = _key("list")
    """List: what operators did, newest first; the rows are in `actions`."""
    actions: str = _key("hash")
    tail: str = _key("string", mortal=True)
    """Exists while a client reads `events`; it expires."""
    closed: str = _key("string")
    """Exists if the shard was closed: enqueue accepts no task for it until it is opened."""
    doorbell: str = _key("string", mortal=True)
    """Exists while workers wait for `bell` instead of for each stream; it expires."""
    ready: str = _key("zset")
    """Sorted set: the streams with ready tasks, kept while `doorbell` exists."""
    bell: str = _key("zset")
    """Sorted set: those of `ready` for which no worker has been woken."""
    schedules: str = _key("hash", closing="empty")
    """Hash: the definition of each schedule, and under `<name>:state` and `<name>:payload` its state and the
    arguments of its tasks."""
    schedules_due: str = _key("zset", closing="empty")
    """Sorted set: schedules by the time of their next run."""
    inbox: str = _key("zset", closing="empty")
    """Sorted set: what has ended of the nodes of flows, by the time; see `lua/lib/flow_claim.lua`."""
    flows: str = _key("zset", closing="empty")
    """Sorted set: flows by the time at which they are looked after next."""
    flow_names: str = _key("hash", closing="dropped")
    """Hash: `k<key>` -> the flow that was started with the key, and `i<flow>` -> the key."""
    blobs: str = _key("zset")
    """Sorted set: the names of blobs by the time from which each may be removed: see
    `lua/lib/blob_claim.lua`."""

    def __init__(self, app: str, shard: int) -> None:
        base, end = shard_tag(app, shard), namespace_of(app).channels_end
        self.app: str = app
        self.shard: int = shard
        self.base: str = base
        self.end: str = end
        self.wake: str = f"{base}:wake{end}"
        """Channel: a task is due earlier than the daemons know."""
        self.resolved: dict[str, tuple[str, ...]] = {}
        """The same for scripts that have no key of a task type."""
        for name in SHARD_KINDS:
            setattr(self, name, f"{base}:{name}")

    def __repr__(self) -> str:
        return f"ShardKeys({self.app!r}, {self.shard})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShardKeys) and other.base == self.base

    def __hash__(self) -> int:
        return hash(self.base)

    @property
    def events(self) -> str:
        """Channel: events of tasks, published only while `tail` exists."""
        return f"{self.base}:events{self.end}"

    def key(self, name: str) -> str:
        """Return the record of an idempotency key, with digest and id of its first task; it expires.

        The name of a task type has no `=`, so this is not a key of one.
        """
        return f"{self.base}:{_IDEMPOTENCY}{name}"

    def flow(self, flow: str) -> str:
        """Return the record of a flow; it expires some time after the flow has ended."""
        return f"{self.base}:flow={flow}"

    def flow_done(self, flow: str) -> str:
        """Return the channel that says that a flow may have ended, to which those that wait for it subscribe.

        Scripts make it of the record's name, so it has no mark of the database: a flow's id is nowhere twice.
        """
        return f"{self.base}:flow:done:{flow}"

    def flow_states(self, flow: str) -> str:
        """Return the states of a flow's nodes, a letter each; see `lua/lib/flow_open.lua`."""
        return f"{self.base}:flow_states={flow}"

    def flow_items(self, flow: str, page: str) -> str:
        """Return what the nodes of a page are to do."""
        return f"{self.base}:flow_items={flow}:{page}"

    def flow_results(self, flow: str, node: int) -> str:
        """Return the results of the nodes of this one's page."""
        return f"{self.base}:flow_results={flow}:{node // FLOW_PAGE}"

    @property
    def control(self) -> str:
        """Channel: requests to workers; `cancel` in each shard, `shards` in the first."""
        return f"{self.base}:control{self.end}"


TYPE_KINDS: Final = _kinds(TypeKeys)
"""The kinds of keys that a task type has one of in each shard."""
SHARD_KINDS: Final = _kinds(ShardKeys)
"""The kinds of keys that a shard has one of."""
KINDS: Final = {**TYPE_KINDS, **MANY, **SHARD_KINDS, **OF_FLOWS, "key": Kind("string", mortal=True)}
"""All kinds of keys: `key` is the record of an idempotency key."""

VALUES: Final = {name: kind.value for name, kind in KINDS.items()}
"""The type of value of each kind of key."""
MORTAL: Final = frozenset(name for name, kind in KINDS.items() if kind.mortal)
"""The kinds that must have a lifetime."""
HOLDING: Final = frozenset(name for name, kind in KINDS.items() if kind.tasks)
"""The kinds that hold tasks or dead letters."""


def shard_tag(app: str, shard: int) -> str:
    """Return the start of the names of a shard's keys. The braces make Redis keep them in one slot."""
    return f"{namespace_of(app).prefix}{{{app}:{shard}}}"


def app_pattern(app: str) -> str:
    """Return the pattern of all keys of an app, in any shard."""
    return f"{namespace_of(app).prefix}{{{app}:*}}:*"


def kind_pattern(prefix: str, kind: str) -> str:
    """Return the pattern of all keys of a kind (see `VALUES`, and `apps`) in all apps of a prefix, and of no
    other kind."""
    if kind == "apps":
        return f"{prefix}apps"
    if kind == "key":
        return f"{prefix}{{*}}:{_IDEMPOTENCY}*"
    if kind in OF_FLOWS:
        return f"{prefix}{{*}}:{kind}=*"
    if kind in MANY:
        return f"{prefix}{{*}}:*:{kind}:*"
    return f"{prefix}{{*}}:{kind}" if kind in SHARD_KINDS else f"{prefix}{{*}}:*:{kind}"


def channel_rules(prefix: str, *kinds: str) -> list[str]:
    """Return the ACL rules for the channels of these kinds, in all apps and databases of a prefix."""
    special = {"done": f"&{prefix}{{*}}:*:done:*", "news": f"&{prefix}apps*"}
    return [special.get(kind, f"&{prefix}{{*}}:{kind}*") for kind in kinds]


def type_pattern(app: str, task_type: str) -> str:
    """Return the pattern of all keys of a task type, in any shard."""
    return app_pattern(app)[:-1] + re.sub(r"([][*?\\])", r"\\\1", task_type) + ":*"


class KnownKey(NamedTuple):
    """A key of streamq: its shard, its task type ('' if it belongs to the shard) and its kind."""

    shard: int
    type: str
    kind: str


def known_key(app: str, key: str) -> KnownKey | None:
    """Return what an app's key is; None if it is not a key of streamq."""
    head, _, rest = key.removeprefix(f"{namespace_of(app).prefix}{{{app}:").partition("}:")
    if not head.isascii() or not head.isdigit():
        return None
    if rest.startswith(_IDEMPOTENCY):
        return KnownKey(int(head), "", "key")
    if (kind := rest.partition("=")[0]) in OF_FLOWS and "=" in rest:
        return KnownKey(int(head), "", kind)
    name, colon, kind = rest.partition(":")
    if not colon:
        return KnownKey(int(head), "", name) if name in SHARD_KINDS else None
    many, colon, one = kind.partition(":")
    if many in MANY and one:
        return KnownKey(int(head), name, many)
    return KnownKey(int(head), name, kind) if kind in TYPE_KINDS else None


def type_keys(app: str, shard: int, task_type: str) -> TypeKeys:
    """Return the keys of a task type in a shard."""
    return _type_keys(namespace_of(app), id(ring_of(app)), app, shard, task_type)


def shard_keys(app: str, shard: int) -> ShardKeys:
    """Return the keys of a shard."""
    return _shard_keys(namespace_of(app), id(ring_of(app)), app, shard)


# The namespace and the key ring are parts of the cache key: apps that differ in them may have equal names.
# What is cached keeps its ring alive, so no other one has its id.
@lru_cache(maxsize=4096)
def _type_keys(_: Namespace, __: int, app: str, shard: int, task_type: str) -> TypeKeys:
    return TypeKeys(app, shard, task_type)


@lru_cache(maxsize=1024)
def _shard_keys(_: Namespace, __: int, app: str, shard: int) -> ShardKeys:
    return ShardKeys(app, shard)

"""Define the Redis users of a queue: what each part may do, as the rules of an ACL file.

Owns which user may send which command, and which keys a producer and a worker may write. Redis checks scripts
command by command, so EVAL grants no more than these rules. Asks no server: `rights` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from streamq.errors import UsageError
from streamq.keys import channel_rules, kind_pattern

Writes = tuple[tuple[str, str], ...]
"""Commands that write, and the kinds of keys that they may write."""

_STREAMS: Final = "high normal low suspect"
_FLOWS: Final[Writes] = (
    ("hset hincrby hdel", "flow"),
    ("hset", "flow_items"),
    ("hset hdel", "flow_names"),
    ("set setrange append", "flow_states"),
    ("zadd zrem", "inbox flows"),
    ("pexpire", "flow flow_states flow_items flow_results"),
    ("zrem", "gone"),
)
"""Whoever lets flows go on: programs that start them, and workers. Dead letters of nodes that run again are
taken away by operators and daemons."""
_PRODUCES: Final[Writes] = (
    *_FLOWS,
    ("hincrby", "counters"),
    ("xadd", _STREAMS),
    ("set pexpire lpush ltrim", "writer key rate"),
    ("set", "rules"),
    ("zadd", "schedule expiring waiters gone ready bell schedules_due lanes turns ripe blobs"),
    ("hset hdel", "policy cancels unique after index schedules slots"),
    ("hset hdel", "steps"),
    ("hset pexpire", "mail"),
    ("hset", "apps sampled"),
    ("hdel", "counters"),
    ("sadd", "types"),
    ("xdel", _STREAMS),
    ("zrem", "schedule expiring waiters schedules_due lanes turns ripe"),
    ("del", "closed turns rules"),
)
_WORKS: Final[Writes] = (
    *_FLOWS,
    ("xack xadd xdel xclaim xreadgroup xgroup|create xgroup|delconsumer", _STREAMS),
    (
        "hset",
        "index counters results letters heartbeats policy cancels apps unique after schedules slots steps",
    ),
    ("hdel", "index counters cancels heartbeats policy unique after schedules slots steps"),
    ("hincrby", "counters minute quarter"),
    ("xadd pexpire", "live"),
    ("hset", "flow_results sampled"),
    ("hset hdel pexpire", "mail"),
    ("set pexpire lpush ltrim", "writer key rate doorbell results minute quarter"),
    ("set", "rules"),
    ("zadd", "schedule expiring waiters gone ready bell dead groups buckets workers schedules_due"),
    ("zadd", "lanes turns ripe blobs"),
    ("zrem", "schedule expiring waiters ready bell workers schedules_due lanes turns ripe blobs"),
    ("bzpopmin", "bell"),
    ("sadd", "types"),
    ("del", "closed turns rules"),
)
_OPERATES: Final[Writes] = (
    *_FLOWS,
    ("hdel", "letters paused schedules slots limits steps"),
    ("hset", "index actions schedules slots limits steps mail"),
    ("pexpire", "mail"),
    ("hsetnx", "paused drains actions"),
    ("lpush rpop", "action_log"),
    ("xadd", "high normal low"),
    ("zadd", "schedules_due lanes turns ripe blobs"),
    ("zrem", "dead groups schedule schedules_due lanes turns ripe blobs"),
    ("srem", "types"),
    (
        "del",
        f"{_STREAMS} schedule dead letters index groups gone waiters cancels policy counters rate buckets",
    ),
    (
        "del",
        "counters rate buckets sampled expiring unique after steps results minute quarter",
    ),
    ("del", "lanes turns ripe slots limits rules"),
)
WRITES: Final[dict[str, Writes]] = {"producer": _PRODUCES, "worker": _WORKS, "operator": _OPERATES}
"""What each role writes. An operator's user may write all keys: it also repairs."""

_CONNECTION: Final = "-@all +@connection -@dangerous -reset -client|tracking"
"""Only commands about the user's own connection. Not tracking: it reveals the names of all changed keys."""
_READS: Final = (
    "+cluster|slots +eval +evalsha +exists +get +getrange +hexists +hget +hgetall +hkeys +hmget +info "
    "+lindex +llen +mget +pttl +role +time +xlen +xpending +xrange +zcard +zcount +zmscore +zrange +zscore"
)
_DAEMON: Final = (
    "+append +cluster|slots +del +eval +evalsha +exists +get +getrange +hdel +hexists +hget +hgetall "
    "+hincrby +hlen +hmget +hscan +hset +info +lindex +llen +lpush +ltrim +pexpire +pttl +publish +role "
    "+sadd +scard +set +setrange +sismember +smembers "
    "+subscribe +time +unsubscribe +xack +xadd +xautoclaim +xclaim +xdel +xgroup|create "
    "+xgroup|delconsumer +xinfo|consumers +xinfo|groups +xlen +xpending +xrange +zadd +zcard +zcount "
    "+zmscore +zrange +zrem +zremrangebyrank +zremrangebyscore +zscore"
)
_VIEWS: Final = (
    "+acl|whoami +cluster|slots +eval +evalsha +exists +get +getrange +hexists +hget +hgetall +hkeys "
    "+hlen +hmget +hscan +hstrlen +info +llen +lrange +multi +pttl +role +scan +smembers +time +type "
    "+xinfo|consumers +xinfo|groups +xlen +xpending +xrange +xrevrange +zcard +zcount +zlexcount "
    "+zrange +zrevrank +zscan +zscore"
)
_ACTS: Final = (
    "+append +del +hdel +hincrby +hset +hsetnx +lindex +lpush +ltrim +mget +persist +pexpire +publish "
    "+rpop +sadd +script|kill +set +setrange +srem +subscribe +unsubscribe +xack +xadd +xdel "
    "+xgroup|create +zadd +zmscore +zrem"
)
_ADMIN: Final = "~* &* +@all"
_SENTINEL: Final = (
    "resetchannels allchannels -@all +multi +exec +ping +subscribe +publish +info +role +slaveof "
    "+replicaof +config|rewrite +client|setname +client|kill +script|kill"
)

QUEUE: Final = ("producer", "worker", "daemon", "viewer", "operator")
"""The users of a queue. A server of its own also has those in `SERVER`."""
SERVER: Final = ("admin", "sentinel", "replica")


class User(NamedTuple):
    """A user in an ACL file: disabled, and without a password."""

    name: str
    rules: str

    def __str__(self) -> str:
        return f"user {self.name} off {self.rules}"


def user(role: str, prefix: str, name: str = "") -> User:
    """Return the user for a role in the apps of a prefix. Raises UsageError."""
    if role not in QUEUE + SERVER:
        raise UsageError(f"{role!r:.40} is not a role: use one of {', '.join(QUEUE + SERVER)}")
    return User(name or role, _rules(role, prefix))


def file(prefix: str, roles: Sequence[str] = QUEUE + SERVER, names: str = "") -> str:
    """Return an ACL file for these roles. names: a prefix for the names of the queue's users."""
    users = [user(role, prefix, role if role in SERVER else names + role) for role in roles]
    head = ["user default off"] if "admin" in roles else []
    return "\n".join([*head, *map(str, users)]) + "\n"


def _rules(role: str, prefix: str) -> str:
    keys, channels = f"~{prefix}* resetchannels", f"&{prefix}*"
    match role:
        case "producer":
            done = " ".join(channel_rules(prefix, "done"))
            publishes = _selector("publish", channel_rules(prefix, "done", "wake", "control", "news"))
            lines = [f"{keys} {done} {_CONNECTION} {_READS} +subscribe +unsubscribe"]
            return " ".join([*lines, *_selectors(_PRODUCES, prefix), publishes])
        case "worker":
            subscribes = " ".join(channel_rules(prefix, "done", "control"))
            publishes = _selector(
                "publish", channel_rules(prefix, "done", "wake", "control", "news", "events")
            )
            more = "+client|unblock +hscan +subscribe +unsubscribe +xinfo|groups"
            lines = [f"{keys} {subscribes} {_CONNECTION} {_READS} {more}"]
            return " ".join([*lines, *_selectors(_WORKS, prefix), publishes])
        case "daemon":
            return f"{keys} {channels} {_CONNECTION} {_DAEMON}"
        case "viewer":
            return f"{keys} {_CONNECTION} {_VIEWS}"
        case "operator":
            return f"{keys} {channels} {_CONNECTION} {_VIEWS} {_ACTS}"
        case "sentinel":
            return _SENTINEL
        case "replica":
            return "-@all +psync +replconf +ping"
        case _:
            return _ADMIN


def _selectors(writes: Writes, prefix: str) -> list[str]:
    return [
        _selector(commands, [f"~{kind_pattern(prefix, kind)}" for kind in kinds.split()])
        for commands, kinds in writes
    ]


def _selector(commands: str, patterns: Sequence[str]) -> str:
    """Return a selector: these commands on these keys or channels only, separate from the user's other
    rights."""
    granted = " ".join(f"+{command}" for command in commands.split())
    return f"(resetchannels -@all {granted} {' '.join(patterns)})"

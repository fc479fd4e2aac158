"""How each command is sent to find out whether a user may: with arguments that the server accepts.

Owns these arguments. Who needs which command is in `needs`. Asks no server.
"""

from __future__ import annotations

from typing import Final

from streamq.keys import ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.namespace import namespace_of

Command = tuple[str, ...]

# Arguments with which the server accepts each command; K stands for a key.
_SAMPLES: Final = {
    "APPEND": "K v", "EXISTS": "K", "GET": "K", "GETRANGE": "K 0 1", "SETRANGE": "K 0 v", "HDEL": "K f",
    "HEXISTS": "K f", "HGET": "K f", "HGETALL": "K", "HINCRBY": "K f 1", "HKEYS": "K", "HLEN": "K",
    "HMGET": "K f",
    "HSCAN": "K 0", "HSET": "K f v", "LINDEX": "K 0",
    "HSETNX": "K f v", "HSTRLEN": "K f", "LLEN": "K", "RPOP": "K",
    "LPUSH": "K v", "LTRIM": "K 0 1", "DEL": "K", "PERSIST": "K", "PEXPIRE": "K 1", "PTTL": "K",
    "MGET": "K", "SADD": "K m", "SCARD": "K",
    "SISMEMBER": "K m", "SREM": "K m", "SET": "K v",
    "SMEMBERS": "K", "TIME": "", "TYPE": "K", "XACK": "K g 0-1",
    "XADD": "K * f v", "XAUTOCLAIM": "K g c 1 0-0", "XCLAIM": "K g c 1 0-1", "XDEL": "K 0-1",
    "XGROUP CREATE": "K g 0", "XGROUP DELCONSUMER": "K g c", "XINFO CONSUMERS": "K g", "XINFO GROUPS": "K",
    "XLEN": "K", "XPENDING": "K g - + 1", "XRANGE": "K - +", "XREVRANGE": "K + -",
    "XREADGROUP": "GROUP g c STREAMS K >",
    "BZPOPMIN": "K 1",
    "ZADD": "K 1 m", "ZMSCORE": "K m", "ZCARD": "K", "ZCOUNT": "K 0 1", "ZLEXCOUNT": "K - +",
    "ZREVRANK": "K m",
    "ZREMRANGEBYSCORE": "K 0 1", "ZRANGE": "K 0 1", "ZREM": "K m",
    "ZREMRANGEBYRANK": "K 0 0", "ZSCAN": "K 0", "ZSCORE": "K m", "PUBLISH": "C x", "SUBSCRIBE": "C",
    "UNSUBSCRIBE": "C",
    "EVAL": "return 1 K", "EVALSHA": "0 1 K", "CLIENT ID": "",
    "CLIENT SETNAME": "x", "CLIENT UNBLOCK": "0", "SCAN": "0",
    "WAIT": "0 1", "WAITAOF": "1 0 1",
}  # fmt: skip
_SAMPLES_EVAL: Final = {"EVAL": ("return", "1"), "EVALSHA": ("0" * 40, "1")}


def sample(name: str, app: str, shard: int = 0, task_type: str = "doctor") -> Command:
    """Return a command as it is sent, with arguments that the server accepts."""
    words = name.split()
    t, s = type_keys(app, shard, task_type), shard_keys(app, shard)
    key, channel = t.normal, s.control
    if words[-1].islower():
        key = channel = _named(t, s, words.pop())
    if words[0] in _SAMPLES_EVAL:
        return (words[0], *_SAMPLES_EVAL[words[0]], key)
    arguments = _SAMPLES[" ".join(words)].split()
    return (*words, *({"K": key, "C": channel}.get(word, word) for word in arguments))


def _named(t: TypeKeys, s: ShardKeys, kind: str) -> str:
    """Return a key or channel of this kind."""
    namespace = namespace_of(t.app)
    some = {
        "apps": namespace.apps, "daemons": namespace.daemons, "done": t.done("n0-0"), "key": s.key("doctor"),
        "writer": t.writer("doctor"), "results": t.results("n0-0"), "minute": t.minute(0),
        "live": t.live("n0-0"), "mail": t.mail("n0-0"),
        "flow": s.flow("0-0"), "flow_states": s.flow_states("0-0"),
        "flow_items": s.flow_items("0-0", "0"), "flow_results": s.flow_results("0-0", 0),
    }  # fmt: skip
    named = some.get(kind) or getattr(s, kind, None) or getattr(t, kind)
    return str(named if isinstance(named, str) else t.quarter(0))

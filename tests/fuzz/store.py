"""A queue with every kind of key in it, which is put back as it was after each attack.

Owns the filling, the attacks on one key and the looks of an operator: commands, pages, metrics, backlog.
"""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from streamq import Every, Schedule, StreamQ, TaskHandle
from streamq.calls.blobs import LIVES
from streamq.cli import main
from streamq.keys import SUCCESSOR_DUE_MS, shard_keys, type_keys
from streamq.model.task import TaskId
from streamq.schedules.definition import defined
from streamq.schedules.state import State
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.fuzz.hostile import ODD

APPS, DAEMONS, BEATS = "streamq:apps", "streamq:daemons", "streamq:daemon_heartbeats"
NEIGHBOUR: Final = "other"
"""The task type that is never attacked: no look may lose it."""

_NUMBERS: Final = [
    b"inf", b"+inf", b"-inf", b"nan", b"1e308", b"-1e308", b"1e400", b"-7", b"2.5", b"-0", b"\xc2\xb2",
    b"9" * 15, b"9" * 16, b"9" * 19, b"9" * 400, b"9" * 5000, b"1" + b"0" * 300,
]  # fmt: skip
_NAMES: Final = (
    "types", "running", "problems", "concurrency", "running_count", "pid", "host", "version", "only",
    "heartbeat", "draining", "id", "attempt", "since_ms", "at_ms", "by", "reason", "verb", "what", "asked",
    "shards", "known", "epoch", "past", "error", "message", "traceback", "worker", "wait_ms", "run_ms",
    "frame",
)  # fmt: skip
_MEMBERS: Final[list[Any]] = [
    None, True, -1, 2.5, 1e308, -1e308, 10**18, 2**63, "", "x", "inf", "\x1b[2J\x1b]0;x\x07", "a\nb\r\tc",
    "\u202e\u0000", [], {}, [None], [5, "x", None], {"x": 5}, "9" * 400, [{"id": 5}],
    [{"id": "email:0:n1-0", "since_ms": 1e308, "attempt": []}], {"9" * 30: 5, "x": "y", "2": "inf"},
]  # fmt: skip


def _objects() -> Iterator[bytes]:
    """JSON objects with the names that streamq reads and values that it does not write."""
    for member in _MEMBERS:
        if not isinstance(member, int) or abs(member) < 2**63:
            one = dict.fromkeys(_NAMES, member)
            yield from (orjson.dumps(one), orjson.dumps([one]), b"1700000000000 " + orjson.dumps(one))
    for name in ("since_ms", "heartbeat", "concurrency", "at_ms", "attempt"):
        for number in ("1e308", "-1e308", "9" * 400, "9" * 18, "-1"):
            inner = f'{{"id":"email:0:n1-0","attempt":1,"{name}":{number}}}'
            yield f'{{"{name}":{number},"types":["email"],"running":[{inner}]}}'.encode()


VALUES: Final = [
    *ODD, *_NUMBERS, *_objects(), b"\x1b[31m\x1b]0;title\x07", b"a\nb\rc\td", b"\xff\xfe\xfd",
    b"\xe2\x80\xae",
    b'{"a":' * 800 + b"1" + b"}" * 800, b"[" * 250 + b"]" * 250,
]  # fmt: skip
SCORES: Final = ("inf", "-inf", "1e308", "-1e308", "-5", "2.5", "9007199254740993", "1e17")
_FIELDS: Final = (b"p", b"i", b"a", b"l", b"q", b"e", b"x", b"m", b"f", b"o", b"t", b"v", b"c", b"size")


class Store:
    """The queue `shop` on a server of its own, in two shards."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app = StreamQ("shop", url, shards=2)
        self._transport = SyncTransport(Address.parse(url))
        self._kept: list[tuple[bytes, int, bytes]] = []
        self.ids: list[str] = []
        self.flows: list[str] = []
        """Ids of flows, that of the neighbour last."""

    def ask(self, *args: str | int | bytes) -> Any:
        from streamq.calls.call import Call

        return self._transport.run(Call(None, (), args, lambda reply: reply))

    def close(self) -> None:
        self._transport.close()
        self.app.close()

    def keep(self) -> None:
        """Remember the queue as it is now."""
        self._kept = [
            (key, max(0, self.ask("PTTL", key)), self.ask("DUMP", key))
            for key in sorted(self.ask("KEYS", "*"))
        ]

    def put_back(self) -> None:
        self.ask("FLUSHALL")
        for key, _, value in self._kept:
            self.ask("RESTORE", key, 0, value)

    def names(self) -> list[str]:
        return [key.decode("utf-8", "replace") for key, _, _ in self._kept]


def fill(here: Store, handles: list[TaskHandle[Any]]) -> None:  # noqa: PLR0915 - one row a kind of key
    """What no worker and daemon leave behind: what is under way, and keys that live for a moment."""
    here.ids = [handle.id for handle in handles]
    now = here.ask("TIME")
    now_ms = int(now[0]) * 1000
    for shard in range(2):
        s = shard_keys("shop", shard)
        beat = {
            "types": ["email", NEIGHBOUR], "running": [{"id": here.ids[0], "attempt": 1, "since_ms": now_ms}],
            "concurrency": 4, "running_count": 1, "pid": 7, "host": "here", "version": "1", "heartbeat": 1e6,
        }  # fmt: skip
        here.ask("ZADD", s.workers, now_ms, "here-1-abc123", now_ms, "here-2-abc124")
        here.ask(
            "HSET", s.heartbeats, "here-1-abc123", orjson.dumps(beat), "here-2-abc124", orjson.dumps(beat)
        )
        for flow in here.flows:
            if f":{shard}:" in flow:
                here.ask("ZADD", s.inbox, now_ms, f"{flow.rpartition(':')[2]} look")
        here.ask(
            "ZADD", s.blobs, now_ms + 60_000, "streamq%3Ashop/email/1-0", LIVES, "streamq%3Ashop/email/2-0"
        )
        here.ask("HSET", s.drains, "here-9-abc129", "1")
        here.ask("SET", s.tail, "1")
        here.ask("SET", s.doorbell, "1")
        here.ask("ZADD", s.ready, 1, f"{s.base}:email:normal")
        here.ask("ZADD", s.bell, 1, f"{s.base}:email:normal")
        here.ask("HSET", s.paused, "email", orjson.dumps({"by": "me", "at_ms": now_ms, "reason": "x"}))
        here.ask("LPUSH", s.action_log, "0123456789abcdef")
        told = orjson.dumps({"by": "me", "verb": "pause", "what": "email", "asked": 1})
        here.ask("HSET", s.actions, "0123456789abcdef", b"%d " % now_ms + told, "0123456789abcdef:done", "1")
        here.ask("SET", s.key("abc"), "x" * 16 + "n5-0")
        for name in ("email", NEIGHBOUR):
            wanted = defined(Schedule(Every("1d")), name, "n", (), b"{}")
            stands = State(
                revision=1, origin="code", next=now_ms + 10**7, run="n5-0", run_type=name, ran=5, runs=2,
                skipped={"misfire": 3},
            )  # fmt: skip
            here.ask(
                "HSET", s.schedules, name, wanted.stored(), f"{name}:state", stands.stored(),
                f"{name}:payload", "{}",
            )  # fmt: skip
            here.ask("ZADD", s.schedules_due, now_ms + 10**7, name)
        for name in ("email", NEIGHBOUR):
            t = type_keys("shop", shard, name)
            for stream in t.streams:
                here.ask("XADD", stream, "*", "p", '{"x":1}')
                here.ask("XADD", stream, "*", "p", '{"x":1}', "a", "1", "q", "n")
                here.ask("XADD", stream, "*", "p", '{"x":2}')
                if not here.ask("XINFO", "GROUPS", stream):
                    here.ask("XGROUP", "CREATE", stream, "workers", "0")
                here.ask(
                    "XREADGROUP", "GROUP", "workers", "here-1-abc123", "COUNT", 1, "STREAMS", stream, ">"
                )
            here.ask(
                "HSET",
                t.policy,
                "lease_ms",
                "30000",
                "max_lost",
                "3",
                "rate_limit",
                "5/60000",
                "handler",
                "x",
            )
            here.ask("RPUSH", t.rate, now_ms)
            here.ask("HSET", t.cancels, "n5-0", now_ms)
            here.ask("ZADD", t.waiters, now_ms, "n5-0")
            here.ask("ZADD", t.gone, now_ms, "xn5-0", now_ms, "en6-0")
            here.ask("ZADD", t.expiring, now_ms + 10**6, "n5-0")
            here.ask("ZADD", t.buckets, now_ms // 60000, now_ms // 60000)
            here.ask("HSET", t.sampled, "accepted", "3", "completed", "2")
            here.ask("HSET", t.counters, "completed", "2")
            here.ask("HSET", t.index, "n5-0", "n6-0")
            here.ask("HSET", t.unique, b"0" * 16, "n5-0")
            here.ask("HSET", t.after, b"0" * 16, f"d{SUCCESSOR_DUE_MS}-5")
            parked = packed([b"p", b"{}", b"i", b"d5-7"])
            here.ask("ZADD", t.lanes, 0, b"acme\x002000000000000007n1;;" + parked)
            here.ask("HSET", t.index, "d5-7", "k27 acme")
            here.ask("HSET", t.slots, "acme", "1;;;;", "", ";;")
            here.ask("HSET", t.limits, "acme", "1;;;")
            here.ask("ZADD", t.turns, 7, "acme")
            here.ask("ZADD", t.ripe, now_ms + 10**7, "acme")
            here.ask("HSET", t.steps, "n5-0", "1\0one", "n5-0\0one", "1")
            here.ask("HSET", t.mail("n5-0"), "", "0123456789abcdef", "yes", "1 1", "yes\x001", "1")
            here.ask("PEXPIRE", t.mail("n5-0"), 10**7)
            here.ask("SET", t.rules, "{}")
            here.ask("XADD", t.live("n5-0"), "*", "k", "progress", "a", "1", "d", '{"done":1}')
            here.ask("PEXPIRE", t.live("n5-0"), 10**7)
            here.ask("SET", t.writer("abcdef"), "1 n5-0")
            here.ask("HSET", t.results(f"n{now_ms}-0"), f"n{now_ms}-0", '"done"')
            here.ask("HSET", t.results("d0-5"), "d0-5", '"done"')
            for rollup in (t.minute(now_ms // 60000 - 1), t.quarter(now_ms // 900000)):
                here.ask(
                    "HSET", rollup, "accepted", 5, "completed", 4, "wait:50", 3, "run:60", 3, "backlog", 7
                )
    here.ask("HSET", APPS, "neighbour", '{"shards":1,"known":1}')
    here.ask("ZADD", DAEMONS, now_ms, "here-3-abc125")
    here.ask("HSET", BEATS, "here-3-abc125", '{"host":"h","pid":3,"version":"1","heartbeat":1000000}')
    here.keep()


# -- attacks ---------------------------------------------------------------------------------------------


def wrong_kind(here: Store, key: str, rng: random.Random) -> str:
    """Another kind of value under the key."""
    kind = here.ask("TYPE", key)
    here.ask("DEL", key)
    args = [("SET", key, "x"), ("RPUSH", key, "x"), ("HSET", key, "x", "y"), ("SADD", key, "x")]
    command = rng.choice(
        [
            one
            for one in args
            if kind != {"SET": b"string", "RPUSH": b"list"}.get(one[0])
            and not (one[0] == "HSET" and kind == b"hash")
            and not (one[0] == "SADD" and kind == b"set")
        ]
    )
    here.ask(*command)
    return " ".join(command)


def spoil(here: Store, key: str, values: list[bytes], rng: random.Random) -> str:
    """Hostile values beside and in place of what is there."""
    kind = here.ask("TYPE", key)
    match kind:
        case b"string":
            value = rng.choice(values)
            here.ask("SET", key, value)
            return f"SET {key} {value[:80]!r}"
        case b"hash":
            _hash(here, key, values, rng)
        case b"zset":
            _zset(here, key, values, rng)
        case b"set":
            here.ask("SADD", key, *values)
        case b"list":
            here.ask("LPUSH", key, *values)
        case b"stream":
            for value in values:
                name = rng.choice(_FIELDS)
                here.ask("XADD", key, "*", "p", '{"x":1}', name, value)
            here.ask(
                "XREADGROUP",
                "GROUP",
                "workers",
                rng.choice(values)[:50] or b"w",
                "COUNT",
                40,
                "STREAMS",
                key,
                ">",
            )
        case _:
            raise AssertionError(kind)
    return f"{kind.decode()} {key} {[value[:80] for value in values[:3]]}"


def _hash(here: Store, key: str, values: list[bytes], rng: random.Random) -> None:
    fields = here.ask("HKEYS", key)
    for field in fields[: max(1, len(fields) // 2)] if len(values) > 1 else fields[:1]:
        here.ask("HSET", key, field, rng.choice(values))
    for value in values:
        here.ask("HSET", key, value[:1000], rng.choice(values))
    if key.endswith(":letters"):
        for value in values:
            letter = packed([b"x", b"n", b"1700000000000", [b"p", b'{"x":1}', rng.choice(_FIELDS), value]])
            id_ = b"n%d-7" % rng.randrange(10**12)
            here.ask("HSET", key, id_, letter)
            here.ask("ZADD", key[: -len("letters")] + "dead", rng.choice(SCORES), id_)
    if "actions" in key:
        for number, value in enumerate(values):
            here.ask("LPUSH", key[: -len("actions")] + "action_log", f"{number:016x}")
            here.ask("HSET", key, f"{number:016x}", value, f"{number:016x}:done", rng.choice(values))
    if "heartbeats" in key:
        listed = DAEMONS if "daemon" in key else key[: -len("heartbeats")] + "workers"
        for number, value in enumerate(values):
            here.ask("HSET", key, f"w-{number}", value)
            here.ask("ZADD", listed, rng.choice(("1e300", "inf", "9999999999999", "5")), f"w-{number}")


def _zset(here: Store, key: str, values: list[bytes], rng: random.Random) -> None:
    for member in here.ask("ZRANGE", key, 0, 2):
        here.ask("ZADD", key, rng.choice(SCORES), member)
    for value in values:
        here.ask("ZADD", key, rng.choice(SCORES), value)


def packed(value: Any) -> bytes:
    """MessagePack of texts and lists."""
    if isinstance(value, list):
        return b"\xdc" + len(value).to_bytes(2, "big") + b"".join(map(packed, value))
    return b"\xdb" + len(value).to_bytes(4, "big") + bytes(value)


# -- looks -----------------------------------------------------------------------------------------------

STATES: Final = ("ready", "running", "scheduled", "dead", "completed", "cancelled", "expired")
COMMANDS: Final = (
    ("stats",), ("workers",), ("top", "--once"), ("apps",), ("audit",), ("doctor",), ("dead", "list"),
    ("dead", "groups"), ("schedules",), ("flow", "list"), ("types",), ("keys", "audit"),
    *(("task", "list", state, "--limit", "5000") for state in STATES),
)  # fmt: skip
OTHERS: Final[dict[tuple[str, ...], set[int]]] = {
    ("wait", "--timeout", "0"): {0, 1}, ("wait", NEIGHBOUR, "--timeout", "0", "--scheduled"): {0, 1},
    ("check", "worker", "--name", "here-1-abc123"): {0, 6}, ("check", "daemon", "--live"): {0, 6},
    ("check", "daemon", "--name", "here-3-abc125"): {0, 6},
    ("config", "show"): {0},
    ("pause", NEIGHBOUR, "--reason", "x"): {0, 1}, ("resume", NEIGHBOUR): {0, 1},
}  # fmt: skip
"""What asks of other things than lists, with the exit codes that are meant."""
PAGES: Final = (
    "/", "/types/email", "/types/other", "/dead", "/workers", "/schedule", "/schedules", "/server",
    "/actions",
    *(f"/tasks?state={s}" for s in STATES),
)  # fmt: skip
API: Final = (
    "/api/overview", "/api/chart", "/api/chart?type=email&span=day", "/api/dead", "/api/workers",
    "/api/schedules",    "/api/actions",
    "/api/server", "/api/doctor", "/metrics",
    *(f"/api/tasks?state={s}" for s in STATES),
)  # fmt: skip


def command(here: Store, args: tuple[str, ...]) -> tuple[int, str, str]:
    """A command's exit code, and what it wrote."""
    out, err = io.StringIO(), io.StringIO()
    where = ["--url", here.url, *([] if args[0] in ("apps", "doctor") else ["--app", "shop"])]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*args, *where])
    return code, out.getvalue(), err.getvalue()


def said(task_type: str) -> bytes:
    """What a worker says to who listens."""
    event = {"event": "completed", "id": f"{task_type}:0:n1-0", "attempt": 1, "at_ms": 1_700_000_000_000}
    return orjson.dumps({"worker": "here-1-abc123", "database": 0, "events": [event], "left_out": 0})


def local_ids(here: Store) -> list[str]:
    return [TaskId.parse(one).local for one in here.ids]


Look = Callable[[], None]

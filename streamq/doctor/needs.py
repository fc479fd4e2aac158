"""List the commands each kind of program must be allowed: those of its scripts, and those it sends directly.

Owns the roles. The commands of a script are read from its text, so that the list cannot become outdated. Asks
no server.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple

from streamq import scripts
from streamq.doctor.users import WRITES


class Role(NamedTuple):  # a worker loads this at its start: a dataclass takes longer to make
    """What a kind of program does: its scripts, and the commands it sends directly."""

    scripts: tuple[str, ...]
    plain: tuple[str, ...] = ()
    writes: str = ""
    """The role whose table of keys limits the commands that write; '' means any key."""


_PRODUCER: Final = (
    "announce",
    "open_shard",
    "enqueue",
    "enqueue_rich",
    "register",
    "wait",
    "locate",
    "cancel",
    "signal",
    "policy_rules",
    "write_schedule",
    "flow_build",
    "flow_commit",
    "flow_start",
    "flow_advance",
    "flow_release",
    "flow_step",
    "flow_grow",
    "flow_inputs",
    "flow_mark",
    "flow_signal",
    "flow_again",
    "flow_renew",
    "flow_keep",
)
_PRODUCES: Final = ("HGET apps", "HSET apps", "GET", "SUBSCRIBE done", "UNSUBSCRIBE")
ROLES: Final = {
    "producer": Role(_PRODUCER, _PRODUCES, "producer"),
    "producer of durable tasks": Role(_PRODUCER, (*_PRODUCES, "WAIT", "WAITAOF"), "producer"),
    "worker": Role(
        (
            "announce",
            "register",
            "groups",
            "fetch",
            "watch",
            "muster",
            "survey",
            "settle",
            "settle_rich",
            "checkpoint",
            "emit",
            "memos",
            "flow_inputs",
            "flow_advance",
            "flow_release",
            "flow_step",
            "flow_behind",
            "flow_build",
            "flow_grow",
            "flow_mark",
            "locate",
            "take_signal",
            "renew",
            "beat",
            "leave",
            "next_promotion",
            "write_schedule",
        ),
        (
            "HGET apps",
            "HSET apps",
            "EXISTS",
            "BZPOPMIN bell",
            "XREADGROUP",
            "XPENDING",
            "CLIENT ID",
            "CLIENT UNBLOCK",
            "SUBSCRIBE",
            "UNSUBSCRIBE",
            "ZRANGE daemons",
            "HGETALL daemons",
        ),
        "worker",
    ),
    "daemon": Role(
        (
            "promote",
            "promote_rich",
            "reclaim",
            "restamp",
            "repair",
            "sweep",
            "trim",
            "survey",
            "groups",
            "beat",
            "close_shard",
            "lower_known",
            "next_due",
            "next_promotion",
            "enforce",
            "recount",
            "counts",
            "set_window",
            "expire",
            "cancel",
            "due_schedules",
            "page_schedules",
            "tick",
            "tick_rich",
            "write_schedule",
            "flow_advance",
            "flow_release",
            "flow_step",
            "flow_behind",
            "flow_inputs",
            "flow_build",
            "flow_grow",
            "flow_mark",
            "flow_again",
            "flow_renew",
            "flow_keep",
        ),
        ("HGET apps", "HGETALL apps", "HLEN", "SMEMBERS", "ZADD daemons", "SUBSCRIBE", "UNSUBSCRIBE"),
    ),
    "observer": Role(
        (
            "counts",
            "locate",
            "memos",
            "survey",
            "audit_lanes",
            "audit_slots",
            "audit_steps",
            "audit_flow",
            "audit_held",
            "audit_turns",
            "audit_stream",
            "audit_place",
            "audit_rows",
            "audit_keys",
            "unlaned",
            "dead_count",
            "dead_groups",
            "dead_slices",
            "lane_list",
            "lane_tasks",
            "next_due",
            "policy_rules",
            "page_buckets",
            "page_group",
            "page_locks",
            "page_results",
            "page_schedules",
            "page_set",
            "page_streams",
            "rollups",
        ),
        ("HGET apps", "HGETALL apps", "SMEMBERS", "SCAN", "XREVRANGE", "HKEYS"),
    ),
    "operator": Role(
        (
            "cancel",
            "dismiss",
            "drain",
            "enqueue",
            "enqueue_rich",
            "forget",
            "limit",
            "log_action",
            "open_lane",
            "pause",
            "purge",
            "purge_lane",
            "requeue",
            "reseal",
            "resubmit",
            "run_now",
            "signal",
            "flow_signal",
            "tick",
            "tick_rich",
            "write_schedule",
            "flow_advance",
            "flow_release",
            "flow_step",
            "flow_behind",
            "flow_mark",
            "flow_again",
            "flow_renew",
            "flow_keep",
        ),
        writes="operator",
    ),
}
_ESSENTIAL: Final = Role(
    ("register", "groups", "fetch", "settle", "renew", "survey"), ("XREADGROUP", "XPENDING"), "worker"
)
_NOT_ESSENTIAL: Final = frozenset(
    (
        "CLIENT",
        "HSCAN",
        "unique",
        "after",
        "steps",
        "live",
        "mail",
        "EVAL",
        "EVALSHA",
        "key",
        "rate",
        "minute",
        "quarter",
        "doorbell",
        "ready",
        "bell",
        "workers",
        "heartbeats",
        "schedules",
        "schedules_due",
        "apps",
        "closed",
        "control",
        "events",
        "flow",
        "flow_items",
        "flow_names",
        "flow_results",
        "flow_states",
        "flows",
        "inbox",
        "blobs",
        "HDEL letters",
        "ZREM dead",
        "ZREM gone",
        "ZREM groups",
        "SET results",
        "ZADD waiters",
    )
)
"""Commands and key kinds of a worker that none of the essential ones depends on, or that were checked
before."""
DISPENSABLE: Final = {
    "CLIENT": "connections have no names, and workers read in steps of half a second",
    "SUBSCRIBE": "results and orders are asked for instead of announced, up to a second later",
    "BZPOPMIN": "workers read every stream",
    "SCAN": "`streamq audit` does not run",
}
"""What streamq goes on without, on a server that does not have it, and what differs then."""
_PUBLISHES: Final = {
    "producer": "wake control done",
    "worker": "wake control done events",
    "operator": "control",
}
"""The channels that a role publishes on."""
_LOG_COMMANDS: Final = frozenset(("HSETNX", "RPOP"))
"""Commands used only for the log of operators' actions: `cancel` and `write_schedule` also write it, for
operators."""
DASHBOARD_ROLES: Final = ("observer", "operator")
"""The roles of a dashboard."""
_CALL: Final = re.compile(r"redis\.p?call\(\s*'([A-Z]+)'(?:,\s*'([A-Z]+)')?")
_PARENTS: Final = ("XGROUP", "XINFO")


@cache
def used(script: str) -> frozenset[str]:
    """Return the commands that a script calls."""
    found = _CALL.findall(scripts.load(script).text)
    return frozenset(f"{name} {sub}" if name in _PARENTS else name for name, sub in found)


def needed(role: Role) -> list[str]:
    """Return the commands of a role, named as in `_SAMPLES`; one limited to a kind of key has the kind
    appended."""
    commands = {"CLIENT SETNAME", "EVAL", "EVALSHA", "TIME"}.union(*(used(script) for script in role.scripts))
    if role.writes != "operator":
        commands -= _LOG_COMMANDS
    named = (on for one in sorted(commands) for on in _on_keys(one, role.writes))
    return list(dict.fromkeys([*named, *(one for one in role.plain if one not in commands)]))


def essential() -> list[str]:
    """Return the commands a worker cannot work without: to take tasks, keep them and settle them. Without the
    others it receives and reports less."""
    return [name for name in needed(_ESSENTIAL) if _NOT_ESSENTIAL.isdisjoint((name, *name.split()))]


def command_of(name: str) -> str:
    """Return the command without the kind of key."""
    return " ".join(word for word in name.split() if word.isupper())


def _on_keys(name: str, writes: str) -> list[str]:
    """Return the command for each kind of key that the role writes with it; unchanged if it writes none."""
    command = name.lower().replace(" ", "|")
    kinds = [
        kind for commands, on in WRITES.get(writes, ()) if command in commands.split() for kind in on.split()
    ]
    if command == "publish" and writes:
        kinds = _PUBLISHES[writes].split()
    return [f"{name} {kind}" for kind in kinds] or [name]

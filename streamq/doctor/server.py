"""Check a node's INFO and settings: version, persistence, eviction, memory, clock, replication.

Owns how they are judged: pure functions over a Node. The reasons are in each check's text; the limits are the
constants.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from streamq.doctor.check import Check, fault, ok, unknown, warning
from streamq.doctor.node import Node
from streamq.transport.server import OLDEST_REDIS, OLDEST_VALKEY

SLOW: Final = 0.010
SKEW_SEEN, SKEW_BAD = 1.0, 30.0
"""Seconds of clock skew: due times and ages use the server's clock, `at=` the producer's."""
FULL_SOON, FULL = 0.75, 0.90
"""Shares of the memory limit."""
FRAGMENTED: Final = 1.5
LARGE: Final = 256 * 1024 * 1024
LAG: Final = 10
_REWRITE: Final = "redis-cli CONFIG REWRITE"


def checks(node: Node, shown: str) -> Iterator[Check]:
    """Run all checks of one node. `shown` is its address."""
    yield _reach(node, shown)
    yield _clock(node)
    if not node.info:
        yield unknown(
            "server",
            "INFO cannot be read: this user may not, or the server does not have it",
            "ACL SETUSER <user> +info, or run this as an operator",
        )
        return
    yield _version(node)
    yield from _persistence(node)
    yield _eviction(node)
    yield from _memory(node)
    yield from _replication(node)


def _reach(node: Node, shown: str) -> Check:
    finding = f"{shown} responds in {node.round_trip * 1000:.2f} ms"
    if node.round_trip > SLOW:
        return warning(
            "reach", finding, "run clients nearer to the server, or find out why it is slow: SLOWLOG GET 10"
        )
    return ok("reach", finding)


def _clock(node: Node) -> Check:
    skew = abs(node.skew)
    finding = f"the server's clock is {round(node.skew * 1000):+d} ms from ours"
    fix = "synchronise both hosts: timedatectl set-ntp true (or chronyc tracking)"
    if skew > SKEW_BAD:
        return fault("clock", finding, fix)
    return warning("clock", finding, fix) if skew > SKEW_SEEN else ok("clock", finding)


def _version(node: Node) -> Check:
    kind = node.kind
    finding = f"{kind} {'.'.join(map(str, node.version))}, {node.info.get('redis_mode', 'standalone')}"
    oldest = OLDEST_VALKEY if kind == "valkey" else OLDEST_REDIS
    if node.version and node.version < oldest:
        return fault(
            "version", finding, "streamq needs Redis 7.0 or Valkey 7.2, or newer: upgrade the server"
        )
    return ok("version", finding)


def _persistence(node: Node) -> Iterator[Check]:
    name, log = "persistence", node.info.get("aof_enabled") == "1"
    save, fsync = node.settings.get("save"), node.settings.get("appendfsync", "")
    turn_on = f"redis-cli CONFIG SET appendonly yes && {_REWRITE}"
    if node.info.get("aof_last_write_status", "ok") != "ok" or _snapshot_failed(node, save):
        yield fault(
            name,
            "the last write to disk failed: the server refuses writes",
            "free space on its disk, or repair it",
        )
    if not log and save == "":
        wiped = "; a primary that restarts empty wipes its replicas too" if node.replicas else ""
        yield fault(name, f"nothing is kept: a restart loses every task{wiped}", turn_on)
    elif not log:
        how = f"snapshots only ({save or 'save settings unknown'})"
        yield warning(name, f"{how}: a crash loses what came after the last one", turn_on)
    elif fsync == "no":
        finding = (
            "append-only file, never synced by the server: a power cut loses what the kernel had not written"
        )
        yield warning(name, finding, f"redis-cli CONFIG SET appendfsync everysec && {_REWRITE}")
    else:
        lost = {"everysec": "a power cut loses a second", "always": "a power cut loses nothing"}
        finding = f"append-only file, appendfsync {fsync or 'unknown'}"
        yield ok(name, f"{finding}: {lost[fsync]}" if fsync in lost else finding)
    yield from _unclean_start(node, log=log)


def _snapshot_failed(node: Node, save: str | None) -> bool:
    return node.info.get("rdb_last_bgsave_status", "ok") != "ok" and save != ""


def _unclean_start(node: Node, *, log: bool) -> Iterator[Check]:
    """Warn about a Redis 7.0 whose file was not rewritten: after a power cut it leaves a torn transaction in
    the file, and the start after the next then loses what was acknowledged in between."""
    if log and node.kind == "redis" and node.version < (7, 2) and not node.number("aof_rewrites"):
        yield warning(
            "restart",
            "Redis 7.0, and its append-only file was not rewritten since the start: if it had been cut off "
            "before that, its next start may lose acknowledged tasks",
            "redis-cli BGREWRITEAOF, after each unclean start",
        )


def _eviction(node: Node) -> Check:
    policy = node.settings.get("maxmemory-policy") or node.info.get("maxmemory_policy", "")
    fix = f"redis-cli CONFIG SET maxmemory-policy noeviction && {_REWRITE}"
    if policy.startswith("allkeys"):
        return fault("eviction", f"{policy}: a full server deletes TASKS without a trace", fix)
    if policy.startswith("volatile"):
        finding = f"{policy}: a full server deletes results and the memory of repeated calls"
        return warning("eviction", finding, fix)
    return ok("eviction", policy) if policy else unknown("eviction", "the server does not report its policy")


def _memory(node: Node) -> Iterator[Check]:
    used, limit = node.number("used_memory"), node.number("maxmemory")
    resident, machine = node.number("used_memory_rss"), node.number("total_system_memory")
    if limit:
        share, finding = used / limit, f"{_size(used)} of {_size(limit)} used"
        fix = "redis-cli CONFIG SET maxmemory <more>; or let workers drain, or: streamq dead purge"
    else:
        share = resident / machine if machine else 0.0
        finding = f"{_size(used)} used, no limit; the machine has {_size(machine)}"
        fix = (
            "redis-cli CONFIG SET maxmemory <less than the machine has>: a full server then refuses new tasks"
        )
    if share >= FULL:
        yield fault("memory", f"{finding}: enqueueing is about to be refused" if limit else finding, fix)
    elif share >= FULL_SOON:
        yield warning("memory", finding, fix)
    else:
        yield ok("memory", finding)
    if used and resident / used > FRAGMENTED and resident - used > LARGE:
        finding = f"the server holds {_size(resident)} for {_size(used)} of data"
        yield warning("fragmentation", finding, f"redis-cli CONFIG SET activedefrag yes && {_REWRITE}")


def _size(number: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number} {unit}"
        number //= 1024
    return f"{number:,} GiB"


def _replication(node: Node) -> Iterator[Check]:
    name = "replication"
    if node.info.get("role") == "slave":
        where = f"{node.info.get('master_host', '?')}:{node.info.get('master_port', '?')}"
        up = node.info.get("master_link_status") == "up"
        finding = f"this is a replica of {where}{'' if up else ', and the link is down'}: it takes no tasks"
        yield fault(name, finding, "give streamq the URL of the primary")
        return
    behind = [r for r in node.replicas if r.get("state") != "online" or int(r.get("lag", "0")) > LAG]
    wanted = int(node.settings.get("min-replicas-to-write", "0") or 0)
    good = len(node.replicas) - len(behind)
    if wanted > good:
        finding = f"{good} of the {wanted} replicas that min-replicas-to-write asks for: writes are refused"
        yield fault(name, finding, "repair the replicas: redis-cli INFO replication")
    elif behind:
        listed = ", ".join(f"{r.get('ip')}:{r.get('port')} ({r.get('state')})" for r in behind)
        yield warning(
            name, f"replicas lag behind: {listed}", "look at their logs: redis-cli INFO replication"
        )
    else:
        yield ok(name, f"primary with {good} replicas" if good else "a single primary, no replicas")

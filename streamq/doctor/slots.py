"""Check, on Redis Cluster, that every shard's slot is served and that the shards are spread over the masters.

Owns the computation of slots and the parsing of CLUSTER SLOTS.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterator, Mapping
from typing import Any, Final

from streamq.doctor.check import Check, fault, ok, unknown, warning
from streamq.doctor.node import Node, permitted
from streamq.keys import shard_tag
from streamq.transport.sync_transport import SyncTransport

SLOTS: Final = 16384


def slot(app: str, shard: int) -> int:
    """Return the slot of a shard: CRC16 of the text between the braces."""
    tag = shard_tag(app, shard)
    return crc_hqx(tag[tag.index("{") + 1 : tag.index("}")].encode(), 0) % SLOTS


def checks(transport: SyncTransport, node: Node, apps: Mapping[str, int]) -> Iterator[Check]:
    """Check the slots of each app; nothing if the server is not a cluster."""
    if node.info.get("cluster_enabled") != "1":
        return
    raw = permitted(transport, "CLUSTER", "SLOTS")
    if not isinstance(raw, list):
        yield unknown(
            "slots", "this user may not see the cluster's slots", "ACL SETUSER <user> +cluster|slots"
        )
        return
    masters = _masters(raw)
    for app, shards in apps.items():
        yield _app(app, shards, masters)


def _masters(raw: list[Any]) -> list[tuple[int, int, str]]:
    return [(row[0], row[1], f"{row[2][0].decode()}:{row[2][1]}") for row in raw]


def _app(app: str, shards: int, masters: list[tuple[int, int, str]]) -> Check:
    numbers = {shard: slot(app, shard) for shard in range(shards)}
    homes = {
        shard: home
        for shard, number in numbers.items()
        for first, last, home in masters
        if first <= number <= last
    }
    if missing := [shard for shard in range(shards) if shard not in homes]:
        listed = ", ".join(f"shard {shard} (slot {numbers[shard]})" for shard in missing[:10])
        return fault("slots", f"app {app}: no node serves {listed}", "redis-cli --cluster fix <host:port>")
    used, there = len(set(homes.values())), len({home for _, _, home in masters})
    finding = f"app {app}: {shards} shards on {used} of {there} masters"
    if used < min(shards, there):
        fix = "spread their slots: redis-cli --cluster reshard, or give the app more shards"
        return warning("slots", finding, fix)
    return ok("slots", finding)

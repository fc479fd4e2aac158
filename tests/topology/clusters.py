"""A cluster on free loopback ports. The methods block."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from tests.topology.servers import Node, ServerSet, free_ports, server_words, wait_for

SLOTS: Final = 16384
GIVEN_UP: Final = 6.0
"""Seconds after which a planned failover that did not come about is asked for again: the server has dropped
it after five."""


class ClusterSet(ServerSet):
    """A cluster: `masters` nodes with an even share of the slots, and `replicas` for each.

    `url` is what a program connects with. node_timeout: seconds of silence after which the others give
    a master up.
    """

    def __init__(
        self,
        *,
        masters: int = 3,
        replicas: int = 1,
        node_timeout: float = 1.0,
        config: Mapping[str, str] | None = None,
        binary: Path | None = None,
    ) -> None:
        super().__init__(config, binary)
        self._masters, self._replicas, self._timeout = masters, replicas, node_timeout

    def __enter__(self) -> ClusterSet:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.address for node in self.nodes[: self._masters])}"

    def owner(self, slot: int) -> Node:
        """The master that serves a slot, as all living nodes see it."""
        found: Node = wait_for(lambda: self._owner(slot), f"all agree who serves slot {slot}")
        return found

    def replicas_of(self, master: Node) -> list[Node]:
        """The living replicas of a master."""
        return [
            node
            for node in self.replicas()
            if node.info("replication").get("master_port") == str(master.port)
        ]

    def failover(self, master: Node, how: str = "") -> Node:
        """A planned failover (CLUSTER FAILOVER on a replica; how: '', FORCE or TAKEOVER); the new master."""
        replica: Node = wait_for(
            lambda: next(
                (
                    node
                    for node in self.replicas_of(master)
                    if node.info("replication").get("master_link_status") == "up"
                ),
                None,
            ),
            "a replica in sync",
        )
        asked = -math.inf

        def took_over() -> bool:
            nonlocal asked
            if replica.role == "master":
                return True
            if time.monotonic() - asked > GIVEN_UP:
                asked = time.monotonic()
                replica.command("CLUSTER", "FAILOVER", *([how] if how else []))
            return False

        wait_for(took_over, "the replica is the master")
        return replica

    def settled(self) -> None:
        """Wait until every living node sees a whole cluster and every living replica is in sync."""
        wait_for(self._whole, "the cluster is whole")

    def migrate_slot(self, slot: int, to: Node, pause: float = 0.0) -> int:
        """Move a slot with its keys, one at a time, `pause` seconds between two; answers how many."""
        return sum(1 for _ in self.migration(slot, to, pause))

    def migration(self, slot: int, to: Node, pause: float = 0.0) -> Iterator[str]:
        """The same in steps: yields each key when it has been moved."""
        source = self.owner(slot)
        if source is to:
            return
        mine, theirs = (node.command("CLUSTER", "MYID") for node in (source, to))
        to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", mine)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", theirs)
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.command("MIGRATE", "127.0.0.1", to.port, keys[0], 0, 5000)
            yield keys[0]
            time.sleep(pause)
        # Who receives it first, as a slot that nobody owns would lose its keys.
        for node in [to, source, *(one for one in self.masters() if one not in (to, source))]:
            node.command("CLUSTER", "SETSLOT", slot, "NODE", theirs)

    def _build(self) -> None:
        number = self._masters * (1 + self._replicas)
        ports = free_ports(2 * number)
        for port, bus in zip(ports[:number], ports[number:], strict=True):
            config = {
                "cluster-enabled": "yes", "cluster-port": str(bus), "cluster-config-file": "nodes.conf",
                "cluster-node-timeout": str(round(self._timeout * 1000)),
                "cluster-replica-validity-factor": "0", "cluster-require-full-coverage": "no",
            }  # fmt: skip
            words = server_words(self._binary, port, config | self._config)
            self.nodes.append(Node(port, self._folder / str(port), words))
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.answers()
        self._join(ports[number:])
        self.settled()

    def _join(self, buses: list[int]) -> None:
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        share = SLOTS // self._masters
        for n, node in enumerate(masters):
            last = SLOTS - 1 if node is masters[-1] else (n + 1) * share - 1
            node.command("CLUSTER", "ADDSLOTSRANGE", n * share, last)
        for n, node in enumerate(self.nodes):  # before any of them knows another
            node.command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for node in self.nodes:
            for other, bus in zip(self.nodes, buses, strict=True):
                if other is not node:
                    node.command("CLUSTER", "MEET", "127.0.0.1", other.port, bus)
        ids = [node.command("CLUSTER", "MYID") for node in masters]
        for n, node in enumerate(replicas):
            knows_it = partial(node.command, "CLUSTER", "REPLICATE", ids[n % len(ids)])
            wait_for(knows_it, f"{node.address} knows its master")

    def _owner(self, slot: int) -> Node | None:
        """The master of a slot, where all that live agree."""
        seen = {
            row[2][1]
            for node in self.nodes
            if node.alive
            for row in node.command("CLUSTER", "SLOTS")
            if row[0] <= slot <= row[1]
        }
        return next((node for node in self.nodes if seen == {node.port} and node.alive), None)

    def _whole(self) -> bool:
        living = [node for node in self.nodes if node.alive]
        for node in living:
            info = dict(line.split(":", 1) for line in node.command("CLUSTER", "INFO").splitlines())
            if info["cluster_state"] != "ok" or int(info["cluster_known_nodes"]) < len(self.nodes):
                return False
            told = node.info("replication")
            if told["role"] == "slave" and told.get("master_link_status") != "up":
                return False
        served = sum(
            last - first + 1
            for first, last, (_, port, *_), *_ in living[0].command("CLUSTER", "SLOTS")
            if any(node.port == port for node in living)
        )
        return bool(served == SLOTS)

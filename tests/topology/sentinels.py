"""A primary with replicas and sentinels, on free loopback ports. The methods block."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from tests.topology.servers import LIMIT, Node, ServerSet, free_ports, server_words, wait_for


class SentinelSet(ServerSet):
    """A primary, its replicas and their sentinels.

    `url` is what a program connects with; `masters()` has one node, or none while nobody is elected.
    down_after: seconds of silence after which the sentinels give a master up.
    """

    def __init__(
        self,
        *,
        replicas: int = 1,
        sentinels: int = 3,
        down_after: float = 1.5,
        service: str = "mymaster",
        config: Mapping[str, str] | None = None,
        binary: Path | None = None,
    ) -> None:
        super().__init__(config, binary)
        self.service = service
        self.sentinels: list[Node] = []
        self._replicas, self._sentinels, self._down_after = replicas, sentinels, down_after

    def __enter__(self) -> SentinelSet:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        hosts = ",".join(node.address for node in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.service}/0"

    def master(self) -> Node:
        """Who the sentinels say is the master; waits until it says so itself."""
        found: Node = wait_for(self._agreed, "the sentinels agree on a master")
        return found

    def failover(self) -> Node:
        """A planned failover (SENTINEL FAILOVER); answers the new master."""
        before = self.master()
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            # It may be refused, or begun and given up, as long as the replica's link is fresh.
            wait_for(lambda: self._ask("FAILOVER", self.service), "a sentinel takes the failover")
            with suppress(TimeoutError):
                return self.new_master(before, 3.0)
        raise TimeoutError(f"{before} is still the master")

    def new_master(self, before: Node, limit: float = LIMIT) -> Node:
        """Wait for another master than `before`."""

        def found() -> Node | None:
            now = self._agreed()
            return None if now is before else now

        node: Node = wait_for(found, "a new master", limit)
        return node

    def settled(self) -> None:
        """Wait until all that live are replicas of one master, in sync, and the sentinels see them."""
        wait_for(self._in_sync, "the replicas are in sync")

    def _all(self) -> list[Node]:
        return [*self.sentinels, *self.nodes]

    def _build(self) -> None:
        ports = free_ports(1 + self._replicas + self._sentinels)
        data, watching = ports[: 1 + self._replicas], ports[1 + self._replicas :]
        primary, *others = data
        for port in data:
            replica_of = {} if port == primary else {"replicaof": f"127.0.0.1 {primary}"}
            words = server_words(self._binary, port, self._config | replica_of)
            self.nodes.append(Node(port, self._folder / str(port), words))
        for number, port in enumerate(watching, 1):
            self.sentinels.append(self._sentinel(number, port, watching, primary, others))
        for node in self._all():
            node.launch()
        for node in self._all():
            node.answers()
        for sentinel in self.sentinels:
            _hasten(sentinel)
        self.settled()

    def restart(self, node: Node) -> None:
        super().restart(node)
        if node in self.sentinels:
            _hasten(node)

    def _sentinel(
        self, number: int, port: int, all_ports: list[int], primary: int, others: list[int]
    ) -> Node:
        # They are told of one another: to find out by themselves takes them seconds.
        about = f"sentinel known-{{}} {self.service} 127.0.0.1 {{}}"
        lines = [
            f"port {port}", "bind 127.0.0.1", "dir .", f"sentinel myid {_sentinel_id(number)}",
            f"sentinel monitor {self.service} 127.0.0.1 {primary} {self._sentinels // 2 + 1}",
            f"sentinel down-after-milliseconds {self.service} {round(self._down_after * 1000)}",
            f"sentinel failover-timeout {self.service} 1000",
            *(about.format("replica", other) for other in others),
            *(
                f"{about.format('sentinel', other)} {_sentinel_id(n)}"
                for n, other in enumerate(all_ports, 1)
                if n != number
            ),
        ]  # fmt: skip
        folder = self._folder / str(port)
        node = Node(port, folder, [str(self._binary), "sentinel.conf", "--sentinel"])
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n", "utf-8")
        return node

    def _ask(self, *words: str) -> Any:
        for sentinel in self.sentinels:
            if sentinel.alive:
                return sentinel.command("SENTINEL", *words)
        raise redis.ConnectionError("no sentinel is alive")

    def _agreed(self) -> Node | None:
        """The master of whom all living sentinels say so, where it says so too."""
        named = {
            int(sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[1])
            for sentinel in self.sentinels
            if sentinel.alive
        }
        agreed = [node for node in self.nodes if named == {node.port} and node.alive]
        return next((node for node in agreed if node.role == "master"), None)

    def _in_sync(self) -> bool:
        master = self._agreed()
        if master is None:
            return False
        others = [node.info("replication") for node in self.nodes if node.alive and node is not master]
        linked = all(
            one.get("master_link_status") == "up" and one.get("master_port") == str(master.port)
            for one in others
        )
        seen = [_pairs(self._ask("MASTER", self.service))]
        return linked and all(
            int(row["num-slaves"]) >= len(others) and int(row["num-other-sentinels"]) >= self._sentinels - 1
            for row in seen
        )


def _hasten(sentinel: Node) -> None:
    """Let it look more often: at its usual pace it needs 10 s to make a replica of a former master."""
    periods = {"INFO-PERIOD": 300, "PING-PERIOD": 200, "PUBLISH-PERIOD": 300}
    sentinel.command("SENTINEL", "DEBUG", *(word for pair in periods.items() for word in pair))


def _sentinel_id(number: int) -> str:
    return f"{number:040x}"


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))

"""The servers under a run: one with an append-only file behind a proxy, or a set of which one takes over.

Owns their processes, and the promise that what they acknowledged is kept: the single server syncs its file
with every write; of a set no primary is killed before its replicas have all that it acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
import redis

from streamq.embedded import EmbeddedServer
from tests.chaos import journal
from tests.chaos.plan import Topology
from tests.ports import free_port
from tests.topology.clusters import ClusterSet
from tests.topology.sentinels import SentinelSet
from tests.topology.servers import Node, wait_for

ROLES: Final = ("workers", "daemons", "producers")
ROOT: Final = Path(__file__).resolve().parents[2]


class Servers(Protocol):
    """What a run needs of its servers, however many they are."""

    shards: int

    def url(self, role: str) -> str:
        """What this role connects to."""
        ...

    def clients(self) -> list[redis.Redis]:
        """A client for each primary as it is now, not through any proxy."""
        ...

    def weather(self, role: str, mode: str, **about: Any) -> None:
        """Set the network between a role and the servers."""
        ...

    async def crash(self, target: int, down: float) -> None:
        """Kill a primary; `down` seconds later it is started again. Nothing acknowledged is lost."""
        ...

    async def freeze(self, target: int, seconds: float) -> None:
        """Stop a primary and let it go on."""
        ...


class Single:
    """One server on a port of its own; appendfsync always, so that what it acknowledged is on the disk."""

    shards = 2

    def __init__(self, folder: Path) -> None:
        binary = shutil.which("redis-server")
        self._port = free_port()
        self._one_at_a_time = asyncio.Lock()
        config = {"appendfsync": "always"} | journal.CONFIG
        self._server = EmbeddedServer(
            data_dir=folder / "data", port=self._port, config=config, binary=Path(binary) if binary else None
        )
        self._server.start()
        command = [sys.executable, "-m", "tests.chaos.proxy", str(self._port), *ROLES]
        self._proxy = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._proxy.stdout is not None
        self._ports: dict[str, int] = orjson.loads(self._proxy.stdout.readline())

    def url(self, role: str) -> str:
        return f"redis://127.0.0.1:{self._ports.get(role, self._port)}/0"

    def clients(self) -> list[redis.Redis]:
        return [redis.Redis(port=self._port, socket_timeout=5)]

    def weather(self, role: str, mode: str, **about: Any) -> None:
        assert self._proxy.stdin is not None
        self._proxy.stdin.write(orjson.dumps({"name": role, "mode": mode, **about}) + b"\n")
        self._proxy.stdin.flush()

    async def crash(self, target: int, down: float) -> None:
        async with self._one_at_a_time:
            os.kill(self._server.pid, signal.SIGKILL)
            await asyncio.sleep(down)
            await asyncio.to_thread(self._restart)

    def _restart(self) -> None:
        self._server.stop()  # until it is noticed that it is dead, start() would leave it so
        self._server.start()

    async def freeze(self, target: int, seconds: float) -> None:
        async with self._one_at_a_time:
            os.kill(self._server.pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            os.kill(self._server.pid, signal.SIGCONT)

    def close(self) -> None:
        self._proxy.kill()
        self._proxy.communicate()
        self._server.stop()


class Replicated:
    """A primary with a replica and sentinels, or a cluster. There is no proxy: nodes name their own ports.

    Replication is asynchronous, so a primary that is killed may take with it what it acknowledged last.
    That is a known loss, and a checker that had to allow for it would see no other. So before a kill the
    primary's writes are paused (CLIENT PAUSE WRITE: calls wait, unanswered) until its replicas have them.
    It comes back empty: its append-only file is moved to `folder`.
    """

    def __init__(self, nodes: SentinelSet | ClusterSet, folder: Path) -> None:
        self._set = nodes
        self._folder = folder
        self._moved = 0
        self.shards = 4 if isinstance(nodes, ClusterSet) else 2
        self._one_at_a_time = asyncio.Lock()

    def url(self, role: str) -> str:
        return self._set.url

    def clients(self) -> list[redis.Redis]:
        return [redis.Redis(port=node.port, socket_timeout=5) for node in self._set.masters()]

    def weather(self, role: str, mode: str, **about: Any) -> None:
        raise NotImplementedError(f"{mode} needs a proxy")

    async def crash(self, target: int, down: float) -> None:
        async with self._one_at_a_time:
            node = await asyncio.to_thread(self._fail_over, target)
            await asyncio.sleep(down)
            await asyncio.to_thread(self._set.restart, node)
            await asyncio.to_thread(self._set.settled)

    def _fail_over(self, target: int) -> Node:
        """Kill a primary; returns when another has taken its place."""
        self._set.settled()
        masters = self._set.masters()
        node = masters[target % len(masters)]
        wait_for(lambda: node.command("CLIENT", "PAUSE", 10_000, "WRITE"), "writes are paused")
        written = wait_for(lambda: int(node.info("replication")["master_repl_offset"]), "the offset")
        wait_for(lambda: self._replicated(node, written), "the replicas have caught up")
        self._set.kill(node)
        self._keep(node)
        if isinstance(self._set, SentinelSet):
            self._set.new_master(node)
        else:
            wait_for(lambda: len(self._set.masters()) == len(masters), "a replica has taken over")
        return node

    def _keep(self, node: Node) -> None:
        """Move the append-only file of a dead node to where it is read at the end."""
        if (node.folder / journal.FOLDER).is_dir():
            self._moved += 1
            shutil.move(node.folder / journal.FOLDER, self._folder / f"journal-{self._moved}")

    def close(self) -> None:
        """Before the servers end, with whose set their files go."""
        for node in self._set.nodes:
            self._set.kill(node)
            self._keep(node)

    def _replicated(self, master: Node, offset: int) -> bool:
        told = [replica.info("replication") for replica in self._set.replicas()]
        mine = [one for one in told if one.get("master_port") == str(master.port)]
        return bool(mine) and all(int(one["slave_repl_offset"]) >= offset for one in mine)

    async def freeze(self, target: int, seconds: float) -> None:
        raise NotImplementedError("a primary that comes back after it was replaced loses what it was told")


@contextmanager
def started(topology: Topology, folder: Path) -> Iterator[Servers]:
    """The servers of a run; they end with it."""
    if topology == "single":
        single = Single(folder)
        try:
            yield single
        finally:
            single.close()
        return
    config = {"appendfsync": "no"} | journal.CONFIG
    with SentinelSet(config=config) if topology == "sentinel" else ClusterSet(config=config) as nodes:
        several = Replicated(nodes, folder)
        try:
            yield several
        finally:
            several.close()

"""Masters that die and masters that are replaced, while producers and workers go on."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.crc import key_slot

from streamq import StreamQ, WorkerOptions
from streamq.keys import shard_keys
from streamq.model.task import Accepted
from tests.running import serving
from tests.topology.clusters import ClusterSet
from tests.topology.conftest import SHARDS, Servers
from tests.topology.load import under_load
from tests.topology.sentinels import SentinelSet
from tests.topology.servers import Node, wait_for


def master_of(servers: Servers, shard: int) -> Node:
    if isinstance(servers, SentinelSet):
        return servers.master()
    return servers.owner(key_slot(shard_keys("shop", shard).types.encode()))


def passed_on(node: Node) -> None:
    """Wait until the replica has all that its master acknowledged: what it had not passed on would be
    lost, which is Redis's promise and not ours."""

    def in_step() -> bool:
        info = node.info("replication")
        return f"offset={info['master_repl_offset']}," in info.get("slave0", "")

    wait_for(in_step, "the replica has everything")


def kill(servers: Servers, master: Node) -> None:
    """kill -9 while calls are under way, which stay without an answer."""
    master.command("CLIENT", "PAUSE", 10_000, "WRITE")
    passed_on(master)
    master.stop()
    if isinstance(servers, SentinelSet):
        servers.new_master(master)


def replace(servers: Servers, master: Node) -> None:
    """A planned failover. A cluster's master accepts nothing from then on; one under Sentinel would go
    on, until it is told that it is none any more, if it were not made to refuse."""
    if not isinstance(servers, SentinelSet):
        servers.failover(master)
        return
    master.command("CONFIG", "SET", "min-replicas-to-write", 9)
    passed_on(master)
    servers.failover()
    servers.settled()
    master.command("CONFIG", "SET", "min-replicas-to-write", 0)


def change_master(servers: Servers, how: str) -> None:
    (kill if how == "killed" else replace)(servers, master_of(servers, 0))


@pytest.mark.parametrize("how", ["killed", "replaced"])
async def test_a_failover_under_load(servers: Servers, app: StreamQ, how: str) -> None:
    async with under_load(app) as load:
        await asyncio.to_thread(change_master, servers, how)
        await load.more(100)


@pytest.mark.parametrize("how", ["killed", "replaced"])
async def test_idle_workers_follow(servers: Servers, app: StreamQ, how: str) -> None:
    """They block on the old master, for longer than the test takes."""

    @app.task
    async def work(n: int) -> int:
        return n

    async with serving(app, WorkerOptions(concurrency=2, block=60)):
        assert [await (await work.aenqueue(n)).aresult(10) for n in range(SHARDS)] == [0, 1, 2]
        await asyncio.to_thread(change_master, servers, how)
        handles = [await work.aenqueue(n) for n in range(SHARDS)]
        began = time.monotonic()
        assert [await handle.aresult(20) for handle in handles] == [0, 1, 2]
        assert time.monotonic() - began < 20  # long before the read that blocks is over


async def test_the_loss_of_one_node_holds_up_no_other(cluster: ClusterSet) -> None:
    """Tasks of the other shards run and settle while one node is gone, and leases of none are lost."""
    app = StreamQ("shop", cluster.url, shards=SHARDS, patience=0)
    ended = asyncio.Event()

    @app.task(lease=1.5)
    async def work(n: int) -> int:
        if n == 0:
            await ended.wait()
        return n

    async with serving(app, WorkerOptions(concurrency=20, block=1)):
        by_shard: dict[int, str] = {}
        for _ in range(SHARDS):
            handle = await work.aenqueue(0)
            by_shard[int(handle.id.split(":")[1])] = handle.id
        dead = master_of(cluster, 0)
        alive = next(n for n in range(SHARDS) if master_of(cluster, n) is not dead)
        for node in (*cluster.replicas_of(dead), dead):
            cluster.kill(node)
        until_then = time.monotonic() + 6  # four leases
        while time.monotonic() < until_then:
            [answer] = await app._asyncs.current().enqueue("work", alive, [work.bind(1).task])
            assert isinstance(answer, Accepted)
            assert await app.handle(f"work:{alive}:{answer.local}").aresult(10) == 1
            await asyncio.sleep(0.05)
        counters = app.inspector.counts("work", alive).counters
        assert counters.get("reclaimed", 0) == 0
        ended.set()
        assert await app.handle(by_shard[alive]).aresult(20) == 0
        for node in (dead, *cluster.nodes):
            if not node.alive:
                cluster.restart(node)

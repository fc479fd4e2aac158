"""Slots that move from one master to another while producers and workers go on."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.crc import key_slot

from streamq import StreamQ, WorkerOptions
from streamq.keys import shard_keys
from tests.running import serving
from tests.topology.clusters import ClusterSet
from tests.topology.conftest import SHARDS
from tests.topology.load import under_load
from tests.topology.servers import Node

SLOT = key_slot(shard_keys("shop", 0).types.encode())


@pytest.fixture
def app(cluster: ClusterSet) -> StreamQ:
    return StreamQ("shop", cluster.url, shards=SHARDS, patience=20)


def elsewhere(cluster: ClusterSet) -> Node:
    source = cluster.owner(SLOT)
    return next(node for node in cluster.masters() if node is not source)


async def test_a_slot_moves_there_and_back_under_load(cluster: ClusterSet, app: StreamQ) -> None:
    source, target = cluster.owner(SLOT), elsewhere(cluster)
    async with under_load(app) as load:
        assert await asyncio.to_thread(cluster.migrate_slot, SLOT, target, 0.01) > 5
        await load.more(100)
        assert await asyncio.to_thread(cluster.migrate_slot, SLOT, source, 0.01) > 5
        await load.more(100)


async def test_an_idle_worker_follows_its_slot(cluster: ClusterSet, app: StreamQ) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    async with serving(app, WorkerOptions(concurrency=2, block=60)):
        assert [await (await work.aenqueue(n)).aresult(10) for n in range(SHARDS)] == [0, 1, 2]
        await asyncio.to_thread(cluster.migrate_slot, SLOT, elsewhere(cluster))
        handles = [await work.aenqueue(n) for n in range(SHARDS)]
        began = time.monotonic()
        assert [await handle.aresult(20) for handle in handles] == [0, 1, 2]
        assert time.monotonic() - began < 20  # long before the read that blocks is over

"""Measured points for the simulation: so many worker processes on a cluster of so many masters."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from typing import Self

from measure import pids_of, started
from ticks import each_us, process_seconds

from streamq.app.app import StreamQ
from streamq.app.task_type import TaskType
from streamq.bench import measure, record
from streamq.bench.side import TEXT
from streamq.keys import shard_keys
from tests.topology.clusters import ClusterSet


@dataclass(frozen=True)
class Point:
    """Tasks a second, and microseconds of a core for each."""

    rate: float
    worker_us: float
    server_us: float


class Points:
    """Clusters of one to three masters; each is started when it is first asked for."""

    def __init__(self, tasks: int) -> None:
        self._tasks = tasks
        self._clusters: dict[int, ClusterSet] = {}
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def drain(self, workers: int, masters: int) -> Point:
        """Fill shards that lie evenly on the masters, and drain them."""
        cluster = self._clusters.get(masters)
        if cluster is None:
            cluster = self._ends.enter_context(ClusterSet(masters=masters, replicas=0))
            self._clusters[masters] = cluster
        cluster.flush()
        name = spread(cluster, masters)
        self._fill(StreamQ(name, cluster.url, shards=SHARDS[masters]))
        variables = {"CAPACITY_APP": name, "CAPACITY_SHARDS": str(SHARDS[masters])}
        words = ("worker", "tasks:app", "--processes", str(workers))
        with measure.recording() as folder, started(cluster.url, *words, **variables):
            return self._watch(folder, cluster, StreamQ(name, cluster.url, shards=SHARDS[masters]), workers)

    def _fill(self, app: StreamQ) -> None:
        import tasks

        app.registry.handlers.update(tasks.app.registry.handlers)
        task = TaskType(app, app.registry.get("plain"))
        for start in range(0, self._tasks, 3000):
            app.enqueue_many([task.bind(0, TEXT) for _ in range(min(3000, self._tasks - start))])
        app.close()

    def _watch(self, folder: Path, cluster: ClusterSet, app: StreamQ, workers: int) -> Point:
        """Between a tenth and nine tenths, so that neither start nor end counts."""
        measure.wait_for(folder, self._tasks // 10)
        pids = pids_of(app, workers)
        masters = [node.pid for node in cluster.masters()]
        at, began = record.count(folder), time.monotonic()
        before = sum(map(process_seconds, pids)), sum(map(process_seconds, masters))
        measure.wait_for(folder, self._tasks * 9 // 10)
        number, seconds = record.count(folder) - at, time.monotonic() - began
        after = sum(map(process_seconds, pids)), sum(map(process_seconds, masters))
        app.close()
        worker = each_us(after[0] - before[0], number, "the workers")
        server = each_us(after[1] - before[1], number, "the masters")
        sys.stderr.write(f"{len(pids)} workers, {len(masters)} masters: {number / seconds:,.0f}/s\n")
        return Point(number / seconds, worker, server)


SHARDS = {1: 1, 2: 4, 3: 3}
"""How many shards come to lie evenly on so many masters. Two of neighbouring numbers never lie on different
halves of the slots, so two masters want four."""


def spread(cluster: ClusterSet, masters: int) -> str:
    """A name for an app whose shards are as many on each master."""
    shards = SHARDS[masters]
    for number in numbers():
        name = f"capacity{number}"
        keys = [shard_keys(name, n).types for n in range(shards)]
        slots = [int(cluster.nodes[0].command("CLUSTER", "KEYSLOT", key)) for key in keys]
        homes = Counter(cluster.owner(slot).port for slot in slots)
        if set(homes.values()) == {shards // masters} and len(homes) == masters:
            return name
    raise AssertionError("numbers end")

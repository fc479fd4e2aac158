"""Whatever stands under a key: a worker and a daemon live, and serve what is not damaged.

Each key of a full queue is attacked in turn, as in `test_everything`; then a worker and a daemon start beside
it, and the neighbour's tasks end. `pytest -m long tests/fuzz` tries each key in both ways, three times.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from dataclasses import replace
from typing import Any, Final

import pytest
import structlog

from streamq import Daemon, FlowGraph, StreamQ, TaskType, Worker, WorkerOptions
from streamq.errors import StreamQError
from streamq.model.task import TaskId
from tests.fuzz import store
from tests.fuzz.running import DAEMON
from tests.fuzz.store import APPS, NEIGHBOUR, Store
from tests.fuzz.test_everything import attacked, here, where
from tests.running import begun, until

__all__ = ["here"]

WITHIN: Final = 7.0
"""Seconds in the suite; what was not tried by then is for `-m long`."""
LIMIT: Final = 30.0
OPTIONS: Final = WorkerOptions(concurrency=20, drain_timeout=2, block=0.2, heartbeat=0.2)
CHORES: Final = ("reclaim", "tidy", "discover", "heartbeat", "expire", "sample")
NEEDED: Final = ("types", "closed", "doorbell")
"""Keys of a shard which an enqueue of any type must read."""


OF_ALL_FLOWS: Final = ("flows", "inbox", "flow_names")
"""Keys of a shard which every flow in it needs."""


def flow_of(app: StreamQ, kind: TaskType[[int], int, object]) -> FlowGraph:
    """A flow of two nodes that complete."""
    wf = app.flow("good")
    wf.add(kind.bind(1)).then(kind.bind(2))
    return wf


class Serving:
    """A worker and a daemon beside one attack after the other; collects what was not as it should be."""

    def __init__(self, here: Store) -> None:
        self.here = here
        self.faults: list[str] = []

    async def beside(self, told: str, key: str) -> None:
        """Start both, and have the neighbour's tasks run."""
        with structlog.testing.capture_logs() as lines:
            try:
                await self._serve(key)
            except Exception as error:
                self.faults.append(f"{type(error).__name__}: {error} at {where(error)}\n    after {told}")
        self.faults += [f"{line}\n    after {told}" for line in lines if unforeseen(line)]

    async def _serve(self, key: str) -> None:
        app = StreamQ("shop", self.here.url, shards=2)
        kinds = {
            name: app.task(name=name, max_attempts=2, retention=600)(divided) for name in ("email", NEIGHBOUR)
        }
        rounds: Counter[str] = Counter()
        options = replace(DAEMON, sample_interval=0.05, expire_interval=0.05, heartbeat=0.2)
        daemon = Daemon(app.address, options, after_round=lambda chore: rounds.update([chore]))
        worker = Worker(app, OPTIONS)
        tasks = [asyncio.create_task(daemon.run())]
        try:
            tasks.append(await begun(worker))
            if key == APPS or key.rpartition(":")[2] in NEEDED:
                await asyncio.to_thread(self.here.ask, "DEL", key)
            other = kinds[NEIGHBOUR]
            handles = [await other.options(shard_key=str(n)).aenqueue(2) for n in range(4)]
            handles += [await other.options(shard_key=str(n), delay=0.05).aenqueue(2) for n in range(2)]
            assert [await handle.aresult(LIMIT) for handle in handles] == [5] * 6
            assert {TaskId.parse(handle.id).shard for handle in handles} == {0, 1}
            if key.rpartition(":")[2] not in OF_ALL_FLOWS:
                assert await (await flow_of(app, other).astart()).aresult(LIMIT) == 5
            await until(lambda: not tasks[0].done() and all(rounds[chore] > 1 for chore in CHORES), LIMIT)
            assert not any(task.done() for task in tasks), "a service ended"
            assert worker.worn_out is False
        finally:
            worker.stop()
            daemon.stop()
            await asyncio.gather(*tasks, return_exceptions=True)
            await app.aclose()


async def divided(x: int) -> int:
    """The one handler of the queue."""
    return 10 // x


def unforeseen(line: Any) -> bool:
    """Whether a log line tells of an exception that nobody meant: not words of the server, nor an end."""
    error = line.get("exc_info")
    meant = isinstance(error, StreamQError | ZeroDivisionError | TypeError)
    return error is True or (isinstance(error, BaseException) and not meant)


def _rounds(here: Store, within: float, times: int, rng: random.Random, *kinds: bool) -> list[str]:
    serving, began = Serving(here), time.monotonic()
    for _ in range(times):
        keys = attacked(here)
        rng.shuffle(keys)
        for key in keys:
            for kind in kinds or (rng.random() < 0.5,):
                if time.monotonic() - began < within:
                    here.put_back()
                    told = (
                        store.wrong_kind(here, key, rng)
                        if kind
                        else store.spoil(here, key, store.VALUES, rng)
                    )
                    asyncio.run(serving.beside(told, key))
    return serving.faults


def test_some_keys_beside_a_worker_and_a_daemon(here: Store) -> None:
    seed = int(os.environ.get("STREAMQ_SEED", "11"))
    faults = _rounds(here, WITHIN, 1, random.Random(seed))
    assert not faults, f"STREAMQ_SEED={seed}\n" + "\n".join(faults)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_key_beside_a_worker_and_a_daemon(here: Store) -> None:
    seed = int(os.environ.get("STREAMQ_SEED", "7"))
    faults = _rounds(here, 3000.0, 3, random.Random(seed), True, False)
    assert not faults, f"STREAMQ_SEED={seed}\n" + "\n".join(faults)

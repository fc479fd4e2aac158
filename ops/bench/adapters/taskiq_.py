"""taskiq with the Redis stream broker of taskiq-redis: 100 async tasks, one worker process."""

from __future__ import annotations

import asyncio
import os
import sys

import common
import record
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ.get("BENCH_URL", common.URL)
broker = RedisStreamBroker(URL)
if common.RESULTS:
    broker = broker.with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=300))


@broker.task(task_name="noop")
async def noop(stamp: int, text: str) -> None:
    record.mark(stamp)


@broker.task(task_name="nap")
async def nap(stamp: int, text: str) -> None:
    await asyncio.sleep(0.05)
    record.mark(stamp)


KINDS = {"noop": noop, "nap": nap}


async def send(kind: str, stamp: int) -> None:
    await KINDS[kind].kiq(stamp, common.TEXT)


async def delayed(kind: str, stamp: int) -> None:
    raise SystemExit("a delayed task needs a scheduler process of its own that polls")


def work() -> None:
    os.environ["BENCH_URL"] = common.URL
    options = ["--workers", "1", "--max-async-tasks", "100", "--log-level", "ERROR"]
    os.execv(sys.executable, [sys.executable, "-m", "taskiq", "worker", "taskiq_:broker", *options])


if __name__ == "__main__":
    common.main(
        work=work,
        produce=common.async_producer(broker.startup, send, delayed),
        packages="taskiq taskiq-redis redis",
    )

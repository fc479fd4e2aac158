"""Dramatiq: one process of 8 threads, dramatiq_queue_prefetch=1000 (it is 16 by default, which is slower)."""

from __future__ import annotations

import os
import time

os.environ["dramatiq_queue_prefetch"] = "1000"  # noqa: SIM112 - its name

import common
import dramatiq
import record
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=common.URL)
if common.RESULTS:
    broker.add_middleware(Results(backend=RedisBackend(url=common.URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=common.RESULTS) if common.RESULTS else dramatiq.actor
def noop(stamp: int, text: str) -> None:
    record.mark(stamp)


@dramatiq.actor
def nap(stamp: int, text: str) -> None:
    time.sleep(0.05)
    record.mark(stamp)


KINDS = {"noop": noop, "nap": nap}


def work() -> None:
    worker = dramatiq.Worker(broker, worker_threads=8)
    worker.start()
    worker.join()
    while True:
        time.sleep(1)


if __name__ == "__main__":
    common.main(
        work=work,
        produce=common.sync_producer(
            lambda kind, stamp: KINDS[kind].send(stamp, common.TEXT),
            lambda kind, stamp: KINDS[kind].send_with_options(
                args=(stamp, common.TEXT), delay=round(common.DELAY * 1000)
            ),
        ),
        packages="dramatiq redis",
    )

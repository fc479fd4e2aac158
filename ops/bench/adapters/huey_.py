"""Huey: 8 threads; it blocks on the list, so it does not poll."""

from __future__ import annotations

import sys
import time

import common
import record
from huey import RedisHuey

huey = RedisHuey("bench", url=common.URL, results=common.RESULTS, store_none=common.RESULTS)


@huey.task()
def noop(stamp: int, text: str) -> None:
    record.mark(stamp)


@huey.task()
def nap(stamp: int, text: str) -> None:
    time.sleep(0.05)
    record.mark(stamp)


KINDS = {"noop": noop, "nap": nap}


def work() -> None:
    sys.modules["huey_"] = sys.modules["__main__"]
    huey.create_consumer(workers=8, worker_type="thread").run()


if __name__ == "__main__":
    common.main(
        work=work,
        produce=common.sync_producer(
            lambda kind, stamp: KINDS[kind](stamp, common.TEXT),
            lambda kind, stamp: KINDS[kind].schedule(args=(stamp, common.TEXT), delay=common.DELAY),
        ),
        packages="huey redis",
    )

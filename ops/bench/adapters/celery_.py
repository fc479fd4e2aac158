"""Celery: prefork with two processes, which measured better than threads, solo and gevent; late
acknowledgement off and prefetch 4 as by default; JSON; results in Redis or ignored."""

from __future__ import annotations

import time

import common
import record
from celery import Celery

app = Celery("bench", broker=common.URL, backend=common.URL if common.RESULTS else None)
app.conf.update(task_ignore_result=not common.RESULTS, worker_hijack_root_logger=False)


@app.task(name="noop")
def noop(stamp: int, text: str) -> None:
    record.mark(stamp)


@app.task(name="nap")
def nap(stamp: int, text: str) -> None:
    time.sleep(0.05)
    record.mark(stamp)


KINDS = {"noop": noop, "nap": nap}
if __name__ == "__main__":
    common.main(
        work=lambda: app.worker_main(
            ["worker", "-c", "2", "-l", "ERROR", "--without-gossip", "--without-mingle"]
        ),
        produce=common.sync_producer(
            lambda kind, stamp: KINDS[kind].delay(stamp, common.TEXT),
            lambda kind, stamp: KINDS[kind].apply_async((stamp, common.TEXT), countdown=common.DELAY),
        ),
        packages="celery redis",
    )

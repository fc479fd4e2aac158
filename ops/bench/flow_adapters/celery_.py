"""Celery: chain and chord; prefork with two processes, prefetch 4 as by default, results in Redis, which a
chord needs."""

from __future__ import annotations

import flow_common
import record
from celery import Celery, chain, chord

app = Celery("bench", broker=flow_common.URL, backend=flow_common.URL)
app.conf.update(worker_hijack_root_logger=False)


@app.task(name="number")
def number(n: int) -> int:
    return n


@app.task(name="end")
def end(value: object, stamp: int) -> None:
    record.mark(stamp)


def start(kind: str, count: int, size: int, stamp: int) -> None:
    for _ in range(count):
        if kind == "chain":
            chain(number.s(1), number.s(), end.s(stamp)).apply_async()
        else:
            chord([number.s(n) for n in range(size)])(end.s(stamp))


if __name__ == "__main__":
    options = ["worker", "-c", "2", "-l", "ERROR", "--without-gossip", "--without-mingle"]
    flow_common.main(work=lambda: app.worker_main(options), start=start)

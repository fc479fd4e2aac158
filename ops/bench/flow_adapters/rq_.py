"""RQ: depends_on; SimpleWorker, which does not fork for each job. A job fetches the results that it
needs."""

from __future__ import annotations

import flow_common
from redis import Redis
from rq import Queue, SimpleWorker

queue = Queue("bench", connection=Redis.from_url(flow_common.URL))


def start(kind: str, count: int, size: int, stamp: int) -> None:
    for _ in range(count):
        if kind == "chain":
            first = queue.enqueue("rq_jobs.number", 1)
            parts = [queue.enqueue("rq_jobs.before", depends_on=first)]
        else:
            jobs = [Queue.prepare_data("rq_jobs.number", (n,)) for n in range(size)]
            parts = queue.enqueue_many(jobs)
        queue.enqueue("rq_jobs.end", stamp, depends_on=parts)


def work() -> None:
    SimpleWorker([queue], connection=queue.connection).work(logging_level="ERROR")


if __name__ == "__main__":
    flow_common.main(work=work, start=start)

"""SAQ: a CronJob for each of the tasks, in one worker with concurrency 100."""

from __future__ import annotations

import os
from typing import Any

import marks
from saq import CronJob, Queue

queue: Any = Queue.from_url(os.environ["BENCH_URL"])


def made(number: int) -> Any:
    async def run(ctx: Any) -> None:
        marks.mark(number)

    run.__qualname__ = run.__name__ = f"task{number}"
    return run


jobs = [made(number) for number in range(marks.NUMBER)]
settings = {
    "queue": queue,
    "functions": [],
    "concurrency": 100,
    "cron_jobs": [CronJob(job, cron="* * * * *") for job in jobs],
}

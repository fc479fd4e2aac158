"""Celery: an entry of beat for each of the tasks; a worker with two processes, and one beat."""

from __future__ import annotations

import os

import marks
from celery import Celery
from celery.schedules import crontab

app = Celery("bench", broker=os.environ["BENCH_URL"])
app.conf.update(task_ignore_result=True, timezone="UTC")


@app.task(name="run")
def run(number: int) -> None:
    marks.mark(number)


app.conf.beat_schedule = {
    f"task{number}": {"task": "run", "schedule": crontab(), "args": (number,)}
    for number in range(marks.NUMBER)
}

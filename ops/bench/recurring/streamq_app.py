"""streamq: a schedule for each of the tasks, declared in code; one worker process, one daemon."""

from __future__ import annotations

import os

import marks

from streamq import Cron, StreamQ

app = StreamQ("bench-recurring", os.environ["BENCH_URL"])


def made(number: int) -> None:
    async def run() -> None:
        marks.mark(number)

    app.task(name=f"task{number}", schedule=Cron("* * * * *"))(run)


for number in range(marks.NUMBER):
    made(number)

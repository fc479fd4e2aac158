"""A nightly load as a flow: find the files of a day, sum each of them side by side, and write one report.

    python etl.py DAY FOLDER

The flow is named by its day: a second start of a day is the same flow, whichever program starts it. The
report is written once, after all files. If one of them cannot be read, the flow fails and says which.
After the file is mended, `python etl.py DAY FOLDER --retry` reads only what is missing.
"""

import asyncio
import csv
import json
import os
import sys
from collections import Counter
from pathlib import Path

from streamq import Daemon, Failure, FlowFailed, StreamQ

os.environ.setdefault("STREAMQ_ENV", "dev")  # a private server may be used
app = StreamQ("etl", os.environ.get("STREAMQ_URL") or "embedded://")


@app.task
def find(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).glob("*.csv"))


@app.task(max_attempts=1)
def total_of(path: str) -> dict[str, int]:
    """Return what each customer spent in one file, in cents."""
    print(f"reads {Path(path).name}\n", end="")  # in one piece: others run in threads beside it
    with Path(path).open(newline="") as file:
        spent: Counter[str] = Counter()
        for row in csv.DictReader(file):
            spent[row["customer"]] += int(row["cents"])
    return dict(spent)


@app.task
def report(day: str, parts: list[dict[str, int]]) -> dict[str, int]:
    spent: Counter[str] = Counter()
    for part in parts:
        spent.update(part)
    Path(f"{day}.json").write_text(json.dumps(dict(sorted(spent.items()))))
    return dict(sorted(spent.items()))


@app.task
def tell(why: Failure) -> None:
    print(f"{why.node} failed: {why.error}")


def load(day: str, folder: str):
    """The flow of a day."""
    flow = app.flow("load")
    files = flow.add(find.bind(folder))
    parts = flow.map(total_of, files)
    flow.add(report.bind(day, parts.output))
    flow.on_failure(tell.bind(flow.failure))
    return flow


async def main(day: str, folder: str, *words: str) -> None:
    daemon = Daemon(app.address)
    tending = asyncio.create_task(daemon.run())
    async with app.run_worker(concurrency=8):
        handle = await load(day, folder).astart(key=f"load:{day}")
        if "--retry" in words:
            await handle.aretry()
        try:
            for customer, cents in (await handle.aresult(timeout="2m")).items():
                print(f"{customer}: {cents / 100:.2f}")
        except FlowFailed:
            print(f"the load of {day} has failed")
        await app.await_idle()
    daemon.stop()
    await tending
    await app.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

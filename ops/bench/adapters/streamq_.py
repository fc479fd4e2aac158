"""streamq with default settings: `streamq worker` with one process of 100 slots, and its daemon."""

from __future__ import annotations

import os
import sys

import common
from streamq.bench import tasks
from streamq.bench.ours import Ours
from streamq.cli import main as cli

APP = "bench-peers"


def work() -> None:
    os.environ |= {tasks.APP: APP, "STREAMQ_URL": common.URL}
    options = ["--log-level", "error", "--with-daemon"]
    sys.exit(cli(["worker", "streamq.bench.tasks:app", *options]))


def produce(how: str, count: int) -> float | None:
    side = Ours(common.URL, APP)
    if how == "concurrent":
        return common.loop_run(side.concurrent(count))
    if how == "one":
        return side.one(count)
    if how == "many":
        return side.many(count, stored=common.RESULTS)
    if how == "spaced":
        side.spaced(count, 0.01)
    elif how == "delayed":
        side.delayed(count, common.DELAY, 0.01)
    else:
        side.send("nap", count)
    return 0.0


if __name__ == "__main__":
    common.main(work=work, produce=produce, packages="streamq redis hiredis uvloop")

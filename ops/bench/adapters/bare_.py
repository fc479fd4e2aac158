"""The bare loop of streamq.bench: the least that is at least once."""

from __future__ import annotations

from contextlib import suppress

import common
import redis
from streamq.bench import bare

side = bare.Bare(common.URL, "bench-bare")


def work() -> None:
    with suppress(redis.ResponseError):  # the second worker
        side.redis.xgroup_create(side.stream, bare.GROUP, id="0", mkstream=True)
    common.loop_run(bare.work(side.url, side.stream))


def produce(how: str, count: int) -> float | None:
    if how in ("one", "many"):
        return getattr(side, how)(count)
    if how == "concurrent":
        return common.loop_run(side.concurrent(count))
    if how == "spaced":
        side.spaced(count, 0.01)
        return 0.0
    return None


if __name__ == "__main__":
    common.main(work=work, produce=produce, packages="redis hiredis uvloop")

"""How many connections each kind of process needs: what ops/README.md says, counted by the server."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path

import pytest

from streamq import Daemon, StreamQ, Worker
from streamq.transport import wire
from tests.client.test_waiting import alone, connections
from tests.running import OPTIONS, QUICK, begun, until

__all__ = ["alone"]
OPS = (Path(__file__).parents[2] / "ops" / "README.md").read_text()
TYPES = 8


def documented(process: str, shards: int) -> int:
    """What the table says: a number, `n a shard`, or both."""
    [row] = re.findall(rf"^\| {process} \| ([^|]*) \|", OPS, re.MULTILINE)
    return sum(int(number) * (shards if each else 1) for number, each in re.findall(r"(\d+)( a shard)?", row))


def total(url: str) -> int:
    return sum(connections(url).values())


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_worker_and_a_daemon(url: str, shards: int) -> None:
    app = StreamQ("shop", url, shards=shards)
    for n in range(TYPES):
        app.task(name=f"type{n}")(lambda: None)
    worker = Worker(app, OPTIONS)
    running = [await begun(worker)]
    await asyncio.gather(*(app.asend(f"type{n % TYPES}") for n in range(1000)))
    handles = [await app.asend(f"type{n}", delay=0.1) for n in range(TYPES)]
    await app._asyncs.aclose()
    app.close()
    await until(lambda: total(url) <= documented("worker process", shards))  # ours are closed by then
    before = total(url)
    rounds: dict[str, int] = {}

    def after(chore: str) -> None:
        rounds[chore] = rounds.get(chore, 0) + 1

    daemon = Daemon(app.address, QUICK, after_round=after)
    running.append(await begun(daemon))
    await asyncio.gather(*(handle.aresult(30) for handle in handles))
    await until(lambda: min(rounds.get(chore, 0) for chore in ("reclaim", "tidy", "discover")) > 2, 30)
    await app._asyncs.aclose()
    await until(lambda: total(url) - before <= documented("daemon", shards))
    for service in (worker, daemon):
        service.stop()
    await asyncio.gather(*running)


def test_a_producer_with_many_threads(url: str) -> None:
    app, begin = StreamQ("shop", url), threading.Barrier(60)

    def produce() -> None:
        begin.wait()
        for _ in range(5):
            app.send("work")

    threads = [threading.Thread(target=produce) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total(url) <= documented("producer", 1) == wire.MAX_CONNECTIONS + 2

"""A day compressed: short intervals, so that the daemon makes a day's rounds, under a trickle of work.

The work has results, retries, delays, priorities, idempotency keys, cancels, deaths and purges; beside the
worker that is measured another one is killed and started again and again. After a while for warming up, what
the processes and the server use must not grow.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from streamq import Daemon, DaemonOptions, Retry, StreamQ, Worker, WorkerOptions, get_context  # fmt: skip
from streamq.calls import worker as worker_calls
from streamq.daemon.promoter import LONGEST_SLEEP
from streamq.errors import RedisError, TaskError
from streamq.telemetry import logs
from streamq.transport.address import Address
from tests.chaos.stage import Seat
from tests.endurance import figures, tasks
from tests.endurance.stage import Stage, said
from tests.running import until

DAEMON: Final = DaemonOptions(
    claim_interval=0.01, tidy_interval=0.1, discover_interval=0.033, sample_interval=0.033, heartbeat=0.033,
    consumer_idle=1.0, gone_retention=1.0,
)  # fmt: skip
"""As many rounds of reclaim, tidy, discover, sample and heartbeat in 300 s as the defaults make in a day."""
WORKER: Final = WorkerOptions(concurrency=20, heartbeat=0.05, block=0.2, drain_timeout=5)
"""As many heartbeats in 900 s as the default makes in a day."""
LEASE: Final = 0.2
"""The shortest there may be. It is renewed thrice in its time, each type in hand by a call of its own: those
for four types in 600 s are more than for one in a day with the default."""
RATE: Final = 60.0
"""Tasks a second."""
TYPES: Final = ("chore", "errand", "job", "parcel")
CONDUCTS: Final = ("ok", "ok", "ok", "ok", "slow", "once", "die")
A_DAY: Final = {
    "reclaim": 86_400 / 3, "tidy": 86_400 / 30, "discover": 8640, "sample": 8640, "heartbeat": 8640,
    "promote": 86_400 / LONGEST_SLEEP, "beat": 86_400 / 5, "renew": 86_400 * 3 / 10,
}  # fmt: skip
"""Rounds in a day with default settings; `beat` and `renew` are a worker's."""
WARM: Final = 0.25
"""The part of the time that is for warming up."""
ROOM: Final = {"rss_kb": 4096, "fds": 4, "threads": 0}
FORGOTTEN_LATER: Final = (
    "action_log", "actions", "buckets", "heartbeats", "minute", "quarter", "workers", "writer",
)  # fmt: skip
"""Kinds of keys that may grow meanwhile: the log of actions keeps the latest thousand; a dead worker's
heartbeat is forgotten after ten minutes, a writer after an hour, rollups after some days."""
SERVER_ROOM: Final = {"used_memory": 128 * 1024, "connections": 4, "keys": 12}


@dataclass
class Day:
    """What came of it. `rounds`: how many were made; `days`: as a part of those of a day."""

    seconds: float = 0.0
    tasks: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    days: dict[str, float] = field(default_factory=dict)
    workers_killed: int = 0
    before: dict[str, dict[str, int]] = field(default_factory=dict)
    after: dict[str, dict[str, int]] = field(default_factory=dict)
    keys_before: dict[str, dict[str, int]] = field(default_factory=dict)
    keys_after: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


async def measure(stage: Stage, seconds: float) -> Day:
    """Run for so long; the first quarter is for warming up."""
    found = Day(seconds=seconds)
    here = ("-m", "tests.endurance.day")
    daemon, worker = stage.seat("daemon", *here, "daemon"), stage.seat("worker", *here, "worker")
    victim = stage.seat("victim", *here, "victim")
    for seat in (daemon, worker, victim):
        seat.start()
    work = Trickle(StreamQ("endurance", stage.url))
    await until(lambda: len(work.app.inspector.workers()) >= 2, 100)
    end = time.monotonic() + seconds
    running = [asyncio.create_task(_again(step, end)) for step in (work.send, work.tidy)]
    running.append(asyncio.create_task(_again(lambda: _kill(victim, seconds, found), end)))
    await asyncio.sleep(seconds * WARM)
    found.before, found.keys_before = _use(stage, daemon, worker), figures.keys(stage.client)
    said(f"warm: {found.before}")
    await asyncio.gather(*running)
    await until(work.drained, 150)
    await work.settle()
    found.after, found.keys_after = _use(stage, daemon, worker), figures.keys(stage.client)
    said(f"after: {found.after}")
    await _sum_up(stage, work, found)
    return found


async def _again(step: Callable[[], Awaitable[None]], end: float) -> None:
    while time.monotonic() < end:
        await step()


async def _kill(victim: Seat, seconds: float, found: Day) -> None:
    """A worker dies with what it holds, and another takes its place."""
    await asyncio.sleep(max(1.5, seconds / 30))
    victim.kill(signal.SIGKILL)
    await asyncio.to_thread(victim.start)
    found.workers_killed += 1


def _use(stage: Stage, *seats: Seat) -> dict[str, dict[str, int]]:
    return {seat.name: figures.process(seat.pid) for seat in seats} | {"server": figures.server(stage.client)}


class Trickle:
    """Sends the work, and does what callers and operators do."""

    def __init__(self, app: StreamQ) -> None:
        self.app = app
        self.sent = 0
        self._rng = random.Random(1)
        self._waiting: set[asyncio.Task[None]] = set()

    async def send(self) -> None:
        """One task, in one of many ways; now and then somebody waits for it, or cancels it."""
        draw, options = self._rng.random(), dict[str, Any]()
        if draw < 0.3:
            options["delay"] = self._rng.choice([0.05, 0.2, 0.5])
        elif draw < 0.4:
            options["priority"] = self._rng.choice(["high", "low"])
        elif draw < 0.5:
            options |= {"idempotency_key": f"key-{self.sent}", "idempotency_window": 1.0}
        elif draw < 0.55:
            options["expires"] = 0.001
        self.sent += 1
        conduct = self._rng.choice(CONDUCTS)
        handle = await self.app.asend(
            self._rng.choice(TYPES), {"n": self.sent, "conduct": conduct}, **options
        )
        if draw > 0.9:
            task = asyncio.create_task(self._wait(handle))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        elif draw > 0.85:
            await handle.acancel()
        await asyncio.sleep(1 / RATE)

    async def _wait(self, handle: Any) -> None:
        with suppress(TaskError, TimeoutError, LookupError, RedisError):
            await handle.aresult(5)

    async def tidy(self) -> None:
        """Operators purge and requeue what died."""
        await asyncio.sleep(0.5)
        move = self.app.admin.requeue_type if self._rng.random() < 0.3 else self.app.admin.purge_type
        await asyncio.to_thread(lambda: [move(name) for name in TYPES])

    async def settle(self) -> None:
        """Purge what is left, and wait until what may be forgotten is: results, ends, idempotency keys."""
        await asyncio.gather(*self._waiting)
        for name in TYPES:
            self.app.admin.purge_type(name)
        await asyncio.sleep(3.0)

    def drained(self) -> bool:
        found = [self.app.inspector.type_stats(name) for name in TYPES]
        return not any(stats.ready + stats.running + stats.scheduled for stats in found)


async def _sum_up(stage: Stage, work: Trickle, found: Day) -> None:
    counters = Counter[str]()
    for name in TYPES:
        counters.update(work.app.inspector.type_stats(name).counters)
    found.tasks = work.sent
    found.ended = {name: number for name, number in sorted(counters.items()) if name != "sequence"}
    found.findings += [f"audit: {problem}" for problem in work.app.inspector.audit().problems]
    await work.app.aclose()
    found.findings += await stage.end()
    for role in ("daemon", "worker"):
        found.rounds |= orjson.loads((stage.folder / f"rounds-{role}.json").read_bytes())
    found.days = {
        name: round(number / A_DAY[name], 3) for name, number in found.rounds.items() if name in A_DAY
    }
    found.findings += _grown(found)


def _grown(found: Day) -> list[str]:
    grown: list[str] = []
    explained = {"used_memory": _explained(found, "bytes"), "keys": _explained(found, "keys")}
    for name, before in found.before.items():
        room = SERVER_ROOM if name == "server" else ROOM
        for what, number in before.items():
            more = found.after[name][what] - number
            if more - (explained.get(what, 0) if name == "server" else 0) > room[what]:
                grown.append(f"{name}: {what} has grown by {more:,}, from {number:,}")
    return grown


async def work(n: int, conduct: str) -> dict[str, Any]:
    """A day's work: succeeds, takes a while, fails once, fails until dead."""
    tasks.note(n)
    if conduct == "slow":
        await asyncio.sleep(2.0)  # its lease is renewed
    if conduct == "once" and get_context().attempt == 1:
        raise Retry("once more", after=0.05)
    if conduct == "die":
        raise ValueError(f"no {n}")
    return {"n": n, "text": "x" * 200}


for _name in TYPES:
    tasks.app.task(name=_name, lease=LEASE, retention=1, max_attempts=2, backoff=lambda _: 0.05)(work)


def _explained(found: Day, what: str) -> int:
    """How much more there is of what will be forgotten later."""
    both = ((found.keys_before, -1), (found.keys_after, 1))
    return sum(sign * keys.get(kind, {}).get(what, 0) for keys, sign in both for kind in FORGOTTEN_LATER)


# -- the programs ------------------------------------------------------------------------------------------


async def serve(role: str) -> None:
    """A worker or a daemon with short intervals, which tells at its end how many rounds it made."""
    logs.configure("error", "json")
    counted: Counter[str] = Counter()
    service = _daemon(counted) if role == "daemon" else _worker(counted)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, service.stop)
    await service.run()
    await asyncio.to_thread(Path(f"rounds-{role}.json").write_bytes, orjson.dumps(counted))


def _daemon(counted: Counter[str]) -> Daemon:
    def after(name: str) -> None:
        counted[name] += 1

    return Daemon(Address.parse(_url()), DAEMON, after_round=after)


def _worker(counted: Counter[str]) -> Worker:
    """What the worker sends is counted where its calls are built."""
    for name in ("beat", "renew"):
        true = getattr(worker_calls, name)

        def built(*args: Any, name: str = name, true: Any = true) -> Any:
            counted[name] += 1
            return true(*args)

        setattr(worker_calls, name, built)
    return Worker(tasks.app, WORKER)


def _url() -> str:
    return str(tasks.app.address)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))

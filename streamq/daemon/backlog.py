"""The queue as a daemon sees it: what is ready, running, scheduled and dead, and who works on it.

Owns that look: bounded, shared by whoever asks at the same time, and kept for a moment. Writes nothing.
The sums are free functions: the dashboard, which has no event loop of its own to look from, adds up the same.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from streamq import calls, telemetry
from streamq.calls import Call
from streamq.daemon.directory import Directory
from streamq.daemon.loop import Faults, for_each
from streamq.daemon.rounds import Rounds
from streamq.errors import RedisError
from streamq.inspector import WorkerInfo, worker_info
from streamq.keys import ShardKeys, TypeKeys
from streamq.model import COUNTERS, Counts
from streamq.stored import count
from streamq.telemetry.sums import Snapshot
from streamq.transport import AsyncTransport

KEPT: Final = 2.0
"""Seconds for which an answer is given again: scrapers and scalers come in pairs."""
MOST: Final = 2000
"""Types times shards that are looked at; a scrape must end."""
LEFT_OUT: Final = "streamq forget removes types that nobody uses; streamq stats TYPE asks about one"
Row = dict[str, Any]


@dataclass
class View:
    """What was seen. `rows`: one a type, over its shards; None where the server did not answer. `more_types`:
    those that were not looked at."""

    rows: list[Row] | None = None
    workers: dict[str, Counter[str]] = field(default_factory=dict)
    memory: tuple[int, int] | None = None
    more_types: int = 0


class Backlog:
    """Looks at every type of every shard."""

    def __init__(self, transport: AsyncTransport, directory: Directory, rounds: Rounds) -> None:
        self._transport = transport
        self._directory = directory
        self._rounds = rounds
        self._lock = asyncio.Lock()
        self._view, self._seen = View(), 0.0
        self._left_out = 0
        self._log = telemetry.get_logger()

    async def look(self) -> View:
        """What there is, at most `KEPT` seconds old."""
        async with self._lock:
            if time.monotonic() - self._seen > KEPT:
                self._view, self._seen = await self._fresh(), time.monotonic()
            return self._view

    async def _fresh(self) -> View:
        try:
            faults = Faults("watch", self._rounds)
            chosen, more = chosen_types(self._directory.types(), MOST)
            self._tell(more)
            return View(
                await self._rows(chosen, faults), await self._workers(faults), await self._memory(), more
            )
        except RedisError:
            return View()

    def _tell(self, more: int) -> None:
        """Say once that types are left out: their alerts and autoscalers would be silent for no reason."""
        if more and not self._left_out:
            self._log.warning("queue.types_left_out", types=more, looked_at=MOST, fix=LEFT_OUT)
        self._left_out = more

    async def _rows(self, chosen: Sequence[TypeKeys], faults: Faults) -> list[Row]:
        """A type that cannot be counted in one of its shards has no row: a part would be taken for all."""
        rows: dict[tuple[str, str], Row] = {}
        unreadable: set[tuple[str, str]] = set()

        async def count(keys: TypeKeys) -> None:
            unreadable.add((keys.app, keys.type))
            add_counts(rows, keys, await self._transport.run(calls.counts(keys), patience=0))
            unreadable.discard((keys.app, keys.type))

        for keys in chosen:
            if (keys.app, keys.type) not in unreadable:
                await for_each([keys], count, faults)
        await self._pauses(rows, faults)
        return [row for place, row in rows.items() if place not in unreadable]

    async def _workers(self, faults: Faults) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}

        async def look(shard: ShardKeys) -> None:
            tally = found[shard.app] = new_tally()
            beats = await self._transport.run(calls.workers(shard), patience=0)
            details = await self._transport.run(calls.heartbeats(shard), patience=0)
            now = await self._transport.run(calls.now(), patience=0)
            for name, beat in beats:
                if name in details:
                    add_worker(tally, worker_info(name, now - beat, details[name]))

        first = [shard for shard, _ in self._directory.shards() if shard.shard == 0]
        await for_each(first, look, faults)
        return found

    async def _pauses(self, rows: dict[tuple[str, str], Row], faults: Faults) -> None:
        async def look(shard: ShardKeys) -> None:
            for name in await self._transport.run(calls.paused(shard), patience=0):
                if (shard.app, name) in rows:
                    rows[shard.app, name]["paused"] = True

        await for_each([shard for shard, _ in self._directory.shards()], look, faults)

    async def _memory(self) -> tuple[int, int] | None:
        """Of the fullest server that has a shard."""
        try:
            found = [
                await self._transport.run(Call(None, (shard.types,), ("INFO", "memory"), _memory), patience=0)
                for shard, _ in self._directory.shards()
            ]
        except RedisError:  # a user without INFO
            return None
        return max(found, key=lambda memory: memory[0] / (memory[1] or float("inf")), default=None)


def chosen_types(types: Sequence[TypeKeys], most: int) -> tuple[list[TypeKeys], int]:
    """So many keys at most, each type with all its shards, and how many types are left out: the apps in turn,
    so that the types of one crowd out no other."""
    shards: dict[tuple[str, str], list[TypeKeys]] = {}
    for keys in types:
        shards.setdefault((keys.app, keys.type), []).append(keys)
    if len(types) <= most:
        return list(types), 0
    turn: Counter[str] = Counter()
    order: list[tuple[int, tuple[str, str]]] = []
    for place in shards:
        order.append((turn[place[0]], place))
        turn[place[0]] += 1
    chosen: list[TypeKeys] = []
    left_out = 0
    for _, place in sorted(order):
        if len(chosen) + len(shards[place]) <= most:
            chosen += shards[place]
        else:
            left_out += 1
    return chosen, left_out


def add_counts(rows: dict[tuple[str, str], Row], keys: TypeKeys, counts: Counts) -> None:
    """Add what is in one shard to the row of the type."""
    row = rows.setdefault(
        (keys.app, keys.type),
        {
            "app": keys.app, "type": keys.type, "ready": 0, "running": 0, "scheduled": 0, "dead": 0,
            "suspect": 0, "oldest_ready_seconds": 0.0, "overdue_seconds": 0.0, "unaccounted": 0,
            "paused": False, "counters": Counter(dict.fromkeys(COUNTERS, 0)),
        },
    )  # fmt: skip
    for name in ("ready", "running", "scheduled", "dead", "suspect"):
        row[name] += getattr(counts, name)
    row["unaccounted"] += counts.imbalance
    row["counters"].update({name: counts.counters.get(name, 0) for name in COUNTERS})
    for name, since in (("oldest_ready", counts.oldest_ready_ms), ("overdue", counts.next_due_ms)):
        if since is not None:
            row[f"{name}_seconds"] = max(row[f"{name}_seconds"], (counts.now_ms - since) / 1000)


def new_tally() -> Counter[str]:
    """How many workers are in each state, and their slots: none yet."""
    return Counter(alive=0, draining=0, silent=0, slots=0)


def add_worker(tally: Counter[str], worker: WorkerInfo) -> None:
    """Count a worker by its heartbeat."""
    draining = bool(worker.details.get("draining"))
    tally["silent" if not worker.alive else "draining" if draining else "alive"] += 1
    slots = worker.details.get("concurrency")
    if worker.alive and not draining and isinstance(slots, int):
        tally["slots"] += slots


def _memory(reply: bytes) -> tuple[int, int]:
    lines = [line.partition(":") for line in reply.decode("utf-8", "replace").splitlines()]
    rows = {name: value for name, _, value in lines}
    return count(rows.get("used_memory")), count(rows.get("maxmemory"))


def samples(view: View) -> Snapshot:
    """The view as metrics."""
    found = Snapshot()
    found.set("streamq_redis_up", value=int(view.rows is not None))
    if view.rows is not None:
        found.set("streamq_queue_more_types", value=view.more_types)
    for row in view.rows or ():
        _samples(found, row)
    for app, workers in view.workers.items():
        for state in ("alive", "draining", "silent"):
            found.set("streamq_workers", app, state, value=workers[state])
        found.set("streamq_workers_slots", app, value=workers["slots"])
    if view.memory is not None:
        found.set("streamq_redis_memory_used_bytes", value=view.memory[0])
        found.set("streamq_redis_memory_max_bytes", value=view.memory[1])
    return found


def _samples(found: Snapshot, row: Row) -> None:
    labels = (row["app"], row["type"])
    for state in ("ready", "running", "scheduled", "dead", "suspect"):
        found.set("streamq_queue_tasks", *labels, state, value=row[state])
    found.set("streamq_queue_oldest_seconds", *labels, "ready", value=row["oldest_ready_seconds"])
    found.set("streamq_queue_oldest_seconds", *labels, "scheduled", value=row["overdue_seconds"])
    found.set("streamq_queue_paused", *labels, value=int(row["paused"]))
    found.set("streamq_queue_unaccounted", *labels, value=row["unaccounted"])
    for event in COUNTERS:
        found.set(f"streamq_tasks_{event}_total", *labels, value=row["counters"][event])

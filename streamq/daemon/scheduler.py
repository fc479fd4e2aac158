"""Makes the runs of recurring tasks when they are due; sleeps until the next, and is woken by an earlier one.

Owns the waiting, and telling what became of a run. The step itself is taken in `schedule_step`, by one
script, so any number of daemons may do it. Who looks after rows that nobody declares any more is
`schedule_keeper`.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import Final

from streamq.calls import schedule as schedule_calls
from streamq.calls.schedule import DueRow, Ticked
from streamq.daemon import schedule_step
from streamq.daemon.alarm import Alarm
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults, for_each, isolate_errors
from streamq.daemon.promoter import LONGEST_SLEEP, POLL_INTERVAL
from streamq.daemon.run_events import RunEvents
from streamq.daemon.schedule_keeper import ScheduleKeeper
from streamq.flow import adrive
from streamq.keys import ShardKeys, TypeKeys
from streamq.schedules import arithmetic
from streamq.schedules.plan import Move
from streamq.stored import moment
from streamq.telemetry import logs
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport

PAGE: Final = 100
AT_ONCE: Final = 4
"""Schedules that are moved side by side."""
STUCK: Final = 5.0
"""Seconds after which rows are tried again of which nothing could be made."""
KEEP_INTERVAL: Final = 60.0


class Scheduler:
    """Serves the schedules of all shards."""

    def __init__(
        self, transport: AsyncTransport, discovery: Discovery, counters: Counters, alarm: Alarm, name: str
    ) -> None:
        self._transport, self._discovery = transport, discovery
        self._counters, self._alarm = counters, alarm
        self._keeper = ScheduleKeeper(transport, counters)
        self._events = RunEvents(transport, name)
        self._due: dict[ShardKeys, float] = {}
        self._look_at = 0.0
        self._keep_at = 0.0
        self._changes = -1
        self._log = logs.get_logger(chore="schedule")

    async def round(self, faults: Faults) -> None:
        """Make what is due by our clock; look at every shard when it is time to, or when something is new."""
        rung, everywhere = self._alarm.taken()
        now = time.monotonic()
        shards = [shard for shard, _ in self._discovery.shards()]
        if everywhere or now >= self._look_at or self._changes != self._discovery.changes:
            self._changes = self._discovery.changes
            self._look_at = now + (POLL_INTERVAL if self._alarm.deaf else LONGEST_SLEEP)
        else:
            shards = [one for one in shards if one in rung or self._due.get(one, math.inf) <= now]
        await for_each(shards, lambda shard: self._shard(shard, faults), faults)
        if now >= self._keep_at:
            self._keep_at = now + KEEP_INTERVAL * random.uniform(0.9, 1.1)
            await for_each(self._discovery.shards(), lambda one: self._keeper.keep(one[0], faults), faults)

    async def wait(self, stop: asyncio.Event) -> None:
        """Wait until the next is due, or for a message that one is due earlier."""
        times = [self._look_at, *self._due.values()]
        await self._alarm.wait(stop, min(times) - time.monotonic())

    async def _shard(self, shard: ShardKeys, faults: Faults) -> None:
        """Make all runs that are due in a shard, page by page, and note when the next is. Of a row that stays
        where it was nothing could be made: it keeps none behind it from its turn."""
        self._due[shard] = time.monotonic() + STUCK  # where it fails
        seen, stuck = set[tuple[str, bool, str]](), 0
        while True:
            due = await self._transport.run(schedule_calls.due(shard, stuck, PAGE), patience=0)
            fresh = [row for row in due.rows if row.key not in seen]
            seen.update(row.key for row in fresh)
            await self._page(shard, fresh, due.now_ms, faults)
            stuck += len(due.rows) - len(fresh)
            if not fresh and len(due.rows) < PAGE:
                break
        left = [] if due.next_ms is None else [(due.next_ms - due.now_ms) / 1000]
        if stuck:
            left.append(STUCK)
        if left:
            self._due[shard] = time.monotonic() + min(left)
        else:
            self._due.pop(shard, None)

    async def _page(self, shard: ShardKeys, rows: list[DueRow], now_ms: int, faults: Faults) -> None:
        """Take the next step of each row. Daemons that look at the same time begin at different ends."""
        random.shuffle(rows)
        room = asyncio.Semaphore(AT_ONCE)

        async def step(row: DueRow) -> None:
            async with room:
                with isolate_errors(faults, app=shard.app, shard=shard.shard, schedule=row.row.name):
                    await self._row(shard, row, now_ms)

        async with asyncio.TaskGroup() as group:
            for row in rows:
                group.create_task(step(row))

    async def _row(self, shard: ShardKeys, row: DueRow, now_ms: int) -> None:
        taken = await adrive(self._transport, schedule_step.take(shard, row, now_ms), patience=0)
        if taken is not None:
            await self._count(taken.keys, row, taken.move, taken.ticked)

    async def _count(self, keys: TypeKeys, row: DueRow, move: Move, ticked: Ticked) -> None:
        """Tell what became of a due time: metrics, log, and who listens."""
        labels, name = (keys.app, keys.type), row.row.name
        reasons = {"misfire": move.skipped} if move.skipped else {}
        if ticked.outcome == "made":
            self._counters.count("streamq_schedule_runs_total", *labels)
            if not row.waiting:
                late = moment(ticked.detail[1:].partition("-")[0]) - (row.row.due or 0)
                self._counters.histogram("streamq_schedule_lateness_seconds", *labels).observe(
                    max(0, late) / 1000
                )
            self._log.debug("schedule.run", schedule=name, type=keys.type, task=ticked.detail)
        elif ticked.outcome == "skipped" and move.run is not None:
            reasons[ticked.detail] = reasons.get(ticked.detail, 0) + 1
        for reason, number in reasons.items():
            self._counters.count("streamq_schedule_skipped_total", *labels, reason, by=number)
            self._log.warning("schedule.skipped", schedule=name, type=keys.type, reason=reason, runs=number)
            await self._events.skipped(keys, arithmetic.run_name(name, move.run or move.upto), number)

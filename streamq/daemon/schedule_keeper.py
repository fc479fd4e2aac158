"""Looks after stored schedules: those that no code declares any more, those whose due time was lost, and
those in a shard that is given up.

Owns the round over the rows of a shard, which is no more than its pages. Makes no run.
"""

from __future__ import annotations

from typing import Final

from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls import schedule as schedule_calls
from streamq.calls.schedule import Row
from streamq.control import heartbeats
from streamq.control.schedule_rows import Found, reckoned, rows_of, write
from streamq.control.unreadable import Unreadable
from streamq.daemon.loop import Faults, isolate_errors
from streamq.features import SCHEDULES
from streamq.flow import adrive
from streamq.heartbeat import WorkerInfo
from streamq.keys import ShardKeys, shard_keys
from streamq.schedules import registration
from streamq.schedules.registration import Change
from streamq.shards import AppRecord, shard_of
from streamq.telemetry import logs
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport

SKIPPED: Final = ("misfire", "overlap", "backlog", "rate_limit", "past", "unique")
"""Why a run is skipped."""
_NOBODY: Final = frozenset[str]()


class ScheduleKeeper:
    """Keeps the rows of all shards."""

    def __init__(self, transport: AsyncTransport, counters: Counters) -> None:
        self._transport, self._counters = transport, counters
        self._log = logs.get_logger(chore="schedule")

    async def keep(self, shard: ShardKeys, faults: Faults) -> None:
        """Look at every row of a shard."""
        look = Unreadable()
        rows = [Found(shard, row) for row in await adrive(self._transport, rows_of(shard, look), patience=0)]
        for fault in look.faults:
            faults.add({"app": shard.app, "shard": shard.shard}, fault)
        if not rows:
            return
        record = await self._transport.run(producer_calls.app_record(shard.app), patience=0) or AppRecord()
        by_code = any(one.state is not None and one.state.origin == "code" for one in rows)
        declared = await self._declared(shard) if by_code else None
        now = await self._transport.run(question_calls.now(shard.schedules), patience=0)
        for one in rows:
            with isolate_errors(faults, app=shard.app, shard=shard.shard, schedule=one.name):
                home = self._home(one, record)
                if home != shard:
                    await self._move(one, home)
                else:
                    await self._row(one, declared, now)

    @staticmethod
    def _home(one: Found, record: AppRecord) -> ShardKeys:
        """Where a row belongs: with the lane or key of its runs; else where it is, while that is served."""
        known = one.stored.definition if one.stored is not None else None
        if known is not None and known.home:
            return shard_keys(one.keys.app, shard_of(known.home, record.shards))
        served = one.keys.shard < record.shards
        return one.keys if served else shard_keys(one.keys.app, shard_of(one.name, record.shards))

    async def _row(self, one: Found, declared: frozenset[str] | None, now: int) -> None:
        before, known = reckoned(one)
        for reason in SKIPPED:  # from nothing to 1 is no rise for Prometheus
            self._counters.counter("streamq_schedule_skipped_total", one.keys.app, known.type, reason)
        change: Change | None = None
        if before.origin == "code" and declared is not None:
            by_code = one.name in declared
            if not by_code and registration.over(before, now):
                await self._remove(one)
                return
            change = registration.announced(one.name, before, known, now, by_code=by_code)
            if change is not None and not by_code:
                self._log.warning("schedule.orphaned", app=one.keys.app, schedule=one.name)
        active = before.next is not None and before.paused is None and not before.leaving
        if change is None and one.row.due is None and active:
            change = registration.as_it_is(one.name, before, known)
            self._log.warning("schedule.due_again", app=one.keys.app, schedule=one.name)
        if change is not None:
            await adrive(self._transport, write(one, change), patience=0)

    async def _move(self, one: Found, home: ShardKeys) -> None:
        """Move a row to another shard: it is due nowhere until it has arrived, so no run is made twice.
        Whoever is interrupted is followed by another."""
        before, known = reckoned(one)
        if not before.leaving:
            await adrive(self._transport, write(one, registration.leaving(before)), patience=0)
            await self._moved_on(one, home)
            return
        payload = await self._transport.run(schedule_calls.payload(one.keys, one.name), patience=0)
        new = Found(home, Row(one.name, None, None))
        arrived = registration.arrived(one.name, before, known)
        await adrive(self._transport, write(new, arrived, known, payload or b""), patience=0)
        await self._transport.run(
            schedule_calls.write(one.keys, one.name, one.revision, b"", None), patience=0
        )
        self._log.info("schedule.moved", app=home.app, schedule=one.name, shard=home.shard)

    async def _moved_on(self, one: Found, home: ShardKeys) -> None:
        row = await self._transport.run(schedule_calls.read(one.keys, one.name), patience=0)
        again = Found(one.keys, row)
        if again.state is not None and again.state.leaving:
            await self._move(again, home)

    async def _remove(self, one: Found) -> None:
        call = schedule_calls.write(one.keys, one.name, one.revision, b"", None)
        if await self._transport.run(call, patience=0):
            self._log.warning(
                "schedule.removed", app=one.keys.app, schedule=one.name, why="no code declares it"
            )

    async def _declared(self, shard: ShardKeys) -> frozenset[str] | None:
        """The schedules that the code of live workers declares; None where no worker that lives could
        tell."""
        alive = [one for one in await self._workers(shard) if one.alive and SCHEDULES in _told(one, "speaks")]
        if not alive:
            return None
        return _NOBODY.union(*(_told(one, "schedules") for one in alive))

    async def _workers(self, shard: ShardKeys) -> list[WorkerInfo]:
        return await adrive(self._transport, heartbeats.workers(shard.app), patience=0)


def _told(worker: WorkerInfo, what: str) -> list[str]:
    """The names of a list in a heartbeat."""
    return [one for one in worker.details.get(what) or () if isinstance(one, str)]

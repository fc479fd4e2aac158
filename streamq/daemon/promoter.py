"""The promoter: moves due tasks to their streams, and admits tasks of lanes when their time has come.

Owns the waiting: it sleeps until the next due time, and wakes for earlier ones. The move is one script, in
bounded batches. Must cost nothing while nothing is due.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.daemon.alarm import Alarm
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults, for_each, isolate_errors, pause
from streamq.errors import AuthenticationFailed, RedisUnavailable, ServerError
from streamq.keys import SCHEDULES, ShardKeys, TypeKeys, type_keys
from streamq.model.task import TYPE_PATTERN
from streamq.telemetry import logs
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.subscription import AsyncSubscription

LONGEST_SLEEP: Final = 30.0
"""Seconds after which every schedule is read again, in case a wake message was lost."""
POLL_INTERVAL: Final = 1.0
"""The same if the promoter cannot subscribe to wake messages."""
SLICE: Final = 0.5
NEWS_INTERVAL: Final = 1.0
"""Least seconds between two refreshes because of messages about new apps."""
RETRY_DELAY: Final = 0.5
"""Seconds after which a schedule is read again if its server is unreachable."""
BLOCKING_SLEEP: Final = 0.002
"""The last seconds before a due time are slept with time.sleep, which is exact and blocks the event loop."""
TYPES_AT_ONCE: Final = 50


class Promoter:
    """Moves due tasks of all types from their schedules to their streams. `alarm`: rung for what it hears of
    recurring tasks."""

    def __init__(
        self,
        transport: AsyncTransport,
        discovery: Discovery,
        batch: int,
        counters: Counters,
        alarm: Alarm | None = None,
    ) -> None:
        self._transport = transport
        self._counters = counters
        self._lag = counters.histogram("streamq_promoter_lag_seconds")
        self._discovery = discovery
        self._batch = batch
        self._subscription = AsyncSubscription(transport)
        self._channels: dict[str, ShardKeys] = {}
        self._due: dict[TypeKeys, float] = {}
        self._plain: set[TypeKeys] = set()
        """The types that are known to have no lanes. One whose first read failed may have some."""
        self._read_all_at = 0.0
        self._refresh_at = 0.0
        self._changes = 0
        self._polling = False
        self._alarm = alarm or Alarm()
        self._log = logs.get_logger(chore="promote")

    async def aclose(self) -> None:
        """Close the subscription."""
        await self._subscription.aclose()

    async def round(self, faults: Faults) -> None:
        """Promote the types that are due by the local clock. Periodically and after a reconnect, read the
        schedules of all types."""
        if self._changes != self._discovery.changes or not (self._subscription.connected or self._polling):
            await self._subscribe()
        now = time.monotonic()
        if now >= self._read_all_at or self._changes != self._discovery.changes:
            self._changes = self._discovery.changes
            self._read_all_at = now + (POLL_INTERVAL if self._polling else LONGEST_SLEEP)
            self._due = {}
            batches = self._discovery.batches(TYPES_AT_ONCE)
            await for_each(batches, lambda types: self._read_due(types, faults), faults)
        else:
            due = [keys for keys, due in self._due.items() if due <= now]
            await for_each(due, self._promote, faults)

    async def _subscribe(self) -> None:
        """Subscribe to the wake channel of every shard, and to the channel that announces new apps: by name,
        because a user whose rights are limited to a prefix may not subscribe to a pattern. If that is
        refused, poll all types instead."""
        channels = {keys.wake: keys for keys, _ in self._discovery.shards()}
        if channels == self._channels and (self._subscription.connected or self._polling):
            return
        await self._subscription.aclose()
        self._channels = channels
        news = self._transport.address.namespace.news
        self._subscription = AsyncSubscription(self._transport, news, *channels)
        self._read_all_at = 0.0  # messages may have been missed until now
        try:
            await self._subscription.open()
            self._polling = False
            self._alarm.ring()  # as above
        except (AuthenticationFailed, ServerError) as error:
            self._polling = True
            fix = f"allow SUBSCRIBE; until then, schedules are read every {POLL_INTERVAL:g} s"
            self._log.warning("wake.refused", error=str(error), fix=fix)
        self._alarm.deaf = self._polling

    async def _read_due(self, types: list[TypeKeys], faults: Faults) -> None:
        """Read when the next task of each type is due, and promote the types that are due now."""
        now = time.monotonic()
        self._due.update(dict.fromkeys(types, now + RETRY_DELAY))  # in case the call fails
        with isolate_errors(faults, app=types[0].app, shard=types[0].shard):
            found, laned = await self._transport.run(daemon_calls.next_promotion(types), patience=0)
            for keys, left_ms, lanes in zip(types, found, laned, strict=True):
                self._set_due(keys, left_ms)
                (self._plain.discard if lanes & daemon_calls.Lanes.THERE else self._plain.add)(keys)
        now = time.monotonic()
        due = [keys for keys in types if self._due.get(keys, math.inf) <= now]
        await for_each(due, self._promote, faults)

    async def _promote(self, keys: TypeKeys) -> None:
        """Promote the due tasks of one type, batch by batch, and record when the next one is due."""
        now = time.monotonic()
        if due := self._due.get(keys):
            self._lag.observe(max(0.0, now - due))
        self._due[keys] = now + RETRY_DELAY  # in case the call fails: other types must not wait for it
        while True:
            call = daemon_calls.promote(keys, self._batch, rich=keys not in self._plain)
            promotion = await self._transport.run(call, patience=0)
            if promotion.moved:
                self._log.debug("tasks.promoted", type=keys.type, tasks=promotion.moved)
                self._counters.count("streamq_daemon_promoted_total", keys.app, keys.type, by=promotion.moved)
            if promotion.moved < self._batch:
                break
        due = promotion.next_due_ms
        self._set_due(keys, None if due is None else max(0, due - promotion.now_ms))

    def _set_due(self, keys: TypeKeys, left_ms: float | None) -> None:
        """Record that the next task of a type is due in `left_ms`; None: nothing is scheduled."""
        if left_ms is None:
            self._due.pop(keys, None)
        else:
            self._due[keys] = time.monotonic() + left_ms / 1000

    async def wait(self, stop: asyncio.Event, faults: Faults) -> None:
        """Wait until the next due time, or for a message that a task is due earlier."""
        if not self._subscription.connected:
            due = min([self._read_all_at, *self._due.values()]) - time.monotonic()
            await pause(stop, min(RETRY_DELAY, max(due, BLOCKING_SLEEP)) if self._polling else RETRY_DELAY)
            return
        while not stop.is_set():
            left = min([self._read_all_at, *self._due.values()]) - time.monotonic()
            if left <= BLOCKING_SLEEP:
                # The event loop's timers are up to a millisecond late, and waiting in it costs as much.
                time.sleep(max(0.0, left))  # noqa: ASYNC251
            if left <= BLOCKING_SLEEP or self._changes != self._discovery.changes:
                return
            try:
                message = await self._subscription.next(min(left - BLOCKING_SLEEP, SLICE))
            except RedisUnavailable as error:  # perhaps closed for being idle: the next round finds out
                self._log.debug("wake.closed", error=str(error))
                return
            if message is not None:
                await self._handle_wake(*message, faults)
                return

    async def _handle_wake(self, channel: str, task_type: str, faults: Faults) -> None:
        """Handle a message: a type, perhaps a new one, has a task due earlier, or there is a new app. Any
        client may have sent it, so it only triggers a read."""
        shard = self._channels.get(channel)
        if shard is None and time.monotonic() >= self._refresh_at:
            self._refresh_at = time.monotonic() + NEWS_INTERVAL
            await self._discovery.refresh(faults)
        elif shard is not None and task_type == SCHEDULES:
            self._alarm.ring(shard)
        elif shard is not None and TYPE_PATTERN.fullmatch(task_type):
            # It may have lanes since we last looked.
            await self._read_due([type_keys(shard.app, shard.shard, task_type)], faults)

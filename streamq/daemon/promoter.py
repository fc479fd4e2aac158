"""Promotes what is due, and admits from lanes what time lets go.

Owns the waiting: it sleeps until then, and is woken where that is earlier than it knows. The moving is one
script, in bounded batches. Costs nothing while nothing is due.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.calls import lanes as lane_calls
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults, for_each, isolate_errors, pause
from streamq.errors import AuthenticationFailed, RedisUnavailable, ServerError
from streamq.keys import ShardKeys, TypeKeys, type_keys
from streamq.model.task import NAME_PATTERN
from streamq.telemetry import logs
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.subscription import AsyncSubscription

LONGEST_SLEEP: Final = 30.0
"""Seconds after which every schedule is looked at again, in case a message was lost."""
DEAF_SLEEP: Final = 1.0
"""The same where no message can be had at all."""
SLICE: Final = 0.5
NEWS_INTERVAL: Final = 1.0
"""Seconds between two looks that news of other apps ask for."""
AGAIN: Final = 0.5
"""Seconds after which a schedule is tried again whose server is away."""
FINE: Final = 0.002
"""The last seconds before something is due are slept to the microsecond; nothing else goes on meanwhile."""
TYPES_AT_ONCE: Final = 50


class Promoter:
    """Moves due tasks of all types from their schedules to their streams."""

    def __init__(
        self, transport: AsyncTransport, discovery: Discovery, batch: int, counters: Counters
    ) -> None:
        self._transport = transport
        self._counters = counters
        self._lag = counters.histogram("streamq_promoter_lag_seconds")
        self._discovery = discovery
        self._batch = batch
        self._listening = AsyncSubscription(transport)
        self._listened: dict[str, ShardKeys] = {}
        self._due: dict[TypeKeys, float] = {}
        self._laned: set[TypeKeys] = set()
        self._look_at = 0.0
        self._news_at = 0.0
        self._changes = 0
        self._deaf = False
        self._log = logs.get_logger(chore="promote")

    async def aclose(self) -> None:
        """Listen no more."""
        await self._listening.aclose()

    async def round(self, faults: Faults) -> None:
        """Promote what is due by our clock; every type when it is time to look, or after a reconnect."""
        if self._changes != self._discovery.changes or not (self._listening.connected or self._deaf):
            await self._listen()
        now = time.monotonic()
        if now >= self._look_at or self._changes != self._discovery.changes:
            self._changes = self._discovery.changes
            self._look_at = now + (DEAF_SLEEP if self._deaf else LONGEST_SLEEP)
            self._due = {}
            bundles = self._discovery.bundles(TYPES_AT_ONCE)
            await for_each(bundles, lambda types: self._look(types, faults), faults)
        else:
            due = [keys for keys, due in self._due.items() if due <= now]
            await for_each(due, self._promote, faults)

    async def _listen(self) -> None:
        """Subscribe to the wake channel of every shard, and to the news of apps that we do not know yet; by
        their names, as a user whose rights end at a prefix may subscribe to no pattern. Where that is not
        allowed, or not to be had, all types are looked at often instead."""
        listened = {keys.wake: keys for keys, _ in self._discovery.shards()}
        if listened == self._listened and (self._listening.connected or self._deaf):
            return
        await self._listening.aclose()
        self._listened = listened
        news = self._transport.address.namespace.news
        self._listening = AsyncSubscription(self._transport, news, *listened)
        self._look_at = 0.0  # what was said meanwhile
        try:
            await self._listening.open()
            self._deaf = False
        except (AuthenticationFailed, ServerError) as error:
            self._deaf = True
            self._log.warning("wake.refused", error=str(error), fix=f"looks every {DEAF_SLEEP:g} s instead")

    async def _look(self, types: list[TypeKeys], faults: Faults) -> None:
        """Note when the next of each type is due, and promote what is."""
        now = time.monotonic()
        self._due.update(dict.fromkeys(types, now + AGAIN))  # where it fails
        with isolate_errors(faults, app=types[0].app, shard=types[0].shard):
            found, laned = await self._transport.run(daemon_calls.next_promotion(types), patience=0)
            for keys, left_ms, has_lanes in zip(types, found, laned, strict=True):
                self._note(keys, left_ms)
                (self._laned.add if has_lanes else self._laned.discard)(keys)
                if has_lanes is daemon_calls.Lanes.UNCOUNTED:
                    await self._transport.run(lane_calls.recount(keys, write=True), patience=0)
        now = time.monotonic()
        due = [keys for keys in types if self._due.get(keys, math.inf) <= now]
        await for_each(due, self._promote, faults)

    async def _promote(self, keys: TypeKeys) -> None:
        """Empty what is due of one type, batch by batch, and note when the next is."""
        now = time.monotonic()
        if due := self._due.get(keys):
            self._lag.observe(max(0.0, now - due))
        self._due[keys] = now + AGAIN  # where it fails: the others must not wait for it
        while True:
            call = daemon_calls.promote(keys, self._batch, rich=keys in self._laned)
            promotion = await self._transport.run(call, patience=0)
            if promotion.moved:
                self._log.debug("tasks.promoted", type=keys.type, tasks=promotion.moved)
                self._counters.count("streamq_daemon_promoted_total", keys.app, keys.type, by=promotion.moved)
            if promotion.moved < self._batch:
                break
        due = promotion.next_due_ms
        self._note(keys, None if due is None else max(0, due - promotion.now_ms))

    def _note(self, keys: TypeKeys, left_ms: float | None) -> None:
        """In how many ms the next of a type is due; None: nothing is scheduled."""
        if left_ms is None:
            self._due.pop(keys, None)
        else:
            self._due[keys] = time.monotonic() + left_ms / 1000

    async def wait(self, stop: asyncio.Event, faults: Faults) -> None:
        """Wait until the next due time, or for a message that something is due earlier."""
        if not self._listening.connected:
            due = min([self._look_at, *self._due.values()]) - time.monotonic()
            await pause(stop, min(AGAIN, max(due, FINE)) if self._deaf else AGAIN)
            return
        while not stop.is_set():
            left = min([self._look_at, *self._due.values()]) - time.monotonic()
            if left <= FINE:
                # The event loop's timers are late by up to a millisecond, and waiting in it costs as much.
                time.sleep(max(0.0, left))  # noqa: ASYNC251
            if left <= FINE or self._changes != self._discovery.changes:
                return
            try:
                message = await self._listening.next(min(left - FINE, SLICE))
            except RedisUnavailable as error:  # closed as it was idle, perhaps: the next round tells
                self._log.debug("wake.closed", error=str(error))
                return
            if message is not None:
                await self._woken(*message, faults)
                return

    async def _woken(self, channel: str, task_type: str, faults: Faults) -> None:
        """A type has something due earlier than we know, which need not be one that we know; or there is
        another app. Anybody may have said so: it has us look."""
        shard = self._listened.get(channel)
        if shard is None and time.monotonic() >= self._news_at:
            self._news_at = time.monotonic() + NEWS_INTERVAL
            await self._discovery.look(faults)
        elif shard is not None and NAME_PATTERN.fullmatch(task_type):
            # It may have lanes since we last looked.
            await self._look([type_keys(shard.app, shard.shard, task_type)], faults)

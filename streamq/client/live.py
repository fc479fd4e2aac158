"""Watches a task: its events as they come, then its end.

Owns the order of what a watcher sees. All watchers of an event loop share the connections of its waits, and
those of one task its reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final
from weakref import WeakKeyDictionary

from streamq.calls import live as live_calls
from streamq.calls.live import Row
from streamq.client.task_event import TaskEvent, event_of
from streamq.client.waiting import Waiting
from streamq.errors import RedisUnavailable
from streamq.keys import TypeKeys, type_keys
from streamq.model.reply import Located
from streamq.model.task import TaskId


async def events(waiting: Waiting, app: str, task: TaskId, after: str) -> AsyncGenerator[TaskEvent]:
    """Yield the events of a task after an id, as they come, and last its end."""
    watch = _joined(waiting, type_keys(app, task.shard, task.type), task.local)
    waiter = waiting.listener.join(watch.channel)
    turn: asyncio.Future[bool] | None = None
    try:
        for polls in range(1 << 62):
            end = watch.ended.result() if watch.ended.done() else None  # raises if the server is unreachable
            for row in await watch.read(after):
                after = row.id
                event = event_of(row, app, task)
                if event is not None:
                    yield event
            if end is not None:
                yield _end(end)
                return
            turn = turn or asyncio.ensure_future(waiter.wait(waiting.pause_after(polls)))
            await asyncio.wait((turn, watch.ended), return_when=asyncio.FIRST_COMPLETED)
            turn = None if turn.done() else turn
    finally:
        waiting.listener.leave(waiter)
        watch.leave()
        if turn is not None:
            turn.cancel()


class _Watch:
    """All watchers of one task in one event loop: they wait for its end once, and those that are woken at the
    same moment and have seen the same share one read."""

    def __init__(self, waiting: Waiting, keys: TypeKeys, local: str) -> None:
        self._waiting, self._keys, self._local = waiting, keys, local
        self.channel: str = keys.watched(local)
        self.ended = asyncio.ensure_future(waiting.wait_until_ended(keys, local, None))
        self.watchers = 0
        self._to_come: dict[str, asyncio.Task[list[Row]]] = {}
        self._reads: set[asyncio.Task[list[Row]]] = set()

    def leave(self) -> None:
        """Leave the others; the last one waits for nothing any more."""
        self.watchers -= 1
        if not self.watchers:
            self.ended.cancel()
            for read in self._reads:
                read.cancel()
            watches = _WATCHES.get(self._waiting, {})
            if watches.get(self.channel) is self:
                del watches[self.channel]

    async def read(self, after: str) -> list[Row]:
        """Return all events after an id; none if the server is unreachable: a later look finds them."""
        read = self._to_come.get(after)
        if read is None:
            read = self._to_come[after] = asyncio.ensure_future(self._read(after))
            self._reads.add(read)
            read.add_done_callback(self._reads.discard)
        return await asyncio.shield(read)

    async def _read(self, after: str) -> list[Row]:
        await asyncio.sleep(0)  # the others join
        # Who comes later may have been woken by an event that this read does not find.
        del self._to_come[after]
        found: list[Row] = []
        while True:
            call = live_calls.events(self._keys, self._local, after)
            try:
                page: list[Row] = await self._waiting.ask_one(self._keys.shard, call)
            except RedisUnavailable:
                return found
            found += page
            if len(page) < live_calls.PAGE:
                return found
            after = page[-1].id


_WATCHES: Final[WeakKeyDictionary[Waiting, dict[str, _Watch]]] = WeakKeyDictionary()
"""By channel."""


def _joined(waiting: Waiting, keys: TypeKeys, local: str) -> _Watch:
    """Return the watch of a task, with one watcher more. One that has seen an end is not joined: a dead
    letter may have been requeued since."""
    watches = _WATCHES.setdefault(waiting, {})
    watch = watches.get(keys.watched(local))
    if watch is None or watch.ended.done():
        watch = _Watch(waiting, keys, local)
        watches[watch.channel] = watch
    watch.watchers += 1
    return watch


def _end(located: Located) -> TaskEvent:
    attempt = located.success.attempt if located.success is not None else 0
    return TaskEvent("", "end", attempt, located.state)

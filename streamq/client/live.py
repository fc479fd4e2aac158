"""Watches a task: its events as they come, then its end.

Owns the order of what a watcher sees. All watchers of an event loop share the connections of its waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

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
    keys, local = type_keys(app, task.shard, task.type), task.local
    ended = asyncio.ensure_future(waiting.wait_until_ended(keys, local, None))
    waiter = waiting.listener.join(keys.watched(local))
    turn: asyncio.Future[bool] | None = None
    try:
        for polls in range(1 << 62):
            end = ended.result() if ended.done() else None  # raises if the server is unreachable
            for row in await _read(waiting, keys, local, after):
                after = row.id
                event = event_of(row, app, task)
                if event is not None:
                    yield event
            if end is not None:
                yield _end(end)
                return
            turn = turn or asyncio.ensure_future(waiter.wait(waiting.pause_after(polls)))
            await asyncio.wait((turn, ended), return_when=asyncio.FIRST_COMPLETED)
            turn = None if turn.done() else turn
    finally:
        waiting.listener.leave(waiter)
        for one in (ended, turn):
            if one is not None:
                one.cancel()


async def _read(waiting: Waiting, keys: TypeKeys, local: str, after: str) -> list[Row]:
    """Return all events after an id; none if the server is unreachable: a later look finds them."""
    found: list[Row] = []
    while True:
        try:
            page: list[Row] = await waiting.ask_one(keys.shard, live_calls.events(keys, local, after))
        except RedisUnavailable:
            return found
        found += page
        if len(page) < live_calls.PAGE:
            return found
        after = page[-1].id


def _end(located: Located) -> TaskEvent:
    attempt = located.success.attempt if located.success is not None else 0
    return TaskEvent("", "end", attempt, located.state)

"""The events of one task, to iterate over in plain code and in an event loop.

Owns nothing but that: what a watcher sees is in `client.live`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

from streamq import blocking
from streamq.client import live
from streamq.client.loop_clients import AsyncClients
from streamq.client.sync_client import Client
from streamq.client.task_event import TaskEvent
from streamq.client.waiting import Waiting
from streamq.model.task import TaskId


class TaskEvents:
    """What a task tells, then its end. Each iteration starts at `after`."""

    def __init__(self, client: Client, asyncs: AsyncClients, app: str, task: TaskId, after: str) -> None:
        self._client, self._asyncs = client, asyncs
        self._app, self._task, self._after = app, task, after

    def __aiter__(self) -> AsyncGenerator[TaskEvent]:
        return self._watch(self._asyncs.current().waiting)

    def __iter__(self) -> Iterator[TaskEvent]:
        blocking.refuse("for event in handle.events()", "async for event in handle.events()")
        for event in self.ticking(None):
            if event is not None:
                yield event

    def ticking(self, silence: float | None) -> Iterator[TaskEvent | None]:
        """Iterate in plain code, with None after so many seconds in which nothing came."""
        background = self._client.background()
        watches: list[AsyncGenerator[TaskEvent]] = []
        coming: list[asyncio.Future[TaskEvent | None]] = []

        async def step(waiting: Waiting) -> tuple[bool, TaskEvent | None]:
            if not watches:
                watches.append(self._watch(waiting))
            if not coming:
                coming.append(asyncio.ensure_future(anext(watches[0], None)))
            done, _ = await asyncio.wait(coming, timeout=silence)
            return (True, coming.pop().result()) if done else (False, None)

        async def close(_: Waiting) -> None:
            for one in coming:
                one.cancel()
                await asyncio.wait([one])
            for watch in watches:
                await watch.aclose()

        try:
            while True:
                came, event = background.wait(step)
                if came and event is None:
                    return
                yield event
        finally:
            background.wait(close)

    def _watch(self, waiting: Waiting) -> AsyncGenerator[TaskEvent]:
        return live.events(waiting, self._app, self._task, self._after)

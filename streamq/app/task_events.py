"""The events of one task, to iterate over in plain code and in an event loop.

Owns nothing but that: what a watcher sees is in `client.live`.
"""

from __future__ import annotations

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
        background = self._client.background()
        watches: list[AsyncGenerator[TaskEvent]] = []

        async def step(waiting: Waiting) -> TaskEvent | None:
            if not watches:
                watches.append(self._watch(waiting))
            return await anext(watches[0], None)

        async def close(_: Waiting) -> None:
            for one in watches:
                await one.aclose()

        try:
            while (event := background.wait(step)) is not None:
                yield event
        finally:
            background.wait(close)

    def _watch(self, waiting: Waiting) -> AsyncGenerator[TaskEvent]:
        return live.events(waiting, self._app, self._task, self._after)

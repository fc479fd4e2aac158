"""The operator of a run: looks after dead letters that halt a lane, and ends the schedules.

Owns what an operator decides, and notes it before it asks: a call whose reply is lost may have been done.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from zlib import crc32

import orjson
import redis

from streamq import StreamQ, envelope
from streamq.errors import StreamQError
from tests.chaos import history
from tests.chaos.census import schedule_states
from tests.chaos.promises import HALTING, RECURRING
from tests.chaos.servers import Servers
from tests.letters import DeadLetter, all_dead

APP = "chaos"
INTERVAL = 0.5
PURGED = 4
"""Of so many letters one is purged; the others are requeued, and are well then."""
BEHIND_MS = 5000
"""How far a schedule may be behind its times once the faults are over."""


class Operator:
    """Acts as somebody at a command line does, on what `servers` have at the moment."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._app = StreamQ(APP, servers.url("conductor"), shards=servers.shards)

    async def run(self) -> None:
        """Look after halted lanes until cancelled."""
        while True:
            await asyncio.to_thread(self._round)
            await asyncio.sleep(INTERVAL)

    def _round(self) -> None:
        with suppress(StreamQError, redis.RedisError):
            for task_type in HALTING:
                for letter in all_dead(self._app.inspector, task_type):
                    self._decide(letter)

    def _decide(self, letter: DeadLetter) -> None:
        key = orjson.loads(envelope.fields_dict(letter.fields)["p"])["key"]
        if crc32(key.encode()) % PURGED == 0:
            history.write("purge", id=str(letter.id), key=key)
            self._app.admin.purge([str(letter.id)])
        else:
            history.look_after(key)
            history.write("requeue", id=str(letter.id), key=key)
            self._app.admin.requeue([str(letter.id)])

    async def end_schedules(self, limit: float) -> list[str]:
        """Pause the schedules when they are up to date: else the queue would never be empty. What cannot be
        paused, or is still behind at the limit, is returned."""
        deadline = time.monotonic() + limit
        while True:
            behind = await asyncio.to_thread(self._behind)
            if not behind or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        for name in RECURRING:
            behind += await asyncio.to_thread(self._pause, name, deadline)
        return behind

    def _behind(self) -> list[str]:
        now = time.time() * 1000
        try:
            states = schedule_states(self._servers.clients(), APP, self._servers.shards)
        except redis.RedisError as error:
            return [f"the server: {error}"]
        late = {name: now - states.get(name, {}).get("last", 0) for name in RECURRING}
        return [f"schedule {name}: {ms:.0f} ms behind" for name, ms in late.items() if ms > BEHIND_MS]

    def _pause(self, name: str, deadline: float) -> list[str]:
        while True:
            try:
                self._app.schedules.pause(name, "the run ends")
            except StreamQError as error:
                if time.monotonic() > deadline:
                    return [f"schedule {name} cannot be paused: {error}"]
                time.sleep(0.2)
            else:
                return []

    def close(self) -> None:
        self._app.close()

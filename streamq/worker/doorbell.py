"""The doorbell: how a worker that serves many types learns which of their streams have ready tasks.

Owns the worker's copy of `ready`, the wait on `bell`, and the search for tasks that did not ring (written by
an older release or by hand). Naming every stream in every read, as workers of few types do, costs in
proportion to the number of types. Must not take a task.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from streamq.calls import worker as worker_calls
from streamq.calls.call import AnyCall, Call
from streamq.keys import ShardKeys, TypeKeys
from streamq.model.task import STREAM_LETTERS

MANY: Final = 32
"""Up to this many types are read without the doorbell: one blocking read names all their streams."""
AT_ONCE: Final = 2000
"""The most streams in one script: about 1 ms of the server's time."""
WATCH_INTERVAL: Final = 1.0
"""Seconds between two requests for the duty to search for tasks that did not ring."""

RunCalls = Callable[[Sequence[AnyCall], float], Awaitable[list[Any]]]
"""Runs calls on the reader's connection, where they may block for the given seconds."""


class ReadyStream(NamedTuple):
    """A stream that has ready tasks."""

    keys: TypeKeys
    letter: str


class Doorbell:
    """The doorbell of one shard in one worker process."""

    def __init__(self, shard: ShardKeys, types: Sequence[TypeKeys], run_calls: RunCalls) -> None:
        self._shard = shard
        self._run_calls = run_calls
        self._streams = {
            keys.stream(letter).encode(): ReadyStream(keys, letter)
            for keys in types
            for letter in STREAM_LETTERS
        }
        names = [name.decode() for name in self._streams]
        # The server needs about 1 µs per stream, so at this interval a search takes 0.1 % of its time.
        self._seldom_ms = min(worker_calls.SELDOM_MS, max(worker_calls.SOON_MS, len(names)))
        self._musters = [
            worker_calls.muster(shard, names[n : n + AT_ONCE]) for n in range(0, len(names), AT_ONCE)
        ]
        self.forget()

    def forget(self) -> None:
        """Drop all knowledge: the server may be a different one, or was emptied."""
        self._known: list[ReadyStream] | None = None
        self._passed_on: dict[bytes, int] = {}
        self._woken: bytes | None = None
        self._force, self._found = True, False
        self._next_watch = 0.0

    @property
    def known(self) -> list[ReadyStream]:
        """Return the served streams that have ready tasks, in the order of their turns."""
        return self._known or []

    @property
    def list_ready(self) -> Call[list[bytes]]:
        """Return the call whose result `learn` takes."""
        return worker_calls.listed(self._shard)

    def learn(self, names: list[bytes]) -> None:
        """Remember which of the listed streams this worker serves."""
        self._woken = None
        self._known = [known for name in names if (known := self._streams.get(name))]

    async def watch(self) -> bool:
        """Ensure that a worker searches for tasks that did not ring. Return whether this worker should read
        all its streams: if no stream is known to be ready, that replaces the search."""
        now = time.monotonic()
        if now < self._next_watch:
            return False
        call = worker_calls.watch(
            self._shard, found=self._found, force=self._force, seldom_ms=self._seldom_ms
        )
        [left] = await self._run_calls([call], 0)
        self._next_watch = now + (left / 1000 or WATCH_INTERVAL)
        if left:
            return False
        if not self._force and not self._found and self._known == []:
            return True
        found = sum(await self._run_calls(self._musters, 0))
        self._found, self._force = found > 0 and not self._force, False
        await self._refresh()
        return False

    @property
    def seconds_to_watch(self) -> float:
        """Return the seconds until `watch` is due."""
        return max(0.05, self._next_watch - time.monotonic())

    @property
    def has_refused(self) -> bool:
        """Return whether a stream was passed on that this worker could read once its type has room."""
        return bool(self._known or self._passed_on)

    async def _refresh(self) -> None:
        [names] = await self._run_calls([self.list_ready], 0)
        self.learn(names)

    async def wait(self, longest: float, servable: Callable[[ReadyStream], bool]) -> None:
        """Wait until a served stream has tasks. Pass a stream that cannot be read now to another worker."""
        if self._known is None:
            await self._refresh()
            return
        [name] = await self._run_calls([worker_calls.answer_bell(self._shard, longest)], longest)
        if name is None:
            self._passed_on.clear()
            await self._refresh()
            return
        known = self._streams.get(name)
        if known is not None and servable(known):
            self._passed_on.clear()
            self._woken = name
            self._known = [known, *(one for one in self.known if one != known)]
        else:
            await self._pass_on(name)

    async def hand_over(self) -> None:
        """Wake another worker for the stream that woke this one, if this one stops before reading it."""
        if self._woken is not None:
            await self._run_calls([worker_calls.ring_again(self._shard, self._woken)], 0)

    async def _pass_on(self, name: bytes) -> None:
        """Wake the worker that has waited longest. A worker that is woken again for the same stream was the
        only one waiting: then the stream stays in `ready`, which workers read after they finish tasks."""
        times = self._passed_on[name] = self._passed_on.get(name, 0) + 1
        if times <= 2:
            await self._run_calls([worker_calls.ring_again(self._shard, name)], 0)

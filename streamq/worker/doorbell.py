"""How a worker that serves many types learns which of their streams have ready tasks.

Owns what it knows of `ready`, the waiting for `bell`, and the look for tasks that did not ring (of an older
release, or put in by hand). To name every stream in every read, as workers of few types do, would cost by the
number of types. Takes no task.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.keys import ShardKeys, TypeKeys
from streamq.model.task import STREAM_LETTERS

MANY: Final = 32
"""So many types and fewer are read as they are: one blocking read names all their streams."""
AT_ONCE: Final = 2000
"""Streams that one script looks at: about 1 ms of the server's time."""
ASK_AFTER: Final = 1.0
"""Seconds from one question who is to look for what did not ring to the next."""

Ask = Callable[[Sequence[Call[Any]], float], Awaitable[list[Any]]]
"""Runs calls on the reader's connection, where they may block for so many seconds."""


class Listed(NamedTuple):
    """A stream that has ready tasks."""

    keys: TypeKeys
    letter: str


class Doorbell:
    """Of one shard in one worker process."""

    def __init__(self, shard: ShardKeys, types: Sequence[TypeKeys], ask: Ask) -> None:
        self._shard = shard
        self._ask = ask
        self._streams = {
            keys.stream(letter).encode(): Listed(keys, letter) for keys in types for letter in STREAM_LETTERS
        }
        names = [name.decode() for name in self._streams]
        # A look at a stream takes the server a microsecond, so this takes a thousandth of its time.
        self._seldom_ms = min(worker_calls.SELDOM_MS, max(worker_calls.SOON_MS, len(names)))
        self._musters = [
            worker_calls.muster(shard, names[n : n + AT_ONCE]) for n in range(0, len(names), AT_ONCE)
        ]
        self.forget()

    def forget(self) -> None:
        """The server may be another, or emptied: nothing is known."""
        self._known: list[Listed] | None = None
        self._passed_on: dict[bytes, int] = {}
        self._woken: bytes | None = None
        self._force, self._found = True, False
        self._next_watch = 0.0

    @property
    def known(self) -> list[Listed]:
        """Those of our streams that have ready tasks, in the order of their turns."""
        return self._known or []

    @property
    def look(self) -> Call[list[bytes]]:
        """Asks for what `learn` is to be told."""
        return worker_calls.listed(self._shard)

    def learn(self, names: list[bytes]) -> None:
        self._woken = None
        self._known = [known for name in names if (known := self._streams.get(name))]

    async def watch(self) -> bool:
        """See to it that somebody looks for what did not ring. Answers whether it is for us to read all
        streams: where nothing is known to be ready, that is as good as a look of its own."""
        now = time.monotonic()
        if now < self._next_watch:
            return False
        call = worker_calls.watch(
            self._shard, found=self._found, force=self._force, seldom_ms=self._seldom_ms
        )
        [left] = await self._ask([call], 0)
        self._next_watch = now + (left / 1000 or ASK_AFTER)
        if left:
            return False
        if not self._force and not self._found and self._known == []:
            return True
        found = sum(await self._ask(self._musters, 0))
        self._found, self._force = found > 0 and not self._force, False
        await self._look()
        return False

    @property
    def patience(self) -> float:
        """Seconds until it is time to `watch`."""
        return max(0.05, self._next_watch - time.monotonic())

    @property
    def has_refused(self) -> bool:
        """Whether something was passed on that may be ours to read when there is room for its type."""
        return bool(self._known or self._passed_on)

    async def _look(self) -> None:
        [names] = await self._ask([self.look], 0)
        self.learn(names)

    async def wait(self, longest: float, servable: Callable[[Listed], bool]) -> None:
        """Wait until a stream of ours has tasks; what is not ours to read is passed on to another worker."""
        if self._known is None:
            await self._look()
            return
        [name] = await self._ask([worker_calls.answer_bell(self._shard, longest)], longest)
        if name is None:
            self._passed_on.clear()
            await self._look()
            return
        known = self._streams.get(name)
        if known is not None and servable(known):
            self._passed_on.clear()
            self._woken = name
            self._known = [known, *(one for one in self.known if one != known)]
        else:
            await self._pass_on(name)

    async def hand_over(self) -> None:
        """Have another worker look for what we were woken for, where we end before we do."""
        if self._woken is not None:
            await self._ask([worker_calls.ring_again(self._shard, self._woken)], 0)

    async def _pass_on(self, name: bytes) -> None:
        """Whoever waits longest is woken next. Who is woken for the same stream again was the last that
        waited: the stream stays in `ready`, where those look that come from their work."""
        times = self._passed_on[name] = self._passed_on.get(name, 0) + 1
        if times <= 2:
            await self._ask([worker_calls.ring_again(self._shard, name)], 0)

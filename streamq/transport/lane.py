"""Runs the questions of many tasks about one shard in few round trips, on one connection.

Owns that connection. What comes while a round trip is under way goes out together in the next. Questions
only: one that got no answer is asked again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from streamq.calls.call import Call
from streamq.errors import RedisError, RedisUnavailable
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.effort import Effort
from streamq.transport.reader import AsyncReader

BATCH: Final = 200
"""Questions in one round trip: each is a short script."""
TOGETHER: Final = 0.1
"""Seconds by which their patience may differ of those that are given up at once."""


class _Asked:
    """Calls of one caller, until when they are tried, and where their answers go."""

    __slots__ = ("answers", "calls", "until")

    def __init__(self, calls: Sequence[Call[Any]], patience: float) -> None:
        self.calls = calls
        self.until = time.monotonic() + patience
        self.answers: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        if not self.answers.done():
            self.answers.set_exception(error)


class Lane:
    """All its calls are about keys of one shard."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._reader = AsyncReader(transport, blocks=False)
        self._waiting: list[_Asked] = []
        self._busy = False

    async def ask(self, calls: Sequence[Call[Any]], patience: float) -> list[Any]:
        """The answers, in their order. Raises RedisErrors, RedisUnavailable when the patience is used up."""
        asked = _Asked(calls, patience)
        if self._busy:
            self._waiting.append(asked)
        else:
            self._busy = True
            try:
                await self._ask([asked])
            finally:
                self._go_on()
        return await asked.answers

    @property
    def free(self) -> bool:
        """Whether nobody is being asked for."""
        return not self._busy

    async def ask_now(self, call: Call[Any], patience: float) -> Any:
        """The answer to one question, where the lane is `free`, at the first try. Raises RedisErrors."""
        self._busy = True
        try:
            return await self._reader.run(call, effort=Effort(patience, self._transport.reply_timeout))
        finally:
            self._go_on()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._reader.aclose()

    def _go_on(self) -> None:
        """Have those asked who came meanwhile."""
        self._busy = bool(self._waiting)
        if self._waiting:
            self._transport.spawn(self._ask_all())

    async def _ask_all(self) -> None:
        batch: list[_Asked] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await self._ask([one for one in batch if not one.answers.done()])
        except BaseException as error:
            for one in [*batch, *self._waiting]:
                one.fail(error if isinstance(error, Exception) else RedisUnavailable("closed"))
            self._waiting = []
            raise
        finally:
            self._busy = False

    async def _ask(self, batch: list[_Asked]) -> None:
        if not batch:
            return
        calls = [call for one in batch for call in one.calls]
        try:
            answers = await self._reader.run_all(calls)
        except RedisError as error:
            answers = [error] * len(calls)
        again = [one for one in batch if not _answered(one, answers)]
        if again:
            await self._await_server(again)

    async def _await_server(self, away: list[_Asked]) -> None:
        """Wait with the one whose patience is over first; the others are asked again, or given up with it."""
        first = min(away, key=lambda one: one.until)
        left = max(0.0, first.until - time.monotonic())
        try:
            await self._transport.run(first.calls[0], patience=left)
        except RedisError as error:
            for one in away:
                if one.until <= first.until + TOGETHER or not isinstance(error, RedisUnavailable):
                    one.fail(error)
        self._waiting = [*(one for one in away if not one.answers.done()), *self._waiting]


def _answered(one: _Asked, answers: list[Any]) -> bool:
    """Give a caller its answers, the next in the list. False where they are to be asked for again."""
    mine = answers[: len(one.calls)]
    del answers[: len(one.calls)]
    errors = [answer for answer in mine if isinstance(answer, Exception)]
    if any(isinstance(error, RedisUnavailable) for error in errors):
        return False
    if errors:
        one.fail(errors[0])
    elif not one.answers.done():
        one.answers.set_result(mine)
    return True

"""Sends the questions of many tasks about one shard in few round trips, on one connection.

Owns that connection. Questions that arrive while a round trip is in flight are sent together in the next.
Must be given questions only: one without an answer is asked again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from streamq.calls.call import AnyCall, Call
from streamq.errors import RedisError, RedisUnavailable
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.budget import Budget
from streamq.transport.reader import AsyncReader

R = TypeVar("R")

BATCH: Final = 200
"""Questions in one round trip: each is a short script."""
TOGETHER: Final = 0.1
"""Callers whose patience ends within so many seconds of each other are given up together."""


class _Request:
    """The calls of one caller, how long they are tried (monotonic), and the future of their answers."""

    __slots__ = ("answers", "calls", "until")

    def __init__(self, calls: Sequence[AnyCall], patience: float) -> None:
        self.calls = calls
        self.until = time.monotonic() + patience
        self.answers: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        if not self.answers.done():
            self.answers.set_exception(error)

    def settle(self, answers: Sequence[object]) -> bool:
        """Pass the answers, or the first error, to the caller. Return False if they must be asked again."""
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        if any(isinstance(error, RedisUnavailable) for error in errors):
            return False
        if errors:
            self.fail(errors[0])
        elif not self.answers.done():
            self.answers.set_result(list(answers))
        return True


class QuestionBatcher:
    """Asks about keys of one shard. most: questions in one round trip."""

    def __init__(self, transport: AsyncTransport, most: int = BATCH) -> None:
        self._transport, self._most = transport, most
        self._reader = AsyncReader(transport, blocks=False)
        self._waiting: list[_Request] = []
        self._busy = False

    async def ask(self, calls: Sequence[AnyCall], patience: float) -> list[Any]:
        """Return the answers, in order. Raises RedisErrors; RedisUnavailable when the patience is over."""
        request = _Request(calls, patience)
        if self._busy:
            self._waiting.append(request)
        else:
            self._busy = True
            try:
                await self._ask([request])
            finally:
                self._ask_waiting()
        return await request.answers

    @property
    def free(self) -> bool:
        """Whether no round trip is in flight."""
        return not self._busy

    async def ask_now(self, call: Call[R], patience: float) -> R:
        """Return the answer to one question, with one try. Only when `free`. Raises RedisErrors."""
        self._busy = True
        try:
            return await self._reader.run(call, budget=Budget(patience, self._transport.reply_timeout))
        finally:
            self._ask_waiting()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._reader.aclose()

    def abandon(self) -> None:
        """Close the connection after the event loop was closed."""
        self._reader.abandon()

    def _ask_waiting(self) -> None:
        """Start asking for the callers that came in the meantime."""
        self._busy = bool(self._waiting)
        if self._waiting:
            self._transport.spawn(self._ask_all())

    async def _ask_all(self) -> None:
        batch: list[_Request] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._ask([one for one in batch if not one.answers.done()])
        except BaseException as error:
            for one in [*batch, *self._waiting]:
                one.fail(error if isinstance(error, Exception) else RedisUnavailable("closed"))
            self._waiting = []
            raise
        finally:
            self._busy = False

    async def _ask(self, batch: list[_Request]) -> None:
        if not batch:
            return
        calls = [call for one in batch for call in one.calls]
        answers: Sequence[object]
        try:
            answers = await self._reader.run_all(calls)
        except RedisError as error:
            answers = [error] * len(calls)
        unanswered: list[_Request] = []
        start = 0
        for one in batch:
            end = start + len(one.calls)
            if not one.settle(answers[start:end]):
                unanswered.append(one)
            start = end
        if unanswered:
            await self._wait_for_server(unanswered)

    async def _wait_for_server(self, unanswered: list[_Request]) -> None:
        """Wait as long as the shortest patience allows; then ask again for the others, or give up
        together."""
        first = min(unanswered, key=lambda one: one.until)
        left = max(0.0, first.until - time.monotonic())
        try:
            await self._transport.run(first.calls[0], patience=left)
        except RedisError as error:
            for one in unanswered:
                if one.until <= first.until + TOGETHER or not isinstance(error, RedisUnavailable):
                    one.fail(error)
        self._waiting = [*(one for one in unanswered if not one.answers.done()), *self._waiting]

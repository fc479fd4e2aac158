"""A producer, a program of its own: `python -m tests.chaos.producer NAME SEED sync|async RATE`.

Sends what `orders` says until SIGTERM: one by one, in bulk, by name; waits for some results and cancels
some tasks. Notes what it asked for before it asks, and what it was told after.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from streamq.app.handle import TaskHandle
from streamq.errors import (
    OutcomeUnknown,
    RedisError,
    Refused,
    ResultTimeout,
    ResultUnavailable,
    StreamQError,
    TaskError,
    UniqueConflict,
)
from tests.chaos import history
from tests.chaos.featured import KNOWN, TYPES
from tests.chaos.orders import Order, orders
from tests.chaos.tasks import app

FLOWS, CANCELLED = 0.04, 0.08
"""How often a flow is started with a call, and cancelled at once."""
STOPPED = False


def _stop(*_: object) -> None:
    global STOPPED  # noqa: PLW0603 - a signal handler has nowhere else to say it
    STOPPED = True


def invoke(batch: Sequence[Order]) -> None:
    for number, order in enumerate(batch):
        history.write("invoke", call=batch[0].key, number=number, **order.noted)


def accepted(batch: Sequence[Order], handles: Sequence[TaskHandle[Any] | None]) -> None:
    for order, handle in zip(batch, handles, strict=True):
        if handle is None:
            history.write("refused", key=order.key, why="Refused")
        else:
            history.write("joined" if handle.duplicate else "accepted", key=order.key, id=handle.id)


def failed(batch: Sequence[Order], error: BaseException) -> None:
    """Note what an error says of each task: refused means that it must not exist, unknown that it may."""
    if isinstance(error, UniqueConflict) and len(batch) == 1:
        history.write("refused", key=batch[0].key, why="UniqueConflict", holder=error.task_id)
        return None
    if isinstance(error, Refused | UniqueConflict) and error.accepted:
        partly: Any = error.accepted
        return accepted(batch, partly)
    # In bulk a RedisError may leave a part sent; of a single call, only OutcomeUnknown says so.
    unknown = isinstance(error, RedisError) and len(batch) > 1
    unknown = unknown or isinstance(error, OutcomeUnknown | TimeoutError | asyncio.CancelledError)
    for order in batch:
        history.write("unknown" if unknown else "refused", key=order.key, why=type(error).__name__)
    return None


class Shapes:
    """The flows of a producer."""

    def __init__(self, name: str, seed: int) -> None:
        self._name, self._rng, self._number = name, random.Random(f"{seed}-{name}-flows"), 0

    def next(self) -> Any:
        from tests.chaos import flowing

        self._number += 1
        return flowing.drawn(self._rng, f"{self._name}-{self._number}")


def waiting(recent: Iterable[TaskHandle[Any]], rng: random.Random) -> list[TaskHandle[Any]]:
    """Some of the tasks that wait for a signal."""
    return [one for one in recent if one.id.startswith("stepping:") and rng.random() < 0.1]


class Sync:
    """The blocking client."""

    def __init__(self, name: str, seed: int, rate: float) -> None:
        self._orders = orders(name, seed)
        self._rng = random.Random(seed)
        self._shapes = Shapes(name, seed)
        self._pause = 1 / rate
        self._recent: deque[TaskHandle[Any]] = deque(maxlen=20)

    def run(self) -> None:
        while not STOPPED:
            number = self._rng.choice([5, 20]) if self._rng.random() < 0.03 else 1
            batch = [next(self._orders) for _ in range(number)]
            self._send(batch)
            if self._recent and self._rng.random() < 0.06:
                self._cancel(self._rng.choice(self._recent))
            if KNOWN and self._rng.random() < FLOWS:
                self._flow()
            self._signals()
            if self._recent and self._rng.random() < 0.03:
                self._wait(self._recent[-1])
            time.sleep(self._pause * number * self._rng.uniform(0.5, 1.5))

    def _send(self, batch: list[Order]) -> None:
        invoke(batch)
        try:
            handles = self._call(batch)
        except StreamQError as error:
            failed(batch, error)
        else:
            accepted(batch, handles)
            self._recent.extend(handles)

    def _flow(self) -> None:
        shape = self._shapes.next()
        history.write("flow_invoke", **shape.noted)
        try:
            handle = shape.graph.start(shape.key)
            history.write("flow_started", key=shape.key, id=handle.id)
            if self._rng.random() < CANCELLED:
                history.write("flow_cancel", id=handle.id)
                handle.cancel()
        except StreamQError as error:
            history.write("flow_unknown", key=shape.key, why=type(error).__name__)

    def _signals(self) -> None:
        for handle in waiting(self._recent, self._rng):
            value = f"{handle.id}-{self._rng.random()}"
            history.write("signal", id=handle.id, value=value)
            with suppress(StreamQError):
                handle.signal("go", value)

    def _call(self, batch: list[Order]) -> list[TaskHandle[Any]]:
        if len(batch) > 1:
            return app.enqueue_many([order.bound() for order in batch])
        [order] = batch
        if self._rng.random() < 0.1:
            return [app.send(order.type, order.arguments, **order.given)]
        return [TYPES[order.type].options(**order.given).enqueue(**order.arguments)]

    def _cancel(self, handle: TaskHandle[Any]) -> None:
        try:
            history.write("cancel", id=handle.id, answer=handle.cancel())
        except RedisError:
            history.write("cancel", id=handle.id, answer="?")

    def _wait(self, handle: TaskHandle[Any]) -> None:
        try:
            history.write("result", id=handle.id, token=handle.result(timeout=1))
        except (TaskError, ResultUnavailable) as error:
            history.write("result", id=handle.id, error=type(error).__name__)
        except (ResultTimeout, RedisError):
            pass


class Async:
    """The same from an event loop, several calls at a time."""

    def __init__(self, name: str, seed: int, rate: float) -> None:
        self._orders: Iterator[Order] = orders(name, seed)
        self._rng = random.Random(seed)
        self._shapes = Shapes(name, seed)
        self._pause = 3 / rate
        self._recent: deque[TaskHandle[Any]] = deque(maxlen=20)

    async def run(self) -> None:
        await asyncio.gather(*(self._lane() for _ in range(3)))
        await app.aclose()

    async def _lane(self) -> None:
        while not STOPPED:
            number = self._rng.choice([5, 20]) if self._rng.random() < 0.03 else 1
            await self._send([next(self._orders) for _ in range(number)])
            if self._recent and self._rng.random() < 0.06:
                await self._cancel(self._rng.choice(self._recent))
            if KNOWN and self._rng.random() < FLOWS:
                await self._flow()
            await self._signals()
            if self._recent and self._rng.random() < 0.03:
                await self._wait(self._recent[-1])
            await asyncio.sleep(self._pause * number * self._rng.uniform(0.5, 1.5))

    async def _send(self, batch: list[Order]) -> None:
        invoke(batch)
        # Now and then somebody does not wait for the answer: the call goes on without its caller.
        patience = 0.02 if self._rng.random() < 0.02 else None
        try:
            async with asyncio.timeout(patience):
                handles = await self._call(batch)
        except (StreamQError, TimeoutError) as error:
            failed(batch, error)
        else:
            accepted(batch, handles)
            self._recent.extend(handles)

    async def _flow(self) -> None:
        shape = self._shapes.next()
        history.write("flow_invoke", **shape.noted)
        try:
            handle = await shape.graph.astart(shape.key)
            history.write("flow_started", key=shape.key, id=handle.id)
            if self._rng.random() < CANCELLED:
                history.write("flow_cancel", id=handle.id)
                await handle.acancel()
        except StreamQError as error:
            history.write("flow_unknown", key=shape.key, why=type(error).__name__)

    async def _signals(self) -> None:
        for handle in waiting(self._recent, self._rng):
            value = f"{handle.id}-{self._rng.random()}"
            history.write("signal", id=handle.id, value=value)
            with suppress(StreamQError):
                await handle.asignal("go", value)

    async def _call(self, batch: list[Order]) -> list[TaskHandle[Any]]:
        if len(batch) > 1:
            return await app.aenqueue_many([order.bound() for order in batch])
        [order] = batch
        if self._rng.random() < 0.1:
            return [await app.asend(order.type, order.arguments, **order.given)]
        return [await TYPES[order.type].options(**order.given).aenqueue(**order.arguments)]

    async def _cancel(self, handle: TaskHandle[Any]) -> None:
        try:
            history.write("cancel", id=handle.id, answer=await handle.acancel())
        except RedisError:
            history.write("cancel", id=handle.id, answer="?")

    async def _wait(self, handle: TaskHandle[Any]) -> None:
        try:
            history.write("result", id=handle.id, token=await handle.aresult(timeout=1))
        except (TaskError, ResultUnavailable) as error:
            history.write("result", id=handle.id, error=type(error).__name__)
        except (ResultTimeout, RedisError):
            pass


def main(name: str, seed: str, way: str, rate: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    if way == "async":
        asyncio.run(Async(name, int(seed), float(rate)).run())
    else:
        Sync(name, int(seed), float(rate)).run()
        app.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

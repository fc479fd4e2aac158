"""A task in its enqueuer's hands: status, result, cancel, each sync and async.

Owns the waiting for a result. Waits without polling: it subscribes, asks to be told, looks once, and
then listens; it looks again every few seconds in case a message was lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

import orjson

from streamq import calls, codec
from streamq.client import AsyncClients, Client
from streamq.errors import (
    DecodeError,
    RedisUnavailable,
    ResultTimeout,
    ResultUnavailable,
    TaskCancelled,
    TaskDead,
    TaskExpired,
)
from streamq.keys import TypeKeys, shard_keys, type_keys
from streamq.model import LIVING, CancelAnswer, Located, State, TaskId, cancel_answer
from streamq.options import Duration, seconds

R = TypeVar("R")
LOOK_AGAIN: Final = 5.0
LEAST: Final = 0.05
"""Seconds that a question may take where the wait is over: the transport gives it what an answer needs."""
SOON: Final = 0.1
"""Seconds after which a server that is away is asked again."""


def _decode_json(raw: bytes) -> Any:
    return orjson.loads(raw) if raw else None


class TaskHandle(Generic[R]):
    """One task. Cheap to make: from `enqueue`, or from an id with `app.handle(id)`.

    `duplicate`: the task was there before, by its idempotency key.
    """

    __slots__ = ("__dict__", "_asyncs", "_client", "_decode", "_id", "_keys", "duplicate")

    def __init__(
        self,
        task: TaskId,
        app: str,
        client: Client,
        asyncs: AsyncClients,
        decode: Callable[[bytes], R] | None,
        *,
        duplicate: bool = False,
    ) -> None:
        self._id = task
        self.duplicate = duplicate
        self._keys: TypeKeys = type_keys(app, task.shard, task.type)
        self._client = client
        self._asyncs = asyncs
        self._decode: Callable[[bytes], R] = decode or _decode_json

    @property
    def id(self) -> str:
        """The task's id: `type:shard:local`. The same for all its attempts."""
        return str(self._id)

    def __repr__(self) -> str:
        return f"<TaskHandle {self._id}>"

    if not TYPE_CHECKING:  # which would take every name for an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.elsewhere import missing  # noqa: PLC0415 - for a slip only

            missing("TaskHandle", name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskHandle):
            return NotImplemented
        return (self._keys.app, self._id) == (other._keys.app, other._id)

    def __hash__(self) -> int:
        return hash((self._keys.app, self._id))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a TaskHandle holds connections: keep its id, and make another by app.handle(id)")

    def status(self) -> State:
        """scheduled, ready, running, completed, dead, cancelled, expired; unknown where it never
        existed or ended longer ago than its retention."""
        return self._client.transport.run(self._locate()).state

    async def astatus(self) -> State:
        """As `status`."""
        return (await self._asyncs.current().transport.run(self._locate())).state

    def result(self, timeout: Duration | None = None) -> R:
        """Wait for the handler's return value; at most `timeout` (seconds, timedelta, "5m"; None: ever).

        Raises ResultTimeout, TaskDead, TaskCancelled, TaskExpired, or ResultUnavailable where there is
        no such task or its result was not kept.
        """
        transport, deadline = self._client.transport, _deadline(timeout)
        try:
            located = transport.run(self._locate(), patience=self._first_patience(deadline))
        except RedisUnavailable as error:
            raise self._out_of_time(deadline, error) from None
        if located.state in LIVING:
            from streamq.transport import Subscription  # noqa: PLC0415 - see Client.transport

            listening = Subscription(transport, self._keys.done(self._id.local))
            try:
                while located.state in LIVING:
                    try:
                        if not listening.connected:
                            listening.open(self._patience(deadline))
                        transport.run(self._wait(deadline), patience=self._patience(deadline))
                        located = transport.run(self._locate(), patience=self._patience(deadline))
                        if located.state in LIVING:
                            listening.next(self._left(deadline))
                    except RedisUnavailable as error:  # wait until it answers again, then listen anew
                        time.sleep(min(SOON, self._left(deadline, error)))
            finally:
                listening.close()
        return self._value(located)

    async def aresult(self, timeout: Duration | None = None) -> R:
        """As `result`."""
        import asyncio  # noqa: PLC0415 - see AsyncClients

        transport, deadline = self._asyncs.current().transport, _deadline(timeout)
        try:
            located = await transport.run(self._locate(), patience=self._first_patience(deadline))
        except RedisUnavailable as error:
            raise self._out_of_time(deadline, error) from None
        if located.state in LIVING:
            from streamq.transport import AsyncSubscription  # noqa: PLC0415 - see Client.transport

            listening = AsyncSubscription(transport, self._keys.done(self._id.local))
            try:
                while located.state in LIVING:
                    try:
                        if not listening.connected:
                            await listening.open(self._patience(deadline))
                        await transport.run(self._wait(deadline), patience=self._patience(deadline))
                        located = await transport.run(self._locate(), patience=self._patience(deadline))
                        if located.state in LIVING:
                            await listening.next(self._left(deadline))
                    except RedisUnavailable as error:
                        await asyncio.sleep(min(SOON, self._left(deadline, error)))
            finally:
                await listening.aclose()
        return self._value(located)

    def cancel(self) -> CancelAnswer:
        """End the task. `cancelled`: it will not run, also where it was cancelled before. `requested`: it
        runs, and its worker was asked to stop it. `too late`: it has ended. `unknown`: it does not exist."""
        answer = self._client.transport.run(self._cancel())
        return cancel_answer(answer, self.status() if answer == "unknown" else "dead")

    async def acancel(self) -> CancelAnswer:
        """As `cancel`."""
        answer = await self._asyncs.current().transport.run(self._cancel())
        return cancel_answer(answer, await self.astatus() if answer == "unknown" else "dead")

    def _locate(self) -> calls.Call[Located]:
        return calls.locate(self._keys, self._id.local)

    def _cancel(self) -> calls.Call[str]:
        return calls.cancel(self._keys, shard_keys(self._keys.app, self._id.shard), self._id)

    def _wait(self, deadline: float | None) -> calls.Call[int]:
        left = LOOK_AGAIN if deadline is None else deadline - time.monotonic()
        return calls.wait(self._keys, self._id.local, round(max(1.0, left + LOOK_AGAIN) * 1000))

    def _left(self, deadline: float | None, error: RedisUnavailable | None = None) -> float:
        if deadline is None:
            return LOOK_AGAIN
        if (left := deadline - time.monotonic()) <= 0:
            if error is not None:
                raise self._out_of_time(deadline, error) from None
            raise ResultTimeout(f"task {self._id} has not ended yet; it goes on")
        return min(left, LOOK_AGAIN)

    @staticmethod
    def _first_patience(deadline: float | None) -> float | None:
        """For the first look: as long as for any call where the wait has no end, so that a wrong address is
        told of."""
        return None if deadline is None else max(LEAST, deadline - time.monotonic())

    @staticmethod
    def _patience(deadline: float | None) -> float:
        """For what follows: an outage ends no wait before its time."""
        return LOOK_AGAIN if deadline is None else max(LEAST, min(LOOK_AGAIN, deadline - time.monotonic()))

    def _out_of_time(self, deadline: float | None, error: RedisUnavailable) -> Exception:
        if deadline is None:
            return error
        return ResultTimeout(f"it is not known whether task {self._id} has ended: {error}")

    def _value(self, located: Located) -> R:
        if located.result is not None:
            try:
                return self._decode(located.result)
            except orjson.JSONDecodeError as error:
                raise DecodeError(f"the stored result of task {self._id} is not JSON: {error}") from None
        if located.state == "cancelled":
            raise TaskCancelled(f"task {self._id} was cancelled")
        if located.state == "expired":
            raise TaskExpired(f"task {self._id} was too old to be worth running")
        if located.state == "dead":
            raise _dead(self._id, located)
        if located.state == "completed":
            raise ResultUnavailable(f"task {self._id} completed, and its result was not kept (retention 0)")
        raise ResultUnavailable(f"there is no task {self._id}, or its result was not or is no longer kept")


def _deadline(timeout: Duration | None) -> float | None:
    return None if timeout is None else time.monotonic() + seconds(timeout, "timeout")


def _dead(task: TaskId, located: Located) -> TaskDead:
    failures = codec.failures(codec.fields_dict(located.fields).get("f", b""))
    last = failures[-1] if failures else {}
    error = f"{last.get('error', 'unknown error')}: {last.get('message', '')}"
    reason = located.detail.get("reason", "unknown")
    return TaskDead(f"task {task} is a dead letter ({reason}): {error}", reason=reason, error=error)

"""A task in its enqueuer's hands: status, result, cancel, each sync and async.

Owns the waiting for a result. Waits without polling: it subscribes, asks to be told, looks once, and
then listens; it looks again every few seconds in case a message was lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Generic, Literal, NoReturn, TypeVar

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
from streamq.model import LIVING, Located, State, TaskId
from streamq.namespace import namespace_of
from streamq.options import Duration, seconds

R = TypeVar("R")
CancelAnswer = Literal["cancelled", "requested", "too late", "unknown"]
LOOK_AGAIN: Final = 5.0


def _decode_json(raw: bytes) -> Any:
    return orjson.loads(raw) if raw else None


class TaskHandle(Generic[R]):
    """One task. Cheap to make: from `enqueue`, or from an id with `app.handle(id)`.

    `duplicate`: the task was there before, by its idempotency key.
    """

    __slots__ = ("_app", "_asyncs", "_client", "_decode", "_id", "duplicate")

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
        self._app = app
        self._client = client
        self._asyncs = asyncs
        self._decode: Callable[[bytes], R] = decode or _decode_json

    @property
    def _keys(self) -> TypeKeys:
        return type_keys(self._app, self._id.shard, self._id.type)

    @property
    def id(self) -> str:
        """The task's id: `type:shard:local`. The same for all its attempts."""
        return str(self._id)

    def __repr__(self) -> str:
        return f"<TaskHandle {self._id}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskHandle):
            return NotImplemented
        places = namespace_of(self._app), namespace_of(other._app)
        return places[0] == places[1] and (self._app, self._id) == (other._app, other._id)

    def __hash__(self) -> int:
        return hash((self._app, self._id))

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
        located = transport.run(self._locate())
        if located.state in LIVING:
            from streamq.transport import Subscription  # noqa: PLC0415 - see Client.transport

            listening = Subscription(transport, self._keys.done(self._id.local))
            try:
                while located.state in LIVING:
                    if not listening.connected:
                        listening.open()
                    transport.run(self._wait(deadline))
                    located = transport.run(self._locate())
                    if located.state in LIVING:
                        try:
                            listening.next(self._left(deadline))
                        except RedisUnavailable:  # wait until it answers again, then listen anew
                            located = transport.run(self._locate())
            finally:
                listening.close()
        return self._value(located)

    async def aresult(self, timeout: Duration | None = None) -> R:
        """As `result`."""
        transport, deadline = self._asyncs.current().transport, _deadline(timeout)
        located = await transport.run(self._locate())
        if located.state in LIVING:
            from streamq.transport import AsyncSubscription  # noqa: PLC0415 - see Client.transport

            listening = AsyncSubscription(transport, self._keys.done(self._id.local))
            try:
                while located.state in LIVING:
                    if not listening.connected:
                        await listening.open()
                    await transport.run(self._wait(deadline))
                    located = await transport.run(self._locate())
                    if located.state in LIVING:
                        try:
                            await listening.next(self._left(deadline))
                        except RedisUnavailable:
                            located = await transport.run(self._locate())
            finally:
                await listening.aclose()
        return self._value(located)

    def cancel(self) -> CancelAnswer:
        """End the task. `cancelled`: it will not run. `requested`: it runs, and its worker was asked to
        stop it. `too late`: it has ended. `unknown`: there is no such task."""
        return self._cancelled(self._client.transport.run(self._cancel()), self.status)

    async def acancel(self) -> CancelAnswer:
        """As `cancel`."""
        answer = await self._asyncs.current().transport.run(self._cancel())
        state = await self.astatus() if answer == "unknown" else "dead"
        return self._cancelled(answer, lambda: state)

    def _cancelled(self, answer: str, state: Callable[[], State]) -> CancelAnswer:
        if answer == "cancelled":
            return "cancelled"
        if answer == "requested":
            return "requested"
        return "unknown" if answer == "unknown" and state() == "unknown" else "too late"

    def _locate(self) -> calls.Call[Located]:
        return calls.locate(self._keys, self._id.local)

    def _cancel(self) -> calls.Call[str]:
        return calls.cancel(self._keys, shard_keys(self._keys.app, self._id.shard), self._id)

    def _wait(self, deadline: float | None) -> calls.Call[int]:
        left = LOOK_AGAIN if deadline is None else deadline - time.monotonic()
        return calls.wait(self._keys, self._id.local, round(max(1.0, left + LOOK_AGAIN) * 1000))

    def _left(self, deadline: float | None) -> float:
        if deadline is None:
            return LOOK_AGAIN
        if (left := deadline - time.monotonic()) <= 0:
            raise ResultTimeout(f"task {self._id} has not ended yet; it goes on")
        return min(left, LOOK_AGAIN)

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
        raise ResultUnavailable(f"there is no task {self._id}, or its result was not or is no longer kept")


def _deadline(timeout: Duration | None) -> float | None:
    return None if timeout is None else time.monotonic() + seconds(timeout, "timeout")


def _dead(task: TaskId, located: Located) -> TaskDead:
    failures = codec.failures(codec.fields_dict(located.fields).get("f", b""))
    last = failures[-1] if failures else {}
    error = f"{last.get('error', 'unknown error')}: {last.get('message', '')}"
    reason = located.detail.get("reason", "unknown")
    return TaskDead(f"task {task} is a dead letter ({reason}): {error}", reason=reason, error=error)

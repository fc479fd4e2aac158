"""The handle of an enqueued task: status, result, cancel, each sync and async.

Owns the translation of a task's end into its value, or into the error for how it ended. Must not wait by
itself: the client does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar, cast

import orjson

from streamq import envelope
from streamq.blocking import refuse
from streamq.calls import producer as producer_calls
from streamq.calls.call import Call
from streamq.calls.locate import locate
from streamq.client.loop_clients import AsyncClients
from streamq.client.sync_client import Client
from streamq.errors import (
    DecodeError,
    RedisUnavailable,
    ResultTimeout,
    ResultUnavailable,
    TaskCancelled,
    TaskDead,
    TaskExpired,
    UsageError,
)
from streamq.flow import Flow
from streamq.keys import TypeKeys, shard_keys, type_keys
from streamq.model.reply import Located
from streamq.model.task import LIVING, CancelAnswer, SignalAnswer, State, TaskId, cancel_answer
from streamq.model.where import Buried
from streamq.namespace import namespace_of
from streamq.options.checks import Duration, seconds
from streamq.payloads.pipeline import BLOB_HEAD, Pipeline, opened_version
from streamq.payloads.stage import MOST_OF_RESULT, About, NoKey, UnknownEncoding

if TYPE_CHECKING:
    from streamq.app.task_events import TaskEvents
    from streamq.client.wait_reasons import Surroundings

R = TypeVar("R")


def _decode_json(raw: bytes, _version: int) -> object:
    return orjson.loads(raw) if raw else None


class TaskHandle(Generic[R]):
    """One task. Cheap to create: by `enqueue`, or from an id by `app.handle(id)`.

    duplicate: the task existed already, with the same idempotency key or unique key.
    """

    __slots__ = ("__dict__", "_app", "_asyncs", "_client", "_decode", "_id", "_pipeline", "duplicate")

    def __init__(
        self,
        task: TaskId,
        app: str,
        client: Client,
        asyncs: AsyncClients,
        decode: Callable[[bytes, int], R] | None,
        *,
        duplicate: bool = False,
        pipeline: Pipeline | None = None,
    ) -> None:
        self._id = task
        self.duplicate: bool = duplicate
        self._app = app
        self._client = client
        self._pipeline = pipeline
        self._asyncs = asyncs
        self._decode: Callable[[bytes, int], R] = decode or cast("Callable[[bytes, int], R]", _decode_json)

    @property
    def _keys(self) -> TypeKeys:
        return type_keys(self._app, self._id.shard, self._id.type)

    @property
    def id(self) -> str:
        """The task's id, `type:shard:local`; the same for all its attempts."""
        return str(self._id)

    def __repr__(self) -> str:
        return f"<TaskHandle {self._id}>"

    if not TYPE_CHECKING:  # type checkers would accept every name as an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.migration_hints import missing  # noqa: PLC0415 - only for a misspelt name

            missing("TaskHandle", name)

        def __await__(self) -> NoReturn:
            raise UsageError(
                "a handle cannot be awaited: write await handle.aresult(timeout=...) for the task's result"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskHandle):
            return NotImplemented
        same_server_keys = namespace_of(self._app) == namespace_of(other._app)
        return same_server_keys and (self._app, self._id) == (other._app, other._id)

    def __hash__(self) -> int:
        return hash((self._app, self._id))

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "cannot pickle a TaskHandle: it holds connections. Keep its id, and call app.handle(id)"
        )

    def status(self) -> State:
        """Return the state: scheduled, parked, ready, running, completed, dead, cancelled, expired; unknown
        if the task never existed or ended longer ago than its retention."""
        refuse("TaskHandle.status()", "await handle.astatus()")
        return self._client.transport.run(self._locate()).state

    async def astatus(self) -> State:
        """Return the state, as `status` does."""
        return (await self._asyncs.current().waiting.ask_one(self._id.shard, self._locate())).state

    def result(self, timeout: Duration | None = None) -> R:
        """Wait for the handler's return value, at most `timeout` (seconds, timedelta, "5m"; None waits
        forever).

        Raises ResultTimeout, TaskDead, TaskCancelled, TaskExpired, or ResultUnavailable if there is no such
        task or its result was not kept.
        """
        refuse("TaskHandle.result()", "await handle.aresult()")
        deadline = _deadline(timeout)
        try:
            located = self._client.wait_until_ended(self._keys, self._id.local, deadline)
        except RedisUnavailable as error:
            raise self._unknown(deadline, error) from None
        if located.state in LIVING:
            around = self._client.background().wait(lambda waiting: waiting.surroundings(self._app))
            raise self._late(located, around)
        return self._value(located)

    async def aresult(self, timeout: Duration | None = None) -> R:
        """Wait for the handler's return value, as `result` does."""
        waiting = self._asyncs.current().waiting
        deadline = _deadline(timeout)
        try:
            located = await waiting.wait_until_ended(self._keys, self._id.local, deadline)
        except RedisUnavailable as error:
            raise self._unknown(deadline, error) from None
        if located.state in LIVING:
            raise self._late(located, await waiting.surroundings(self._app))
        if located.result is not None and located.result[: len(BLOB_HEAD)] == BLOB_HEAD:
            import asyncio  # noqa: PLC0415 - it is loaded: this is a coroutine

            return await asyncio.to_thread(self._value, located)  # the store must not hold up the event loop
        return self._value(located)

    def events(self, after: str = "") -> TaskEvents:
        """Watch the task: iterate, with `for` or `async for`, over what its handler tells by `progress` and
        `emit`, as it comes, and last over its end.

        after: the id of an event, to go on behind it. Any number of watchers share a few connections.
        """
        from streamq.app.task_events import TaskEvents  # noqa: PLC0415 - few programs watch tasks

        return TaskEvents(self._client, self._asyncs, self._app, self._id, after)

    def cancel(self) -> CancelAnswer:
        """Cancel the task. `cancelled`: it will not run, even if it was cancelled before. `requested`: it is
        running, and its worker was asked to stop it. `too late`: it has ended. `unknown`: it does not
        exist."""
        refuse("TaskHandle.cancel()", "await handle.acancel()")
        answer = self._client.transport.run(self._cancel())
        return cancel_answer(answer, self.status() if answer == "unknown" else "dead")

    async def acancel(self) -> CancelAnswer:
        """Cancel the task, as `cancel` does."""
        answer = await self._asyncs.current().transport.run(self._cancel())
        return cancel_answer(answer, await self.astatus() if answer == "unknown" else "dead")

    def signal(self, name: str, value: object = None) -> SignalAnswer:
        """Give the task a signal, for its `await ctx.wait(name)`: a value, as JSON of at most 64 KiB.

        `delivered`: the handler waited for it. `stored`: it is kept until the handler waits. `too late`: the
        task has ended. `unknown`: it does not exist. Raises PayloadError if 100 signals wait to be taken.
        """
        refuse("TaskHandle.signal()", "await handle.asignal()")
        return self._client.drive(self._signal(name, value))

    async def asignal(self, name: str, value: object = None) -> SignalAnswer:
        """Give the task a signal, as `signal` does."""
        return await self._asyncs.current().drive(self._signal(name, value))

    def _signal(self, name: str, value: object) -> Flow[SignalAnswer]:
        from streamq.client import signals  # noqa: PLC0415 - few tasks wait for a signal

        raw = signals.encoded(value, self._pipeline, self._app, self._id, signals.checked_name(name))
        return signals.give(self._keys, self._id, name, raw)

    def _late(self, located: Located, around: Surroundings | None) -> ResultTimeout:
        from streamq.client.wait_reasons import reason  # noqa: PLC0415 - most programs do not need it

        return ResultTimeout(reason(self._id, located, around))

    def _locate(self) -> Call[Located]:
        return locate(self._keys, self._id.local)

    def _cancel(self) -> Call[str]:
        return producer_calls.cancel(self._keys, shard_keys(self._keys.app, self._id.shard), self._id)

    def _unknown(self, deadline: float | None, error: RedisUnavailable) -> Exception:
        if deadline is None:
            return error
        return ResultTimeout(f"it is unknown whether task {self._id} has ended: {error}")

    def _about(self) -> About:
        return About(self._app, self._id.type, "result", self.id, MOST_OF_RESULT)

    def _value(self, located: Located) -> R:
        if located.result is not None:
            try:
                return self._decode(*opened_version(located.result, self._about()))
            except DecodeError as error:
                from streamq.payloads.blob_store import BlobLost, NoBlobs  # noqa: PLC0415 - in trouble only

                if isinstance(error, BlobLost):
                    raise ResultUnavailable(f"the result of task {self._id} is gone: {error}") from None
                unread = isinstance(error, UnknownEncoding | NoKey | NoBlobs)
                if not unread and error.reason not in ("tampered", "encoding"):
                    raise
                raise DecodeError(
                    f"cannot read the result of task {self._id}: {error}", reason=error.reason
                ) from None
            except orjson.JSONDecodeError as error:
                raise DecodeError(
                    f"cannot read the result of task {self._id}: it is not JSON: {error}"
                ) from None
        if located.state == "cancelled":
            raise TaskCancelled(f"task {self._id} was cancelled")
        if located.state == "expired":
            raise TaskExpired(f"task {self._id} expired before a worker took it")
        if located.state == "dead":
            raise _dead(self._app, self._id, located)
        if located.state == "completed":
            raise ResultUnavailable(f"task {self._id} completed, but its result was not kept (retention 0)")
        raise ResultUnavailable(f"there is no task {self._id}, or its result was not kept or has expired")


def _deadline(timeout: Duration | None) -> float | None:
    return None if timeout is None else time.monotonic() + seconds(timeout, "timeout")


def _dead(app: str, task: TaskId, located: Located) -> TaskDead:
    failures = envelope.failures(envelope.fields_dict(located.fields).get("f", b""), app, task.type)
    last = failures[-1] if failures else {}
    error = f"{last.get('error', 'unknown error')}: {last.get('message', '')}"
    reason = located.where.reason if isinstance(located.where, Buried) else "unknown"
    return TaskDead(f"task {task} is a dead letter ({reason}): {error}", reason=reason, error=error)

"""Steps: calls inside a handler whose results are stored, so that a later attempt does not make them again.

Owns the memos of one attempt and what must hold of them: one use of a name, a bounded size, and that only the
worker that holds the task writes. Knows nothing of retries.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import orjson

from streamq import blocking, memos
from streamq.app.cursor import Cursor, arows, check, cursor_of, interrupted, rows
from streamq.app.enqueuer import Enqueuer
from streamq.calls import question as question_calls
from streamq.calls import signals as signal_calls
from streamq.calls import steps as step_calls
from streamq.client.signals import about, checked_name
from streamq.context_protocols import Source, Starts, SyncSource
from streamq.convert.converter import Converter
from streamq.convert.encoding import encode_as
from streamq.errors import (
    DecodeError,
    InvalidOption,
    LeaseLost,
    PayloadError,
    SignalTimeout,
    Suspended,
    UsageError,
)
from streamq.flow import Flow, ask
from streamq.keys import TypeKeys, type_keys
from streamq.model.delivery import Delivery
from streamq.options.checks import Duration, seconds
from streamq.payloads.pipeline import Versioned, opened_version, versioned
from streamq.payloads.stage import About, NewerMemo, NoKey, UnknownEncoding
from streamq.registry.handler import sized
from streamq.registry.registry import Registry
from streamq.registry.upcasting import upcast_value

if TYPE_CHECKING:
    from streamq.app.child_flows import ChildFlows

R = TypeVar("R")
T = TypeVar("T")

MOST_OF_ONE: Final = 262_144
"""The most bytes of one memo."""
_LONGEST_NAME: Final = 200
FOR_EVER: Final = 100 * 366 * 86400.0
"""Seconds for which a task waits for a signal without a timeout."""


class Steps:
    """The steps of one attempt."""

    def __init__(self, registry: Registry, enqueuer: Enqueuer, task: Delivery, worker: str) -> None:
        self._registry, self._enqueuer = registry, enqueuer
        self._task, self._worker = task, worker
        self._keys: TypeKeys = type_keys(registry.name, task.shard, task.type)
        # A task that is where its id says has never been moved, so this is its first attempt.
        self._memos: dict[str, bytes] | None = {} if task.local == task.place else None
        self._used: set[str] = set()
        self._sleeps = 0
        self._waits: dict[str, int] = {}
        self._cursors: list[Cursor] = []

    async def run(
        self, name: str, function: Callable[..., Awaitable[R] | R], args: tuple[object, ...],
        kwargs: Mapping[str, object],
    ) -> R:  # fmt: skip
        """Return the memo of a step, or make the call and store its result."""
        converter = self._begin(name, function)
        memo = await self._enqueuer.adrive(self._memo(name))
        if memo is not None:
            found: R = self._decoded(name, converter, memo)
            return found
        value = function(*args, **kwargs)
        result = cast("R", await value if inspect.isawaitable(value) else value)
        return await self._enqueuer.adrive(self._kept(name, converter, result))

    def run_sync(
        self, name: str, function: Callable[..., R], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> R:
        """Return the memo of a step, or make the call and store its result, in a thread."""
        blocking.refuse("ctx.step_sync()", "await ctx.step()")
        if inspect.iscoroutinefunction(function):
            raise UsageError(
                f"step {name!r}: step_sync takes a plain function; in an `async def` handler await step"
            )
        converter = self._begin(name, function)
        memo = self._enqueuer.drive(self._memo(name))
        if memo is not None:
            found: R = self._decoded(name, converter, memo)
            return found
        return self._enqueuer.drive(self._kept(name, converter, function(*args, **kwargs)))

    def _kept(self, name: str, converter: Converter, result: R) -> Flow[R]:
        """Store the result of a step; return it, or that of an earlier call where there is one."""
        kept = yield from self._store(name, self._encoded(name, converter, result))
        return result if kept is None else self._decoded(name, converter, kept)

    async def sleep(self, duration: Duration, name: str | None) -> None:
        """Return if the time is over; else raise Suspended."""
        await self._enqueuer.adrive(self._sleep(duration, name))

    def sleep_sync(self, duration: Duration, name: str | None) -> None:
        """Return if the time is over; else raise Suspended, in a thread."""
        blocking.refuse("ctx.sleep_sync()", "await ctx.sleep()")
        self._enqueuer.drive(self._sleep(duration, name))

    def _sleep(self, duration: Duration, name: str | None) -> Flow[None]:
        """Note when the task is to wake up, at the first call; later ones find that."""
        wanted = seconds(duration, "sleep")
        if name is None:
            self._sleeps += 1
            name = f"sleep {self._sleeps}"
        self._use(name)
        now = yield from ask(question_calls.now(self._keys.steps))
        memo = yield from self._memo(name)
        if memo is None:
            due = memos.sleep(now + round(wanted * 1000))
            memo = (yield from self._store(name, due)) or due
        left = _moment(name, memo) - now
        if left > 0:
            raise Suspended(left / 1000, name)

    async def wait(self, signal: str, kind: object, timeout: Duration | None) -> object:
        """Return the next signal of this name if it has come; else raise Suspended, or SignalTimeout."""
        converter = compile_result(kind)
        return self._received(signal, converter, await self._enqueuer.adrive(self._wait(signal, timeout)))

    def wait_sync(self, signal: str, kind: object, timeout: Duration | None) -> object:
        """Return the next signal of this name, as `wait` does, in a thread."""
        blocking.refuse("ctx.wait_sync()", "await ctx.wait()")
        converter = compile_result(kind)
        return self._received(signal, converter, self._enqueuer.drive(self._wait(signal, timeout)))

    def _wait(self, signal: str, timeout: Duration | None) -> Flow[bytes]:
        limit_ms = None if timeout is None else round(seconds(timeout, "timeout") * 1000)
        number = self._waits[checked_name(signal)] = self._waits.get(signal, 0) + 1
        name = memos.wait_name(signal, number)
        self._use(name)
        value = memos.received((yield from self._memo(name)) or b"")
        if value is not None:
            return value
        task = self._task
        call = signal_calls.take(self._keys, self._worker, task.place, task.local, name, signal, limit_ms)
        taken = yield from ask(call)
        if taken.value is not None:
            return taken.value
        if taken.late:
            raise SignalTimeout(
                f"task {task.id} waited for the signal {signal!r}, which did not come in time"
            )
        if taken.left_ms is None:
            raise self._not_stored(name, taken.lost, taken.full)
        raise Suspended(FOR_EVER if taken.left_ms < 0 else taken.left_ms / 1000, name)

    def _received(self, signal: str, converter: Converter, value: bytes) -> object:
        whose = about(self._registry.name, self._task.id, signal)
        raw = self._opened(f"the value of the signal {signal!r}", value, whose, "signal").raw
        try:
            return converter.read(orjson.loads(raw))
        except (DecodeError, ValueError) as error:
            raise DecodeError(
                f"the value of the signal {signal!r} of task {self._task.id} is not what the handler waits "
                f"for: {error}",
                reason="signal",
            ) from None

    async def run_flow(self, flow: Starts, name: str | None, returns: object) -> Any:
        """Return the result of a flow that runs for this task; else raise Suspended, or FlowFailed."""
        return await self._enqueuer.adrive(self._child_flows().run(flow, name, returns))

    def run_flow_sync(self, flow: Starts, name: str | None, returns: object) -> Any:
        """Return the result of a flow, as `run_flow` does, in a thread."""
        blocking.refuse("ctx.run_flow_sync()", "await ctx.run_flow()")
        return self._enqueuer.drive(self._child_flows().run(flow, name, returns))

    def _child_flows(self) -> ChildFlows:
        from streamq.app.child_flows import ChildFlows, Memos  # noqa: PLC0415 - few handlers run a flow

        steps = Memos(self._use, self._memo, self._store, partial(self._wait, timeout=None))
        return ChildFlows(self._registry, self._enqueuer, self._task, steps)

    async def resume(
        self, source: Source[T], key: Callable[[T], object] | None, every: Duration, name: str | None,
        stops: Callable[[], bool],
    ) -> AsyncIterator[T]:  # fmt: skip
        """Yield the rows of a source behind the last one that was finished. stops: returns whether the worker
        stops, so that another one is to go on."""
        cursor = await self._enqueuer.adrive(self._cursor(source, key, every, name))
        async for row in arows(source, cursor):
            if stops():
                raise interrupted(cursor.name)
            yield row
            cursor.finish(cursor_of(row, key, cursor))
            if cursor.due:
                await self._enqueuer.adrive(self._store_cursor(cursor))
        await self.aflush()

    def resume_sync(
        self, source: SyncSource[T], key: Callable[[T], object] | None, every: Duration, name: str | None,
        stops: Callable[[], bool],
    ) -> Iterator[T]:  # fmt: skip
        """Yield the rows of a source, as `resume` does, in a thread."""
        blocking.refuse("ctx.resume_sync()", "async for row in ctx.resume()")
        cursor = self._enqueuer.drive(self._cursor(source, key, every, name))
        for row in rows(source, cursor):
            if stops():
                raise interrupted(cursor.name)
            yield row
            cursor.finish(cursor_of(row, key, cursor))
            if cursor.due:
                self._enqueuer.drive(self._store_cursor(cursor))
        self.flush()

    async def aflush(self) -> None:
        """Store the cursors that have moved. Raises LeaseLost."""
        for cursor in self._cursors:
            if cursor.moved:
                await self._enqueuer.adrive(self._store_cursor(cursor))

    def flush(self) -> None:
        """Store the cursors that have moved, in a thread. Raises LeaseLost."""
        for cursor in self._cursors:
            if cursor.moved:
                self._enqueuer.drive(self._store_cursor(cursor))

    def _cursor(self, source: object, key: object, every: Duration, name: str | None) -> Flow[Cursor]:
        check(source, key)
        interval, name = seconds(every, "every"), name or f"resume {len(self._cursors) + 1}"
        self._use(name)
        memo = yield from self._memo(name)
        value = None if memo is None else self._decoded(name, compile_result(Any), memo)
        self._cursors.append(Cursor(name, value, interval))
        return self._cursors[-1]

    def _store_cursor(self, cursor: Cursor) -> Flow[None]:
        value = self._encoded(cursor.name, compile_result(Any), cursor.value)
        cursor.stored()
        yield from self._store(cursor.name, value, again=True)

    def _memo(self, name: str) -> Flow[bytes | None]:
        if self._memos is None:
            self._memos = yield from self._all_memos()
        return self._memos.get(name)

    def _all_memos(self) -> Flow[dict[str, bytes]]:
        found, first = dict[str, bytes](), 1
        while first:
            first, some = yield from ask(step_calls.memos(self._keys, self._task.local, first))
            found |= some
        return found

    def _store(self, name: str, value: bytes, *, again: bool = False) -> Flow[bytes | None]:
        """Store a memo; return that of an earlier call where there is one. again: in place of that."""
        task = self._task
        call = step_calls.checkpoint(
            self._keys, self._worker, task.place, task.local, name, value, again=again
        )
        stored = yield from ask(call)
        if stored.lost or stored.full is not None:
            raise self._not_stored(name, stored.lost, stored.full)
        return stored.kept

    def _not_stored(self, name: str, lost: bool, full: tuple[int, int] | None) -> Exception:
        """Return the error of a memo that was not stored."""
        task = self._task
        if lost:
            return LeaseLost(
                f"step {name!r} of task {task.id}: this worker "
                "no longer holds the task, and another one runs it"
            )
        if full is not None:
            number, size = full
            return PayloadError(
                f"step {name!r} of task {task.id}: {number + 1} steps with {size:,} bytes, over the "
                f"limits of {step_calls.MOST:,} and {step_calls.MOST_BYTES:,}. Store the data elsewhere and "
                "return references"
            )
        return UsageError(
            f"{name!r} names both a step of task {task.id} and a wait for a signal: rename the step"
        )

    def _begin(self, name: str, function: Callable[..., object]) -> Converter:
        if not callable(function):
            raise UsageError(
                f"step {name!r:.80}: {function!r:.80} is not a function: pass one, followed by its arguments"
            )
        self._use(name)
        return _converter(function)

    def _use(self, name: str) -> None:
        """Note the use of a name. Raises UsageError and InvalidOption."""
        if not isinstance(name, str) or not name or len(name.encode()) > _LONGEST_NAME or "\0" in name:  # type: ignore[redundant-expr]
            raise InvalidOption(f"{name!r:.80} is not a name for a step: text of 1 to {_LONGEST_NAME} bytes")
        if name in self._used:
            raise UsageError(
                f"step {name!r} is used a second time in this attempt: each call needs a name of its own. "
                f"Add what differs, as in f'{name} {{n}}'"
            )
        self._used.add(name)

    def _encoded(self, name: str, converter: Converter, value: object) -> bytes:
        what = f"the result of step {name!r}"
        raw = sized(encode_as(converter, value, what=what), MOST_OF_ONE, what)
        raw = versioned(raw, self._version)
        pipeline = self._registry.pipeline
        return raw if pipeline is None else pipeline.seal(raw, self._about(name))

    def _about(self, name: str) -> About:
        return About(self._registry.name, self._task.type, "memo", f"{self._task.id}\0{name}")

    @property
    def _version(self) -> int:
        handler = self._registry.find(self._task.type)
        return 1 if handler is None else handler.options.version

    def _upcast(self, name: str, value: object, version: int) -> object:
        """Return a memo as this code would have stored it."""
        handler = self._registry.find(self._task.type)
        if handler is None or version == handler.options.version:
            return value
        upcasters = {step: partial(function, name) for step, function in handler.memo_upcasters.items()}
        return upcast_value(value, version, handler.options.version, upcasters, "it")

    def _decoded(self, name: str, converter: Converter, memo: bytes) -> Any:
        raw, version = self._opened(f"the memo of step {name!r}", memo, self._about(name), "memo")
        try:
            return converter.read(self._upcast(name, orjson.loads(raw), version))
        except (DecodeError, ValueError) as error:
            if version > self._version:
                raise NewerMemo(
                    f"the memo of step {name!r} of task {self._task.id} is of version {version}, and this "
                    f"code of version {self._version}: {error}", version,
                ) from None  # fmt: skip
            raise DecodeError(
                f"the memo of step {name!r} of task {self._task.id} does not fit what the step returns now: "
                f"{error}. Give a step that changes its type another name",
                reason="memo",
            ) from None

    def _opened(self, what: str, stored: bytes, about: About, reason: str) -> Versioned:
        """Return the JSON of what the task has stored. Raises NoKey and UnknownEncoding where another worker
        can read it, and DecodeError where nobody can."""
        try:
            return opened_version(stored, about)
        except (NoKey, UnknownEncoding):
            raise
        except DecodeError as error:
            found = error.reason if error.reason in ("tampered", "encoding") else reason
            raise DecodeError(
                f"{what} of task {self._task.id} cannot be read: {error}", reason=found
            ) from None


def _moment(name: str, memo: bytes) -> int:
    found = memos.wakes_at(memo)
    if found is None:
        raise DecodeError(f"the memo {name!r} was stored by a step, not by a sleep", reason="memo")
    return found


def compile_result(kind: object) -> Converter:
    """Return the converter of a type."""
    from streamq.convert.compile import result  # noqa: PLC0415 - with the first step

    return result(kind)


def _converter(function: Callable[..., object]) -> Converter:
    """Return the converter of what a function returns; untyped where it does not say."""
    try:
        return compile_result(typing.get_type_hints(function, include_extras=True).get("return", Any))
    except (NameError, TypeError):
        return compile_result(Any)

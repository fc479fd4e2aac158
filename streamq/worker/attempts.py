"""Runs one attempt: from the delivery's payload to its outcome.

Owns the call of the handler; `outcomes` decides what follows from it. Never raises: whatever a handler does
becomes an outcome. Must not know slots or write to Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final

from streamq.context import CURRENT, Context
from streamq.errors import (
    Interrupted,
    RedisError,
    Suspended,
    UnknownArguments,
)
from streamq.hooks import await_within
from streamq.model.delivery import Delivery
from streamq.model.outcome import Cancelled, Completed, Expired, HandedBack, Outcome
from streamq.payloads.blob_store import NoBlobs
from streamq.payloads.pipeline import blob_of
from streamq.payloads.stage import NoKey, UnknownEncoding
from streamq.registry.handler import Handler
from streamq.registry.registry import Registry
from streamq.resources.opened import OpenResources
from streamq.running_context import stepped, store_cursors, told
from streamq.telemetry.counters import Counters
from streamq.worker import failures
from streamq.worker.attempt import Attempt
from streamq.worker.batch_call import BatchCall, marked
from streamq.worker.blob_reading import StoredResult, arguments_of, result_of
from streamq.worker.executors import Executors
from streamq.worker.observers import Observers
from streamq.worker.outcomes import NO_RESULT, Outcomes
from streamq.worker.own_threads import in_own_thread
from streamq.worker.renewals import Renewals, StoodStill
from streamq.worker.server_clocks import ServerClocks
from streamq.worker.suspects import Isolation, Suspects, is_suspect
from streamq.worker.too_new import TooNewTasks
from streamq.worker.wrapping import managers_of

_new: Final = tuple.__new__
CURSOR_PATIENCE: Final = 2.0
"""Seconds for which the cursors of an attempt that failed are stored."""

Inputs = Callable[[Delivery], Awaitable[bytes]]
"""Returns the payload of a flow's node, with what it needs of others."""
Args = tuple[object, ...]
Kwargs = dict[str, object]


class Attempts:
    """Runs the attempts of one worker. `on_start` is called before each handler call, when the deadline is
    set. `closing`: returns whether the event loop is being closed."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it works with
        self,
        registry: Registry,
        worker: str,
        executors: Executors,
        clocks: ServerClocks,
        counters: Counters,
        observers: Observers,
        on_start: Callable[[Attempt], None],
        closing: Callable[[], bool],
        isolation: Isolation,
        opened: OpenResources,
        inputs: Inputs | None = None,
    ) -> None:
        self._handlers = registry.handlers
        self._worker = worker
        self._threads, self._processes = executors.threads, executors.processes
        self._clocks = clocks
        self._observers = observers
        self._on_start = on_start
        self._opened, self._inputs = opened, inputs
        self.too_new: TooNewTasks = TooNewTasks(worker)
        self.outcomes: Outcomes = Outcomes(
            registry, worker, clocks, counters, observers, closing, self.too_new
        )
        self._packed = self.outcomes.packed
        self._suspects = Suspects(isolation, executors.suspects, self._begin)
        self.stopping = False
        self.renewals: Renewals = Renewals()

    async def run(self, attempt: Attempt) -> Outcome | None:  # noqa: C901, PLR0911 - as its docstring says
        """Decode the payload, call the handler under its timeout, and return the outcome; None if the
        delivery is fenced. The plain case, an `async def` handler and no more, takes no further step: each
        would cost a coroutine."""
        delivery = attempt.held.delivery
        if attempt.stop is not None or self.stopping or delivery.expires_ms is not None:
            if attempt.stop == "fenced":
                return None
            if (early := self._early(attempt)) is not None:
                return early
        handler = self._handlers[delivery.type]
        if not handler.is_async or handler.is_wrapped or handler.read is not None:
            return await self._run_with_more(attempt, handler)
        if delivery.node or delivery.lost:
            return await self._run_with_more(attempt, handler)
        try:
            args, kwargs = handler.arguments(delivery.payload)
        except BaseException as error:  # noqa: BLE001 - also what a user's model raises
            return self._unread(attempt, handler, error)
        try:
            context = self._begin(attempt, handler)
            token = CURRENT.set(context)
            try:
                value = await handler.function(*args, **kwargs)
                result = b"" if value is None else handler.encode_result(value)
            finally:
                CURRENT.reset(token)
            if context._told:  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - a call less
                await _flush(attempt, handler)
        except BaseException as error:  # noqa: BLE001 - SystemExit in a handler must not end the worker
            return await self._raised(attempt, handler, error)
        if attempt.stop is not None:
            return self.outcomes.completed_late(attempt, handler, result)
        context._ended = True  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - as above
        if context._follow_ups or delivery.overrides is not None:  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
            return self.outcomes.completed(attempt, handler, result)
        if not handler.retention_ms:
            return NO_RESULT
        return _new(Completed, (self._packed(attempt, result), handler.retention_ms))

    async def _run_with_more(self, attempt: Attempt, handler: Handler) -> Outcome | None:
        """Run an attempt that takes more than the call of a coroutine function."""
        delivery, read = attempt.held.delivery, handler.read
        payload = await self._payload(attempt, handler)
        if not isinstance(payload, bytes):
            return payload
        if payload is not delivery.payload:
            delivery = delivery._replace(payload=payload)
        try:
            args, kwargs = handler.arguments(payload) if read is None else read(delivery)
        except BaseException as error:  # noqa: BLE001 - also what a user's model raises
            return self._unread(attempt, handler, error)
        try:
            if handler.options.executor == "process" or (delivery.lost and is_suspect(handler, delivery)):
                result = await self._run_in_process(attempt, handler, args, kwargs)
            else:
                result = await self._run_locally(attempt, handler, args, kwargs)
            if told(attempt.context):
                await _flush(attempt, handler)
            if read is not None and handler.blobs is not None:
                attempt.stored = await self._stored_result(attempt, handler, result)
        except BaseException as error:  # noqa: BLE001 - SystemExit in a handler must not end the worker
            return await self._raised(attempt, handler, error)
        if attempt.stop is not None:
            return self.outcomes.completed_late(attempt, handler, result)
        return self.outcomes.completed(attempt, handler, result)

    async def _payload(self, attempt: Attempt, handler: Handler) -> bytes | Outcome | None:
        """Return the payload, with what a flow's node gets of others and what is in a blob; or the outcome if
        the attempt is not to start, None if it is fenced."""
        delivery = attempt.held.delivery
        if delivery.node and not isinstance(late := await self._read_inputs(attempt, handler), bytes):
            return late
        payload = attempt.payload or delivery.payload
        if handler.read is None or handler.blobs is None:
            return payload
        try:
            if blob_of(payload) is not None:
                self._wait_for_it(attempt)
            attempt.payload = await arguments_of(handler, payload)
        except BaseException as error:  # noqa: BLE001 - whatever is in a store of blobs is input
            return self._unread(attempt, handler, error)
        late = self._early(attempt) if attempt.taken else None
        return attempt.payload if late is None else late

    async def _raised(self, attempt: Attempt, handler: Handler, error: BaseException) -> Outcome | None:
        """Return the outcome of a handler that raised. Raise the error only if the event loop has ended and
        this coroutine is being discarded."""
        if isinstance(error, GeneratorExit) and asyncio._get_running_loop() is None:  # noqa: SLF001
            raise error
        if isinstance(error, StoodStill):
            return await self._run_when_renewed(attempt)
        if attempt.context is not None:
            await _leave(attempt, attempt.context, handler, error)
        return self.outcomes.failed(attempt, handler, error)

    async def _run_when_renewed(self, attempt: Attempt) -> Outcome | None:
        """Run an attempt after the next renewal, if its delivery is still this worker's then."""
        self._wait_for_it(attempt)
        try:
            await self.renewals.wait()
        except asyncio.CancelledError:
            return None if attempt.stop == "fenced" else self._early(attempt) or HandedBack()
        return await self.run(attempt)

    async def _read_inputs(self, attempt: Attempt, handler: Handler) -> bytes | Outcome | None:
        """Read what a flow's node needs of others. Return its payload, or the outcome if it is not to
        start; None if it is fenced."""
        held = attempt.held
        if self._inputs is None:
            return held.delivery.payload
        self._wait_for_it(attempt)
        try:
            attempt.payload = await self._inputs(held.delivery)
        except (RedisError, asyncio.CancelledError):  # a later attempt reads what this one could not
            return self._early(attempt) or HandedBack()
        except Exception as error:  # noqa: BLE001 - whatever is in Redis is input
            return self._unread(attempt, handler, error)
        if held.fenced:
            return None
        return self._early(attempt) or attempt.payload

    def _wait_for_it(self, attempt: Attempt) -> None:
        """Note that an attempt waits for what it needs: it can be stopped from now on."""
        attempt.taken = time.monotonic()
        self._on_start(attempt)

    def _unread(self, attempt: Attempt, handler: Handler, error: BaseException) -> Outcome:
        """Return the outcome of a payload that cannot be read: another worker may have what it takes."""
        if isinstance(error, asyncio.CancelledError):  # while its blob was read
            return self._early(attempt) or HandedBack()
        if isinstance(error, NoKey | NoBlobs | UnknownArguments | UnknownEncoding):
            later = self.too_new.unreadable(attempt.held.delivery, error)
            if later is not None:
                return later
        return self.outcomes.unread(attempt, handler, error)

    async def _stored_result(self, attempt: Attempt, handler: Handler, result: bytes) -> StoredResult | None:
        """Return the result as it is stored; None for that of a batch, which is stored item by item, and of a
        flow's node, which the flow keeps."""
        delivery = attempt.held.delivery
        if attempt.items is not None or delivery.node:
            return None
        plain = delivery.overrides is None
        retention_ms = handler.retention_ms if plain else failures.retention_ms(handler, delivery)
        return await result_of(handler, delivery, result, retention_ms)

    def _early(self, attempt: Attempt) -> Outcome | None:
        """Return the outcome of a delivery that must not be started; None if it may start."""
        if attempt.stop == "cancel":
            return Cancelled(started=False)
        if attempt.stop == "shutdown" or self.stopping:
            return HandedBack()
        expires = attempt.held.delivery.expires_ms
        late = expires is not None and self._clocks.now_ms(attempt.held.delivery.shard) >= expires
        return Expired() if late else None

    async def _run_in_process(self, attempt: Attempt, handler: Handler, args: Args, kwargs: Kwargs) -> bytes:
        """Run a handler with executor="process", or a suspect."""
        self.renewals.check()
        self._wait_for_it(attempt)
        if handler.options.executor != "process":
            attempt.steps = True
            return await self._suspects.run(
                attempt, handler, lambda: self._run_locally(attempt, handler, args, kwargs)
            )
        child = await self._processes.acquire(handler)
        if attempt.stop is not None:
            self._processes.release(child)
            raise asyncio.CancelledError
        attempt.child, attempt.steps = child, True
        context = self._begin(attempt, handler)
        delivery = attempt.held.delivery
        if attempt.payload:
            delivery = delivery._replace(payload=attempt.payload)
        result = await self._processes.run(child, handler, delivery, context)
        attempt.steps = False  # its context says it; of a child that died nobody knows
        return result

    async def _run_locally(self, attempt: Attempt, handler: Handler, args: Args, kwargs: Kwargs) -> bytes:
        """Run a handler in the event loop or in a thread."""
        context = self._begin(attempt, handler)
        token = CURRENT.set(context)
        try:
            if handler.is_wrapped:
                if attempt.items is not None:
                    return await self._run_batch(attempt, handler, context)
                return await self._run_wrapped(handler, context, args, kwargs)
            if handler.is_async:
                value = await handler.function(*args, **kwargs)
                return b"" if value is None else handler.encode_result(value)
            return await self._threads.run(handler, args, kwargs)
        finally:
            CURRENT.reset(token)

    async def _run_wrapped(self, handler: Handler, context: Context, args: Args, kwargs: Kwargs) -> bytes:
        """Run a handler within the hooks of its app and its dependencies: async ones in the event loop, sync
        ones where the handler runs."""
        plan = handler.plan
        if not self._opened.has(plan):  # a dependency was replaced while the worker runs
            await self._opened.open([plan])
        managers = managers_of(handler, self._opened, context, kwargs)
        if handler.is_async:

            async def call() -> bytes:
                return handler.encode_result(await handler.function(*args, **kwargs))

            return await await_within(managers, call)
        outer = [one for one in managers if isinstance(one, AbstractAsyncContextManager)]
        inner = [one for one in managers if not isinstance(one, AbstractAsyncContextManager)]
        return await await_within(outer, lambda: self._threads.run(handler, args, kwargs, inner))

    async def _run_batch(self, attempt: Attempt, handler: Handler, context: Context) -> bytes:
        """Call a handler with a batch. Return the result of its first item; raise what that failed with."""
        call, began = BatchCall(handler, attempt.items or ()), self._observers.began
        for held in attempt.more if began is not None else ():
            began(held.delivery, self._clocks.now_ms(held.delivery.shard))  # type: ignore[misc]
        try:
            await self._run_wrapped(call.handler, context, (), {})
            attempt.verdicts = dict(enumerate(call.verdicts()))
        except BaseException:
            attempt.verdicts = marked(attempt.items or ())
            raise
        first = attempt.verdicts[0]
        if isinstance(first, BaseException):
            raise first
        return first

    def _begin(self, attempt: Attempt, handler: Handler) -> Context:
        """Start the attempt's clock and return its context."""
        delivery, now = attempt.held.delivery, time.monotonic()
        if now > self.renewals.until and attempt.child is None:
            raise StoodStill
        attempt.started = now
        attempt.offset = offset = self._clocks.offset(delivery.shard)
        # Most deliveries have no overrides: then the policy is read directly, which saves calls.
        plain = delivery.overrides is None
        limit = handler.options.timeout if plain else failures.timeout(handler, delivery)
        if limit is not None:
            attempt.deadline = now + limit
        self._on_start(attempt)
        if self._observers.began is not None:
            self._observers.began(delivery, self._clocks.now_ms(delivery.shard))
        attempt.context = Context(
            delivery,
            handler.options.max_attempts if plain else failures.max_attempts(handler, delivery),
            None if limit is None else now + limit + offset,
            self._worker,
            handler.home,
        )
        return attempt.context


async def _flush(attempt: Attempt, handler: Handler) -> None:
    """Send what an attempt told: a delivery that is settled can tell nothing more."""
    if handler.home is not None:
        with suppress(Exception, asyncio.CancelledError):
            await in_own_thread(handler.home.flush, attempt.held.delivery)


async def _leave(attempt: Attempt, context: Context, handler: Handler, error: BaseException) -> None:
    """Send what an attempt told that raised, and store how far its loops have come, if that does not take
    long: else rows run again."""
    if told(context) and isinstance(error, Exception | Suspended | Interrupted):
        await _flush(attempt, handler)
    if not stepped(context) or attempt.stop == "fenced":
        return
    with suppress(Exception, asyncio.CancelledError):
        async with asyncio.timeout(CURSOR_PATIENCE):
            await store_cursors(context)

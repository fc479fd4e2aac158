"""Runs the tasks of an app one after the other in the calling thread, through the scripts that workers use.

Owns fetching, running and settling a single delivery. Knows no clock but the server's. Differs from a worker
in this only: a `def` handler runs in the thread that called, so that transactions, patches and debuggers
of the test hold for it; its timeout is not enforced, as a thread cannot be stopped.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar

from streamq import envelope
from streamq.app.task_type import Coro
from streamq.calls import daemon as daemon_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.errors import DecodeError
from streamq.keys import GROUP, TypeKeys, shard_keys, type_keys
from streamq.model.delivery import Entry
from streamq.model.outcome import Completed, Died, HandedBack, Outcome, Retried, Settlement, name_of
from streamq.model.task import STREAM_LETTERS, SUSPECT
from streamq.payloads.pipeline import opened
from streamq.payloads.stage import MOST_OF_RESULT, About
from streamq.registry.handler import Handler
from streamq.registry.registry import Registry
from streamq.resources.opened import OpenResources
from streamq.running_context import stepped, told
from streamq.stored_result import unpack_result
from streamq.telemetry.counters import Counters
from streamq.testing.due import Due
from streamq.transport.sync_transport import SyncTransport
from streamq.transport.writer import Writer
from streamq.worker.attempt import Attempt
from streamq.worker.attempts import Args, Attempts, Kwargs
from streamq.worker.executors import Executors, Processes, Threads, call_handler
from streamq.worker.in_flight import Held
from streamq.worker.listeners import Listeners
from streamq.worker.observers import Observers
from streamq.worker.server_clocks import ServerClocks

R = TypeVar("R")
CONSUMER: Final = "streamq-testing"
_READING_ORDER: Final = (SUSPECT, *(letter for letter in STREAM_LETTERS if letter != SUSPECT))
_LONG_AGO_MS: Final = 10**8
"""A lease is shorter: a delivery that has been silent for so long is reclaimed."""


@dataclass(frozen=True, slots=True)
class EndedTask:
    """A task that ended, as a test asserts on it.

    state: completed, dead, cancelled or expired. attempts: how many there were. result: the handler's return
    value as a caller of `result()` gets it; None if it was not kept. error: what the last attempt raised.
    """

    id: str
    type: str
    state: str
    attempts: int
    result: object = None
    error: BaseException | None = None


class InCallersThread(Threads):
    """Runs `def` handlers in the thread that asks for it."""

    def __init__(self) -> None:
        self.stuck: int = 0

    async def run(
        self,
        handler: Handler,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        within: Iterable[AbstractContextManager[object]] = (),
    ) -> bytes:
        """Run a handler here, within context managers."""
        return contextvars.copy_context().run(call_handler, handler, args, kwargs, within)

    def close(self) -> None:
        """Do nothing: there are no threads."""


class _Attempts(Attempts):
    """Attempts of which none needs a process of its own: a child would not see the test's transaction."""

    async def _run_in_process(self, attempt: Attempt, handler: Handler, args: Args, kwargs: Kwargs) -> bytes:
        return await self._run_locally(attempt, handler, args, kwargs)


class _Alone:
    """What else runs beside an attempt: nothing."""

    def run_alone(self, attempt: Attempt) -> None:
        """Do nothing."""

    def others_running(self, attempt: Attempt) -> int:  # noqa: ARG002 - as the protocol says
        """Return 0."""
        return 0


class Runner:
    """Of one app on one server. in_threads: run `def` handlers in threads, as a worker does: for event loops,
    which a handler must not block."""

    def __init__(
        self, registry: Registry, transport: SyncTransport, due: Due, *, in_threads: bool = False
    ) -> None:
        self._registry, self._transport, self._due = registry, transport, due
        self.app: str = registry.name
        self._clocks = ServerClocks()
        self._opened = OpenResources(registry.resources)
        self._loop: asyncio.Runner | None = None
        self._threads = Threads(4) if in_threads else InCallersThread()
        self._listeners = Listeners(registry.hooks.listeners, CONSUMER, in_threads=in_threads)
        observers = Observers(
            [self._listeners, *registry.hooks.all], self._clocks, lambda _held, _outcome: None, CONSUMER
        )
        self._finish, self._observers = observers.finisher(), observers
        self._attempts = _Attempts(
            registry,
            CONSUMER,
            Executors(self._threads, Processes(1), None),
            self._clocks,
            Counters(),
            observers,
            on_start=lambda _attempt: None,
            closing=lambda: False,
            isolation=_Alone(),
            opened=self._opened,
            inputs=due.flows.payload,
        )
        self._writers: dict[tuple[str, int], Writer] = {}
        self._turn = count()

    def take(self) -> Held | None:
        """Take the next ready task; None if there is none. One that nobody can read becomes a dead letter."""
        while True:
            found = self._fetch()
            if found is None:
                return None
            t, entry = found
            try:
                return Held(envelope.decode(t.type, t.shard, entry))
            except DecodeError as error:
                self._bury(t, entry, error)

    def _fetch(self) -> tuple[TypeKeys, Entry] | None:
        lines, turn = self._due.lines(), next(self._turn)
        start = turn % max(1, len(lines))
        shards: dict[int, list[TypeKeys]] = {}
        for t in (*lines[start:], *lines[:start]):
            shards.setdefault(t.shard, []).append(t)
        for shard, types in shards.items():
            sources = [worker_calls.Source(t, letter, 1) for letter in _READING_ORDER for t in types]
            now_ms, found = self._transport.run(worker_calls.fetch(CONSUMER, 1, sources))
            self._clocks.set(shard, now_ms)
            for source, entries in found:
                for entry in entries:
                    return source.keys, entry
        return None

    def _bury(self, t: TypeKeys, entry: Entry, error: DecodeError) -> None:
        failures = envelope.add_failure(
            b"", attempt=0, at_ms=self._clocks.now_ms(t.shard), worker=CONSUMER, error="DecodeError",
            message=str(error), traceback="",
        )  # fmt: skip
        place = entry.letter + entry.entry
        self._send(t, Settlement(place, place, Died(error.reason, failures, started=False)))

    def run(self, held: Held) -> Outcome:
        """Run one delivery in this thread; an `async def` handler in an event loop of its own."""
        handler = self._registry.handlers[held.delivery.type]
        attempt = Attempt(held)
        if handler.is_async or handler.is_wrapped:
            return self._ended(attempt, self._in_loop(self._timed(attempt)))
        return self._ended(attempt, _carried_out(self._attempts.run(attempt)))

    def _in_loop(self, coroutine: Coro[R]) -> R:
        """Run a coroutine in the one event loop of this runner, in which the app's lifespan runs too."""
        if self._loop is None:
            self._loop = asyncio.Runner()
        return self._loop.run(coroutine, context=contextvars.copy_context())

    async def arun(self, held: Held) -> Outcome:
        """Run one delivery in the event loop that runs now."""
        attempt = Attempt(held)
        return self._ended(attempt, await self._timed(attempt))

    async def _timed(self, attempt: Attempt) -> Outcome | None:
        """Run an attempt, cut short at its timeout."""
        running = asyncio.ensure_future(self._attempts.run(attempt))
        while not running.done():
            limit = None if attempt.deadline is None else attempt.deadline - asyncio.get_running_loop().time()
            if limit is not None and limit <= 0 and attempt.stop is None:
                attempt.stop = "timeout"
                running.cancel()
            await asyncio.wait([running], timeout=0.05 if limit is None else max(0.0, limit))
        return running.result()

    def _ended(self, attempt: Attempt, outcome: Outcome | None) -> Outcome:
        decided, context = HandedBack() if outcome is None else outcome, attempt.context
        if context is not None and stepped(context):
            attempt.note_steps()
        home = self._registry.handlers[attempt.held.delivery.type].home
        if told(context) and home is not None:
            home.flush(attempt.held.delivery)
        self._finish(attempt.held, decided, attempt.started)
        return decided

    def tell(self) -> None:
        """Tell the app's listeners, `def` ones in this thread."""
        if self._listeners.waits:
            self._in_loop(self._listeners.tell())

    async def atell(self) -> None:
        """Tell the app's listeners in the event loop of the test."""
        await self._listeners.tell()

    def settle(self, held: Held, outcome: Outcome) -> EndedTask | None:
        """Settle a delivery. Return how its task ended; None if it runs again, or was no longer ours."""
        delivery = held.delivery
        t = type_keys(self.app, delivery.shard, delivery.type)
        settlement = Settlement(
            delivery.place, delivery.local, outcome, delivery.claims != b"", held.effects, delivery.claims
        )
        if not self._send(t, settlement):
            return None
        self._observers.attempt_stored(held, outcome)
        if isinstance(outcome, Retried | HandedBack):
            return None
        return EndedTask(
            str(delivery.id), delivery.type, name_of(outcome), delivery.attempt,
            self._result(held, outcome), held.failed.error if held.failed is not None else None,
        )  # fmt: skip

    def _result(self, held: Held, outcome: Outcome) -> object:
        if not isinstance(outcome, Completed):
            return None
        raw, _ = unpack_result(held.delivery.local, outcome.result)
        about = About(self.app, held.delivery.type, "result", str(held.delivery.id), MOST_OF_RESULT)
        return self._registry.handlers[held.delivery.type].decode_result(opened(raw, about))

    def _send(self, t: TypeKeys, settlement: Settlement) -> bool:
        writer = self._writers.setdefault((t.type, t.shard), Writer())
        call = worker_calls.settle(t, shard_keys(t.app, t.shard), writer.id, writer.next(), [settlement])
        [ours] = self._transport.run(call)
        return ours

    def lose(self, held: Held) -> None:
        """Let a delivery look as if its worker had died, and have the task reclaimed."""
        delivery = held.delivery
        t = type_keys(self.app, delivery.shard, delivery.type)
        stream, entry = t.stream(delivery.place[0]), delivery.place[1:]
        silent = ("XCLAIM", stream, GROUP, CONSUMER, 0, entry, "IDLE", _LONG_AGO_MS, "JUSTID")
        self._transport.run(Call(None, (stream,), silent, lambda reply: reply))
        s, letter = shard_keys(t.app, t.shard), delivery.place[0]
        self._transport.run(daemon_calls.reclaim(t, s, letter, "0-0", 100, 0))

    def close(self) -> None:
        """End the lifespan, the event loop and the threads, where there are any."""
        if self._loop is not None:
            with self._loop:
                self._in_loop(self._opened.close())
        self._threads.close()

    async def aclose(self) -> None:
        """End the lifespan in the event loop of the test, and the threads."""
        await self._opened.close()
        self._threads.close()


def _carried_out(coroutine: Coro[R]) -> R:
    """Run a coroutine that waits for nothing, without an event loop: a handler may ask whether one runs."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    coroutine.close()
    raise RuntimeError("an attempt of a plain function waited for an event loop")

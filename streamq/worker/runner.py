"""The slots: a pool of coroutines that run one attempt after the other, under their timeouts.

Owns the slots and the room for further tasks. Never raises. Must not write to Redis: each outcome goes to a
callable. Reads the monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, cast

from streamq.model.delivery import Delivery
from streamq.model.outcome import Cancelled, HandedBack, Outcome
from streamq.registry.handler import Handler
from streamq.registry.registry import Registry
from streamq.resources.opened import OpenResources
from streamq.running_context import drain
from streamq.telemetry import logs
from streamq.telemetry.counters import Counters
from streamq.worker import failures
from streamq.worker.attempt import Attempt
from streamq.worker.attempts import Attempts, Inputs
from streamq.worker.batches import Batches
from streamq.worker.executors import Executors
from streamq.worker.idle_slots import IdleSlots
from streamq.worker.in_flight import Held
from streamq.worker.local_limits import LocalLimits
from streamq.worker.observers import Observers
from streamq.worker.prefetch import MAX_AHEAD, Prefetch
from streamq.worker.running_attempts import RunningAttempts
from streamq.worker.server_clocks import ServerClocks

LONGEST_TURN: Final = 0.005
"""Seconds for which a slot runs handlers that never await before it yields to the event loop."""
WORTH_A_FETCH: Final = 200
"""Room for this many tasks justifies a fetch, even while others still wait for a slot."""


class Runner:
    """Runs deliveries in as many slots as its limits have, in one event loop. An `Isolation` for suspects.

    on_idle: called when a slot has nothing to run. closing: returns whether the event loop is being closed.
    types: those that it runs, if not all.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a worker
        self, registry: Registry, worker: str, limits: LocalLimits, executors: Executors,
        clocks: ServerClocks, counters: Counters, observers: Observers, on_idle: Callable[[], None],
        opened: OpenResources, closing: Callable[[], bool] = lambda: False, types: Sequence[str] = (),
        inputs: Inputs | None = None,
    ) -> None:  # fmt: skip
        self._handlers = registry.handlers
        self._concurrency = limits.concurrency
        self._executors = executors
        self.clocks: ServerClocks = clocks
        self.counters: Counters = counters
        self._finish = observers.finisher()
        self._on_idle = on_idle
        self._running = RunningAttempts(self._write_off)
        served = [registry.handlers[name] for name in types or registry.handlers]
        self._served = len(served)
        self._batched = [one for one in served if one.options.batch is not None]
        self.attempts: Attempts = Attempts(
            registry, worker, executors, clocks, counters, observers,
            self._started if self._batched else self._running.add, closing, self, opened, inputs,
        )  # fmt: skip
        self._outcomes = self.attempts.outcomes
        self._observers = observers
        self._prefetch = Prefetch()
        self._queue: deque[Attempt] = deque()
        self._idle_slots = IdleSlots(self._queue)
        self._batches = Batches(
            self._put_attempt, lambda name: sum(one.held.delivery.type == name for one in self._queue)
        )
        self._slots: set[asyncio.Task[None]] = set()
        self._alone: Attempt | None = None
        self._process_tasks: Counter[str] = Counter()
        self._limits, self._limited = limits, limits.limited
        self._is_limited = bool(self._limited) or any(one.options.executor == "process" for one in served)
        self._base = contextvars.copy_context()
        self._closed = False
        self._log = logs.get_logger(worker=worker)

    # -- state ---------------------------------------------------------------------------------------

    def room(self) -> int:
        """Return how many tasks may be fetched now: the free slots, plus a prefetch if handlers are short.
        Return 0 while the slots have enough to do and the room does not justify a round trip, and while a
        suspect must run alone."""
        if self._alone is not None:
            return 0
        if not self._batched:
            return self._plain_room()
        return max(0, self._plain_room()) + sum(map(self._batches.room_for, self._batched))

    def _plain_room(self) -> int:
        waiting, ahead = len(self._queue), self._prefetch.ahead
        taken = len(self._running) + self._executors.threads.stuck + waiting
        room = self._concurrency + ahead - taken
        return 0 if 2 * waiting > ahead and room < min(WORTH_A_FETCH, ahead // 2) else room

    def room_for(self, handler: Handler) -> int:
        """Return the most tasks of this type to fetch at once."""
        if self._batched:  # the room of batches is for their tasks only
            if handler.options.batch is not None:
                return self._batches.room_for(handler)
            share = -(-max(0, self._plain_room()) // max(1, self._served - len(self._batched)))
            if not share or (handler.options.executor != "process" and handler.name not in self._limited):
                return share
        room = self._concurrency + MAX_AHEAD
        if handler.options.executor == "process":
            # One more than there are processes, so that a process need not wait for a fetch.
            room = max(0, self._executors.processes.size + 1 - self._process_tasks[handler.name])
        return min(room, self._limits.room(handler.name)) if handler.name in self._limited else room

    @property
    def worn_out(self) -> bool:
        """Return whether stuck handlers occupy all slots, so that the process should be replaced."""
        return len(self._running.written_off) + self._executors.threads.stuck >= self._concurrency

    def running(self) -> list[Attempt]:
        """Return a copy of the running attempts, oldest first. May be called from another thread."""
        return self._running.oldest_first()

    def others_running(self, attempt: Attempt) -> int:
        """Return how many other handlers run."""
        return self._running.others(attempt)

    @property
    def is_alone(self) -> bool:
        """Return whether a suspect must run alone, so that nothing may be fetched."""
        return self._alone is not None

    @property
    def idle(self) -> bool:
        """Return whether no attempt runs or waits for a slot."""
        return not self._running.attempts and not self._queue and self._batches.empty

    # -- commands ------------------------------------------------------------------------------------

    def put(self, deliveries: list[Held]) -> None:
        """Run these deliveries, all of one task type, as soon as slots are free. Those that the type's limits
        in this process leave no room for are handed back: they came from several shards or types at once."""
        if self.idle:
            self._prefetch.begin()
        if self._batched and deliveries:
            handler = self._handlers[deliveries[0].delivery.type]
            if handler.options.batch is not None:
                self._batches.put(handler, deliveries)
                return
        if deliveries and deliveries[0].delivery.type in self._limited:
            deliveries = self._within_limits(deliveries)
        self._queue.extend(map(Attempt, deliveries))
        if deliveries and self._handlers[deliveries[0].delivery.type].options.executor == "process":
            self._process_tasks[deliveries[0].delivery.type] += len(deliveries)
        self._idle_slots.wake()

    def _within_limits(self, deliveries: list[Held]) -> list[Held]:
        taken: list[Held] = []
        for held in deliveries:
            if self._limits.take(held.delivery.type):
                taken.append(held)
            else:
                held.done = True
                self._finish(held, HandedBack(), None)
        return taken

    def _started(self, attempt: Attempt) -> None:
        """Note that an attempt starts; a batch that does not wait any more leaves room for the next."""
        self._running.add(attempt)
        if attempt.items is not None:
            self._on_idle()

    def _put_attempt(self, attempt: Attempt) -> None:
        """Run an attempt, of a batch, as soon as a slot is free."""
        self._queue.append(attempt)
        self._idle_slots.wake()

    def fence(self, held: Held) -> None:
        """Mark a delivery as fenced, and stop its attempt unless the attempt runs other deliveries."""
        held.fenced = True
        for one in self._batches.take(lambda delivery: delivery is held.delivery):
            self._end(Attempt(one), None)
        attempt = self._attempt_of(held)
        if attempt is not None and all(one.fenced or one.done for one in attempt.all):
            self._running.stop(attempt, "fenced")

    def cancel(self, held: Held) -> None:
        """Cancel a task. An attempt that runs several deliveries continues."""
        for one in self._batches.take(lambda delivery: delivery is held.delivery):
            self._end(Attempt(one), Cancelled(started=False))
        attempt = self._attempt_of(held)
        if attempt is not None and not attempt.more:
            self._running.stop(attempt, "cancel")

    def _attempt_of(self, held: Held) -> Attempt | None:
        """Return the attempt of a delivery. It is searched for, which is rare: a reference in each delivery
        would create a reference cycle per task."""
        if held.done:
            return None
        return next((one for one in (*self._running.attempts, *self._queue) if held in one.all), None)

    def hand_back_queued(self, which: Callable[[Delivery], bool] = lambda _: True) -> None:
        """Hand back the deliveries that wait for a slot."""
        for attempt in [attempt for attempt in self._queue if which(attempt.held.delivery)]:
            self._queue.remove(attempt)
            self._end(attempt, HandedBack())
        for held in self._batches.take(which):
            self._end(Attempt(held), HandedBack())

    def begin_drain(self) -> None:
        """Start nothing more, hand back what waits, and tell running handlers: some can go on elsewhere."""
        self.attempts.stopping = True
        self.hand_back_queued()
        for attempt in self.running():
            if attempt.context is not None:
                drain(attempt.context)

    def run_alone(self, attempt: Attempt) -> None:
        """Start nothing else until this attempt has ended."""
        self._alone = attempt
        self.hand_back_queued()

    def stop_all(self) -> None:
        """Stop all running attempts; their deliveries are handed back."""
        for attempt in self.running():
            self._running.stop(attempt, "shutdown")

    def close(self) -> None:
        """End the slots and the executors. Threads that run handlers cannot be stopped."""
        self._closed = True
        self._running.close()
        for slot in self._slots:
            slot.cancel()
        self._executors.close()

    async def ended(self) -> None:
        """Wait up to a second until the slots have ended; handlers that do not end are not waited for."""
        if self._slots:
            await asyncio.wait(list(self._slots), timeout=1.0)

    async def children_ended(self) -> None:
        """Wait until child processes have closed what they keep open."""
        await self._executors.ended()

    # -- slots ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the slots."""
        for _ in range(self._concurrency):
            self._spawn()

    def _spawn(self) -> None:
        if self._closed:
            return
        context = self._base.copy()
        slot = asyncio.get_running_loop().create_task(self._slot(), context=context)
        self._slots.add(slot)
        slot.add_done_callback(self._slot_ended)

    def _slot_ended(self, slot: asyncio.Task[None]) -> None:
        """Log and replace a slot that failed because of an error in streamq."""
        self._slots.discard(slot)
        if slot.cancelled() or (error := slot.exception()) is None:
            return
        with suppress(BaseException):  # a log that raises must not end a slot
            self._log.error("slot.failed", error=failures.class_name(error), exc_info=error)
        for attempt in [attempt for attempt in self._running.attempts if attempt.slot is slot]:
            self._running.remove(attempt)
            self._end(attempt, self._outcomes.internal_error(attempt, error))
        self._spawn()

    def _internal_error(self, attempt: Attempt, error: BaseException) -> Outcome | None:
        """Log an error in streamq that ended an attempt, and return the outcome."""
        with suppress(BaseException):  # a log that raises must not end a slot
            task = str(attempt.held.delivery.id)
            self._log.error("slot.failed", task=task, error=failures.class_name(error), exc_info=error)
        return self._outcomes.internal_error(attempt, error)

    async def _slot(self) -> None:
        """Run one attempt after the other. The coroutine is reused, because a new asyncio task per attempt
        costs more than a short handler. If a handler has set context variables, the slot is replaced."""
        slot, queue = cast("asyncio.Task[None]", asyncio.current_task()), self._queue
        running, written_off = self._running.attempts, self._running.written_off
        run = self._run_within if self._observers.is_around else self.attempts.run
        cancelling, end = slot.cancelling, self._end
        resumed = time.monotonic()
        while True:
            while not queue:
                self._prefetch.measure()
                self._on_idle()
                await self._idle_slots.sleep()
                resumed = time.monotonic()
            attempt = queue.popleft()
            attempt.slot = slot
            try:
                outcome = await run(attempt)
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - every delivery needs an outcome
                outcome = self._internal_error(attempt, error)
            running.discard(attempt)
            if written_off:
                written_off.discard(attempt)
            end(attempt, outcome)
            if self._context_changed() or cancelling():
                self._spawn()
                return
            if attempt.started is not None and attempt.started - resumed > LONGEST_TURN:
                await asyncio.sleep(0)
                resumed = time.monotonic()

    async def _run_within(self, attempt: Attempt) -> Outcome | None:
        """Run an attempt within the hooks around a delivery, which also cover its settlement."""
        with self._observers.around(attempt.held.delivery):
            try:
                outcome = await self.attempts.run(attempt)
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - every delivery needs an outcome
                outcome = self._internal_error(attempt, error)
            self._end(attempt, outcome)
        return outcome

    def _context_changed(self) -> bool:
        """Return whether the handler has set context variables, which the next handler must not see."""
        try:
            return contextvars.copy_context() != self._base
        except BaseException:  # noqa: BLE001 - a handler's value may raise when it is compared
            return True

    def _end(self, attempt: Attempt, outcome: Outcome | None) -> None:
        if attempt.ended:
            return
        attempt.ended = True
        if self._alone is attempt:
            self._alone = None
        self._prefetch.ended += 1
        context, held = attempt.context, attempt.held
        if attempt.steps or (context is not None and context._steps is not None):  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - a call less
            attempt.note_steps()
        self._end_one(held, outcome, attempt.started)
        if attempt.more:
            for held in attempt.more:
                self._end_one(held, self._outcomes.outcome_for(attempt, held, outcome), attempt.started)

    def _end_one(self, held: Held, outcome: Outcome | None, started: float | None) -> None:
        held.done = True
        if self._is_limited:
            self._give_back(held.delivery.type)
        self._finish(held, None if held.fenced else outcome, started)

    def _give_back(self, task_type: str) -> None:
        """Make room for another task of this type, if the type has limits in this process."""
        if task_type in self._process_tasks:
            self._process_tasks[task_type] -= 1
        if task_type in self._limited:
            self._limits.give(task_type)

    def _write_off(self, attempt: Attempt) -> None:
        """Settle the attempt of a handler that ignores its cancellation."""
        handler = self._handlers[attempt.held.delivery.type]
        self._log.error("task.will_not_stop", task=str(attempt.held.delivery.id), why=attempt.stop)
        self._end(attempt, self._outcomes.failed(attempt, handler, asyncio.CancelledError()))

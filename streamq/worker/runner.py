"""The slots: a pool of coroutines that run one attempt after the other, under their timeouts.

Owns the slots and how many tasks there is room for. It never raises and has nothing to write with: it hands
each outcome to a callable. Reads the monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from streamq.model.delivery import Delivery
from streamq.model.outcome import HandedBack, Outcome
from streamq.registry.handler import Handler
from streamq.registry.registry import Registry
from streamq.telemetry import logs
from streamq.telemetry.counters import Counters
from streamq.worker import failures
from streamq.worker.attempt import Attempt
from streamq.worker.attempts import Attempts
from streamq.worker.executors import Executors
from streamq.worker.idle_slots import IdleSlots
from streamq.worker.in_flight import Held
from streamq.worker.observers import Observers
from streamq.worker.prefetch import MOST_AHEAD, Prefetch
from streamq.worker.running_attempts import RunningAttempts
from streamq.worker.server_clocks import ServerClocks

SHORT: Final = 0.005
"""Seconds for which a slot runs handlers that never wait before the event loop gets a turn."""
WORTH: Final = 200
"""Room for so many tasks is worth a fetch, even while others still wait for a slot."""


class Runner:
    """Runs deliveries in `concurrency` slots. Lives in one event loop.

    hungry: told where a slot has nothing to do. closing: whether the event loop itself is ended.
    """

    def __init__(
        self,
        registry: Registry,
        worker: str,
        concurrency: int,
        executors: Executors,
        clocks: ServerClocks,
        counters: Counters,
        observers: Observers,
        hungry: Callable[[], None],
        closing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._handlers = registry.handlers
        self._concurrency = concurrency
        self._executors = executors
        self.clocks: ServerClocks = clocks
        self.counters: Counters = counters
        self._finish = observers.finisher()
        self._hungry = hungry
        self._running = RunningAttempts(self._write_off)
        self.attempts: Attempts = Attempts(
            registry, worker, executors, clocks, counters, observers, self._running.add, closing, self
        )
        self._observers = observers
        self._prefetch = Prefetch()
        self._queue: deque[Attempt] = deque()
        self._idle_slots = IdleSlots(self._queue)
        self._slots: set[asyncio.Task[None]] = set()
        self._alone: Attempt | None = None
        self._for_processes: Counter[str] = Counter()
        self._base = contextvars.copy_context()
        self._closed = False
        self._log = logs.get_logger(worker=worker)

    # -- what others ask -----------------------------------------------------------------------------

    def room(self) -> int:
        """How many tasks may be fetched now: free slots, and a little more while tasks are short. None while
        the slots have enough to do and there is less room than a round trip is worth; nor beside a suspect
        that is to be alone."""
        if self._alone is not None:
            return 0
        waiting, ahead = len(self._queue), self._prefetch.ahead
        taken = len(self._running) + self._executors.threads.stuck + waiting
        room = self._concurrency + ahead - taken
        return 0 if 2 * waiting > ahead and room < min(WORTH, ahead // 2) else room

    def room_for(self, handler: Handler) -> int:
        """The most tasks of this type to fetch at once."""
        if handler.options.executor != "process":
            return self._concurrency + MOST_AHEAD
        # One more than there are processes, so that none waits for a fetch.
        return max(0, self._executors.processes.size + 1 - self._for_processes[handler.name])

    @property
    def worn_out(self) -> bool:
        """Whether so many handlers could not be stopped that this process should be replaced."""
        return len(self._running.written_off) + self._executors.threads.stuck >= self._concurrency

    def running(self) -> list[Attempt]:
        """A copy of what runs, oldest first; may be called from another thread."""
        return self._running.oldest_first()

    def others(self, attempt: Attempt) -> int:
        """How many handlers run beside this one."""
        return self._running.others(attempt)

    @property
    def is_alone(self) -> bool:
        """Whether nothing may be taken, since a suspect is to run alone."""
        return self._alone is not None

    @property
    def idle(self) -> bool:
        return not self._running.attempts and not self._queue

    # -- what others tell ----------------------------------------------------------------------------

    def put(self, deliveries: list[Held]) -> None:
        """Run these, all of one task type, as soon as slots are free."""
        if self.idle:
            self._prefetch.begin()
        self._queue.extend(map(Attempt, deliveries))
        if deliveries and self._handlers[deliveries[0].delivery.type].options.executor == "process":
            self._for_processes[deliveries[0].delivery.type] += len(deliveries)
        self._idle_slots.wake()

    def fence(self, held: Held) -> None:
        """The server does not know this delivery any more, as ours: nothing is settled of it."""
        held.fenced = True
        attempt = self._attempt_of(held)
        if attempt is not None and all(one.fenced or one.done for one in attempt.all):
            self._running.stop(attempt, "fenced")

    def cancel(self, held: Held) -> None:
        """Somebody cancelled this task. An attempt that runs others as well goes on."""
        attempt = self._attempt_of(held)
        if attempt is not None and not attempt.more:
            self._running.stop(attempt, "cancel")

    def _attempt_of(self, held: Held) -> Attempt | None:
        """Looked for, as that is rare: a reference to it in each would make a circle of garbage a task."""
        if held.done:
            return None
        return next((one for one in (*self._running.attempts, *self._queue) if held in one.all), None)

    def hand_back_queued(self, which: Callable[[Delivery], bool] = lambda _: True) -> None:
        """Give back what has not been started."""
        for attempt in [attempt for attempt in self._queue if which(attempt.held.delivery)]:
            self._queue.remove(attempt)
            self._end(attempt, HandedBack())

    def alone(self, attempt: Attempt) -> None:
        """Take nothing else until this one has ended."""
        self._alone = attempt
        self.hand_back_queued()

    def stop_all(self) -> None:
        """Cut everything short that runs, to be handed back."""
        for attempt in self.running():
            self._running.stop(attempt, "shutdown")

    def close(self) -> None:
        """End the slots and the executors. Threads that run handlers cannot be ended."""
        self._closed = True
        self._running.close()
        for slot in self._slots:
            slot.cancel()
        self._executors.close()

    async def ended(self) -> None:
        """Wait until the slots have ended, but for handlers that do not end."""
        if self._slots:
            await asyncio.wait(list(self._slots), timeout=1.0)

    # -- slots ---------------------------------------------------------------------------------------

    def start(self) -> None:
        for _ in range(self._concurrency):
            self._spawn()

    def _spawn(self) -> None:
        if self._closed:
            return
        context = self._base.copy()
        slot = asyncio.get_running_loop().create_task(self._slot(), context=context)
        self._slots.add(slot)
        slot.add_done_callback(self._over)

    def _over(self, slot: asyncio.Task[None]) -> None:
        """A slot has ended. One that failed, which is a fault of ours, is told of and replaced."""
        self._slots.discard(slot)
        if slot.cancelled() or (error := slot.exception()) is None:
            return
        with suppress(BaseException):  # a log that raises ends no slot
            self._log.error("slot.failed", error=failures.name(error), exc_info=error)
        for attempt in [attempt for attempt in self._running.attempts if attempt.slot is slot]:
            self._running.remove(attempt)
            self._end(attempt, self.attempts.unforeseen(attempt, error))
        self._spawn()

    def _unforeseen(self, attempt: Attempt, error: BaseException) -> Outcome | None:
        """The outcome of an attempt where a fault of ours ended it."""
        with suppress(BaseException):  # a log that raises ends no slot
            task = str(attempt.held.delivery.id)
            self._log.error("slot.failed", task=task, error=failures.name(error), exc_info=error)
        return self.attempts.unforeseen(attempt, error)

    async def _slot(self) -> None:
        """Run one delivery after the other. A coroutine is kept, since a new asyncio task for each
        would cost more than a short handler; one whose handler has set context variables is replaced."""
        me, attempts = asyncio.current_task(), self.attempts
        running, written_off = self._running.attempts, self._running.written_off
        run = self._run_within if self._observers.is_around else attempts.run
        resumed = time.monotonic()
        while True:
            while not self._queue:
                self._prefetch.measure()
                self._hungry()
                await self._idle_slots.sleep()
                resumed = time.monotonic()
            attempt = self._queue.popleft()
            attempt.slot = me
            try:
                outcome = await run(attempt)
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it is, the delivery has an outcome
                outcome = self._unforeseen(attempt, error)
            running.discard(attempt)
            if written_off:
                written_off.discard(attempt)
            self._end(attempt, outcome)
            if self._soiled() or (me is not None and me.cancelling()):
                self._spawn()
                return
            if attempt.started is not None and attempt.started - resumed > SHORT:
                await asyncio.sleep(0)
                resumed = time.monotonic()

    async def _run_within(self, attempt: Attempt) -> Outcome | None:
        """An attempt within the hooks around a delivery, in which its end is told as well."""
        with self._observers.around(attempt.held.delivery):
            try:
                outcome = await self.attempts.run(attempt)
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - as in a slot
                outcome = self._unforeseen(attempt, error)
            self._end(attempt, outcome)
        return outcome

    def _soiled(self) -> bool:
        """Whether the handler has left context variables behind that the next must not see."""
        try:
            return contextvars.copy_context() != self._base
        except BaseException:  # noqa: BLE001 - a value that cannot be compared is no value of ours
            return True

    def _end(self, attempt: Attempt, outcome: Outcome | None) -> None:
        if attempt.ended:
            return
        attempt.ended = True
        if self._alone is attempt:
            self._alone = None
        self._prefetch.ended += 1
        self._end_one(attempt.held, outcome, attempt.started)
        if attempt.more:
            for held in attempt.more:
                self._end_one(held, self.attempts.of_another(attempt, held, outcome), attempt.started)

    def _end_one(self, held: Held, outcome: Outcome | None, started: float | None) -> None:
        held.done = True
        if self._for_processes and held.delivery.type in self._for_processes:
            self._for_processes[held.delivery.type] -= 1
        self._finish(held, None if held.fenced else outcome, started)

    def _write_off(self, attempt: Attempt) -> None:
        """Decide for a handler that does not end although it was told to."""
        handler = self._handlers[attempt.held.delivery.type]
        self._log.error("task.will_not_stop", task=str(attempt.held.delivery.id), why=attempt.stop)
        self._end(attempt, self.attempts.failed(attempt, handler, asyncio.CancelledError()))

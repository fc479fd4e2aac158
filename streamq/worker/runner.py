"""The slots: a pool of coroutines that run one attempt after the other, under their timeouts.

Owns the slots, how many tasks there is room for, the deadlines and the way an attempt is cut short. It never
raises and has nothing to write with: it hands each outcome to a callable. Reads the monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from streamq import telemetry
from streamq.app import Handler, Registry
from streamq.model import Delivery, HandedBack, Outcome
from streamq.telemetry.sums import Sums
from streamq.worker import stacks, verdict
from streamq.worker.attempts import Attempts
from streamq.worker.clocks import Clocks
from streamq.worker.executors import Processes, Threads
from streamq.worker.holdings import Held, Stop

GRACE: Final = 5.0
"""Seconds that a handler gets to end after it was told to; then its slot is written off."""
SHORT: Final = 0.005
"""Seconds for which a slot runs handlers that never wait before the event loop gets a turn."""
AHEAD: Final = 0.05
"""Seconds of work that are fetched ahead, so that a slot which is freed finds a task while the next ones
are under way; a task of an otherwise idle queue waits no longer than that for a slot of another worker."""
MOST_AHEAD: Final = 1000
WORTH: Final = 200
"""Room for so many tasks is worth a fetch, even while others still wait for a slot."""
_REMEMBERED: Final = 0.1
"""Seconds of busy time after which what was measured before counts half."""


class Runner:
    """Runs deliveries in `concurrency` slots. Lives in one event loop."""

    def __init__(
        self,
        registry: Registry,
        worker: str,
        concurrency: int,
        process_slots: int | None,
        finished: Callable[[Held, Outcome], None],
        hungry: Callable[[], None],
        sums: Sums,
        closing: Callable[[], bool] = lambda: False,
        *,
        apart: bool = False,
    ) -> None:
        self._registry = registry
        self.sums = sums
        self._tracer = registry.tracer
        self._worker = worker
        self._concurrency = concurrency
        self._finished = finished
        self._hungry = hungry
        self._queue: deque[Held] = deque()
        self._sleeping: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._slots: set[asyncio.Task[None]] = set()
        self._running: set[Held] = set()
        self._written_off: set[Held] = set()
        self._threads = Threads(concurrency)
        self._processes = Processes(process_slots, registry.tracer)
        self._apart = Processes(1, registry.tracer) if apart else None
        self._alone: Held | None = None
        self.clocks = Clocks()
        self.attempts = Attempts(
            registry,
            worker,
            self._threads,
            self._processes,
            self.clocks,
            sums,
            self._taken,
            closing,
            self,
            self._apart,
        )
        self._for_processes: Counter[str] = Counter()
        self._base = contextvars.copy_context()
        self._timer: asyncio.TimerHandle | None = None
        self._armed = math.inf
        self._step = 0
        self._ahead = 0
        self._ended = 0
        self._since = 0.0
        self._busy = (0.0, 0.0)
        self._log = telemetry.get_logger(worker=worker)

    # -- what others ask -----------------------------------------------------------------------------

    def room(self) -> int:
        """How many tasks may be fetched now: free slots, and a little more while tasks are short. None while
        the slots have enough to do and there is less room than a round trip is worth; nor beside a suspect
        that is to be alone."""
        if self._alone is not None:
            return 0
        waiting = len(self._queue)
        taken = len(self._running) + self._threads.stuck + waiting
        room = self._concurrency + self._ahead - taken
        return 0 if 2 * waiting > self._ahead and room < min(WORTH, self._ahead // 2) else room

    def room_for(self, handler: Handler) -> int:
        """The most tasks of this type to fetch at once."""
        if handler.options.executor != "process":
            return self._concurrency + MOST_AHEAD
        # One more than there are processes, so that none waits for a fetch.
        return max(0, self._processes.size + 1 - self._for_processes[handler.name])

    @property
    def worn_out(self) -> bool:
        """Whether so many handlers could not be stopped that this process should be replaced."""
        return len(self._written_off) + self._threads.stuck >= self._concurrency

    def running(self) -> list[Held]:
        """A copy of what runs, oldest first; may be called from another thread."""
        return sorted(self._running, key=lambda held: held.started or 0.0)

    def others(self, held: Held) -> int:
        """How many handlers run beside this one."""
        return len(self._running - self._written_off - {held})

    @property
    def is_alone(self) -> bool:
        """Whether nothing may be taken, since a suspect is to run alone."""
        return self._alone is not None

    @property
    def idle(self) -> bool:
        return not self._running and not self._queue

    # -- what others tell ----------------------------------------------------------------------------

    def put(self, deliveries: list[Held]) -> None:
        """Run these, all of one task type, as soon as slots are free."""
        if self.idle:
            self._since, self._ended = time.monotonic(), 0
        self._queue.extend(deliveries)
        if deliveries and self._registry.handlers[deliveries[0].delivery.type].options.executor == "process":
            self._for_processes[deliveries[0].delivery.type] += len(deliveries)
        if not self._step:
            self._spread()

    def stop(self, held: Held, why: Stop) -> None:
        """Cut a delivery short. Its outcome follows; none does where it was lost."""
        if held.done or held.stop is not None:
            return
        held.stop, held.stopped = why, time.monotonic()
        if held.started is None:
            return  # its slot will see
        if why == "timeout":
            held.stood = _stood(held)
        if held.context is not None:
            held.context._cancelled = True  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        if held.slot is not None:
            held.slot.cancel()
        self._arm(held.stopped + GRACE)

    def hand_back_queued(self, which: Callable[[Delivery], bool] = lambda _: True) -> None:
        """Give back what has not been started."""
        for held in [held for held in self._queue if which(held.delivery)]:
            self._queue.remove(held)
            self._end(held, HandedBack())

    def alone(self, held: Held) -> None:
        """Take nothing else until this one has ended."""
        self._alone = held
        self.hand_back_queued()

    def stop_all(self) -> None:
        """Cut everything short that runs, to be handed back."""
        for held in self.running():
            self.stop(held, "shutdown")

    def close(self) -> None:
        """End the slots and the executors. Threads that run handlers cannot be ended."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for held in self._running:
            held.stop = held.stop or "lost"  # nothing can be settled any more
        for slot in self._slots:
            slot.cancel()
        self._threads.close()
        self._processes.close()
        if self._apart is not None:
            self._apart.close()

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
        for held in [held for held in self._running if held.slot is slot]:
            self._running.discard(held)
            self._written_off.discard(held)
            self._end(held, self.attempts.unforeseen(held, error))
        self._log_failed(None, error)
        self._spawn()

    def _log_failed(self, held: Held | None, error: BaseException) -> None:
        with suppress(BaseException):  # a log that raises ends no slot
            about = {} if held is None else {"task": str(held.delivery.id)}
            self._log.error("slot.failed", **about, error=verdict.name(error), exc_info=error)

    async def _slot(self) -> None:
        """Run one delivery after the other. A coroutine is kept, since a new asyncio task for each
        would cost more than a short handler; one whose handler has set context variables is replaced."""
        me, attempts, tracer = asyncio.current_task(), self.attempts, self._tracer
        resumed = time.monotonic()
        while True:
            while not self._queue:
                self._measure()
                self._hungry()
                await self._sleep()
                resumed = time.monotonic()
            held = self._queue.popleft()
            held.slot = me
            try:
                outcome = await (attempts.run(held) if tracer is None else attempts.traced(tracer, held))
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it is, the delivery has an outcome
                self._log_failed(held, error)
                outcome = attempts.unforeseen(held, error)
            self._running.discard(held)
            if self._written_off:
                self._written_off.discard(held)
            self._end(held, outcome)
            if self._soiled() or (me is not None and me.cancelling()):
                self._spawn()
                return
            if held.started is not None and held.started - resumed > SHORT:
                await asyncio.sleep(0)
                resumed = time.monotonic()

    async def _sleep(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeping.append(future)
        await future

    def _spread(self) -> None:
        """Wake slots while tasks wait: one, then with each turn of the loop twice as many.

        Handlers that never wait are then all run by the first slot, which costs no turn of the loop for
        each; those that do wait have all slots within a few turns.
        """
        self._step = min(2 * self._step or 1, len(self._queue), len(self._sleeping))
        for _ in range(self._step):
            self._wake_one()
        if self._step:
            asyncio.get_running_loop().call_soon(self._spread)

    def _wake_one(self) -> None:
        while self._sleeping:
            future = self._sleeping.popleft()
            if not future.done():
                future.set_result(None)
                return

    def _measure(self) -> None:
        """Learn from the busy time that ends how many tasks are done in `AHEAD`."""
        if not self._ended:
            return
        now = time.monotonic()
        count, seconds = self._busy[0] + self._ended, self._busy[1] + now - self._since
        self._ahead = min(MOST_AHEAD, int(count / seconds * AHEAD))
        self._busy = (count / 2, seconds / 2) if seconds > _REMEMBERED else (count, seconds)
        self._ended, self._since = 0, now

    def _soiled(self) -> bool:
        """Whether the handler has left context variables behind that the next must not see."""
        try:
            return contextvars.copy_context() != self._base
        except BaseException:  # noqa: BLE001 - a value that cannot be compared is no value of ours
            return True

    def _end(self, held: Held, outcome: Outcome | None) -> None:
        if held.done:
            return
        held.done = True
        if self._alone is held:
            self._alone = None
        self._ended += 1
        if self._for_processes and held.delivery.type in self._for_processes:
            self._for_processes[held.delivery.type] -= 1
        if outcome is not None:
            self._finished(held, outcome)

    # -- deadlines -----------------------------------------------------------------------------------

    def _taken(self, held: Held) -> None:
        """A handler is about to be called, or waits for a process."""
        self._running.add(held)
        if held.deadline is not None and held.deadline < self._armed:
            self._arm(held.deadline)

    def _arm(self, when: float) -> None:
        """Look at the deadlines not later than `when`: one timer for all, instead of one a task."""
        if when >= self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = when
        self._timer = asyncio.get_running_loop().call_later(max(0.0, when - time.monotonic()), self._look)

    def _look(self) -> None:
        self._timer, self._armed = None, math.inf
        now = time.monotonic()
        upcoming: list[float] = []
        for held in list(self._running):
            if held.stop is not None:
                if now < held.stopped + GRACE:
                    upcoming.append(held.stopped + GRACE)
                elif held not in self._written_off:
                    self._write_off(held)
            elif held.deadline is not None:
                if now >= held.deadline:
                    self.stop(held, "timeout")
                else:
                    upcoming.append(held.deadline)
        if upcoming:
            self._arm(min(upcoming))

    def _write_off(self, held: Held) -> None:
        """Decide for a handler that does not end although it was told to. Its slot stays taken."""
        self._written_off.add(held)
        handler = self._registry.handlers[held.delivery.type]
        self._log.error("task.will_not_stop", task=str(held.delivery.id), why=held.stop)
        self._end(held, self.attempts.failed(held, handler, asyncio.CancelledError()))


def _stood(held: Held) -> str:
    """Where the handler stands: in its process, in its thread, or in the coroutine of its slot."""
    if held.child is not None:
        return held.child.stood()
    thread = 0 if held.context is None else held.context._thread  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
    if thread:
        return stacks.of_thread(thread)
    return "" if held.slot is None else stacks.of_coroutine(held.slot.get_coro())

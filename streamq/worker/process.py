"""The life of one worker process: start, serve, drain, leave.

Owns the wiring of fetchers, runner, settler and lease thread, and the order in which they end. Decides
nothing about a task.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from streamq import calls, exit_codes, telemetry
from streamq.keys import TypeKeys
from streamq.model import Orders, Outcome
from streamq.options import WorkerOptions
from streamq.shards import AppRecord
from streamq.telemetry.report import Report
from streamq.telemetry.sums import Sums
from streamq.transport import AsyncTransport, SyncTransport
from streamq.wording import shortened
from streamq.worker.attemptlog import AttemptLog
from streamq.worker.crew import Crew
from streamq.worker.fetcher import Fetcher
from streamq.worker.holdings import Held, Holdings
from streamq.worker.incarnations import Incarnations
from streamq.worker.intake import Intake
from streamq.worker.leases import Asked, LeaseKeeper, Told
from streamq.worker.loading import App, served_types
from streamq.worker.meter import Meter
from streamq.worker.presence import Presence
from streamq.worker.runner import GRACE, Runner
from streamq.worker.settler import Ended, Settler
from streamq.worker.tally import Tally
from streamq.worker.teller import Teller
from streamq.worker.vitals import Vitals

FLUSH: Final = 5.0
"""Seconds to settle at the end what is done, at least."""
WEDGED_AFTER: Final = 2 * GRACE
"""Seconds past its timeout after which a task that still runs shows that the event loop is blocked."""


@dataclass
class _Stop:
    """How far the end has come: asked once is drain, twice is now."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    now: asyncio.Event = field(default_factory=asyncio.Event)


class Worker:
    """Runs an app's tasks in this process and event loop.

    `await worker.run()` serves until `stop()`; `ready` is set when it has begun to take tasks.
    `exclusive`: the process is ours, so it may be ended where nothing else helps. `metered`: add up what
    every task takes, for `report`.
    """

    def __init__(
        self,
        app: App,
        options: WorkerOptions | None = None,
        *,
        group: str = "",
        exclusive: bool = False,
        metered: bool = False,
    ):
        self.options = options or WorkerOptions()
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.ready = asyncio.Event()
        self.worn_out = self.drained = False
        self._registry = app.registry
        self._types = served_types(app.registry, self.options)
        self._exclusive = exclusive
        self._stop = _Stop()
        self._holdings = Holdings()
        self._tally = Tally(self._registry.name)
        self._teller = Teller(self._registry.name, self.name)
        self._transport = AsyncTransport(app.address)
        self._presence = Presence(self._transport, self._registry, self._types, self.name)
        self._address = app.address
        self._metered = metered
        self._sums = Sums()
        self._vitals = Vitals(self.name, group, self._registry, self._types, self.options, self._sums)
        self._attempt_log = AttemptLog(self.name)
        self._main: asyncio.Task[Any] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._helpers: list[asyncio.Task[Any]] = []
        self._log = telemetry.get_logger(worker=self.name)

    def stop(self) -> None:
        """Take no more tasks and end when those in hand are done; called again: end now, hand back."""
        (self._stop.now if self._stop.asked.is_set() else self._stop.asked).set()

    async def run(self) -> None:
        """Serve until stopped; a server that is not there yet is waited for. Raises UsageErrors and the
        RedisErrors of a server that refuses us, at the start only.

        However it ends, by `stop()`, cancellation or an error, what is in hand is finished or handed back.
        """
        for name in self._types:
            self._registry.handlers[name].prepare()
        self._main = asyncio.current_task()
        record = await self._announced()
        if record is None:
            return
        try:
            self._build(record)
        except BaseException:
            await self._transport.aclose()
            raise
        try:
            await self._serve_until_stopped(record)
            await self._drain()
        except GeneratorExit:  # the loop is gone: nothing can be waited for any more
            self._leases.stop()
            raise
        except BaseException as error:
            self._log.warning("worker.interrupted", error=type(error).__name__)
            await self._end(self._hand_back)
            raise
        await self._end()

    async def _serve_until_stopped(self, record: AppRecord) -> None:
        self._runner.start()
        self._leases.start()
        self._settling = asyncio.create_task(self._settler.run())
        self._helpers.append(asyncio.create_task(self._halt()))
        await self._crew.serve(record.known)
        self._helpers.append(asyncio.create_task(self._vitals.beat()))
        if self._exclusive:
            _spare_collector()
        telemetry.always(
            "worker.ready",
            worker=self.name,
            types=shortened(self._types),
            concurrency=self.options.concurrency,
        )
        self.ready.set()
        await self._until_stopped(self._settling)

    # -- start ---------------------------------------------------------------------------------------

    async def _announced(self) -> AppRecord | None:
        """None where we are stopped before the server is there."""
        try:
            record = await self._presence.announce(self._stop.asked)
        except BaseException:
            await self._transport.aclose()
            raise
        if record is None:
            await self._transport.aclose()
            self._log.info("worker.stopped")
        return record

    def _build(self, record: AppRecord) -> None:
        options = self.options
        self._servers = Incarnations(
            self._transport, self._registry.name, self.name, self._holdings, self._lost
        )
        self._settler = Settler(
            self._transport, self._registry.name, self.name, self._holdings, self._servers, self._freed,
            self._sums, self._attempt_log, self._settled,
        )  # fmt: skip
        self._runner = Runner(
            self._registry,
            self.name,
            options.concurrency,
            options.process_slots,
            self._meter() if self._metered else self._ended,
            self._hungry,
            self._sums,
            lambda: self._main is not None and self._main.cancelling() > 0,
            apart=self._exclusive,
        )
        self._tell()
        self._intake = Intake(self.name, self._holdings, self._runner, self._settler, self._closed)
        self._crew = Crew(self._fetcher, self._prepare, self._leave, self.name)
        loop = self._loop = asyncio.get_running_loop()
        told = Told(
            lost=lambda held: _in_loop(loop, self._lost, held),
            cancel=lambda held: _in_loop(loop, self._cancel, held),
            clock=lambda shard, now_ms: _in_loop(loop, self._runner.clocks.set, shard, now_ms),
            orders=lambda shard, orders: _in_loop(loop, self._ordered, shard, orders),
            shards=lambda known: _in_loop(loop, self._serve, known),
            sums=self._sums,
        )
        asked = Asked(self._details, self._watch, self._report, self._teller.calls)
        self._leases = LeaseKeeper(
            SyncTransport(self._address), self._registry, self._types, record.known, self.name,
            self._holdings, told,
            lease=min(self._registry.handlers[name].options.lease for name in self._types),
            heartbeat=options.heartbeat, asked=asked,
        )  # fmt: skip
        self._vitals.attach(self._runner, self._crew, self._leases, self._holdings)

    def _meter(self) -> Callable[[Held, Outcome], None]:
        def server_ms(when: float, shard: int) -> int:
            return self._runner.clocks.ms(when, shard)

        meter = Meter(self._sums, self._registry.name, self._types, self._ended, server_ms)
        self._vitals.meter = meter
        return meter.finished

    def _fetcher(self, shard: int) -> Fetcher:
        return Fetcher(
            shard, self._types, self._registry, self._transport, self.options,
            self._runner, self._holdings, self._servers, self._intake.deliver, self._intake.recovered,
        )  # fmt: skip

    # -- the way of a task -----------------------------------------------------------------------------

    def _closed(self, keys: TypeKeys) -> bool:
        """Whether what was fetched is to be handed back: its type was paused meanwhile, or we are to stop."""
        return self._stop.asked.is_set() or self._crew.is_paused(keys)

    def _ended(self, held: Held, outcome: Outcome) -> None:
        self._settler.put(held, outcome)
        tally = self._tally
        tally.left -= 1
        if tally.left <= 0:
            tally.add(held)
        if self._teller.telling or self._attempt_log.chatty:
            seconds = None if held.started is None else round(time.monotonic() - held.started, 6)
            held.ended = self._runner.clocks.now_ms(), seconds

    def _settled(self, ended: list[Ended]) -> None:
        """The server has stored these ends: now they are true, and may be told."""
        everything = self._teller.telling or self._attempt_log.chatty
        for held, outcome in ended:
            if everything or held.report is not None:
                with suppress(BaseException):  # a log that raises keeps nothing from being settled
                    self._attempt_log.settled(held, outcome)
                if self._teller.telling and held.ended is not None:
                    self._teller.ended(held, outcome, *held.ended)

    def _began(self, held: Held) -> None:
        if self._teller.telling:
            self._teller.began(held, self._runner.clocks.now_ms())
        if self._attempt_log.chatty:
            self._attempt_log.began(held)

    def _tell(self) -> None:
        """Have the beginnings of attempts told where somebody listens: it costs each of them."""
        wanted = self._teller.telling or self._attempt_log.chatty
        self._runner.attempts.began = self._began if wanted else None

    def _hungry(self) -> None:
        """A slot has nothing to do."""
        self._crew.freed()

    def _freed(self) -> None:
        """Deliveries have left the book."""
        self._crew.freed()
        if self._runner.worn_out and not self.worn_out:
            self.worn_out = True
            self._log.error("worker.worn_out", fix="handlers ignore their timeouts; use executor='process'")
            self._stop.asked.set()

    # -- told by the lease thread ----------------------------------------------------------------------

    def _lost(self, held: list[Held]) -> None:
        for one in held:
            if not one.done:
                self._log.warning("task.lease_lost", task=str(one.delivery.id))
                self._sums.count("streamq_leases_lost_total", self._registry.name, one.delivery.type)
                self._runner.stop(one, "lost")
            if one.lost or not one.done:
                self._holdings.discard(one)

    def _cancel(self, held: list[Held]) -> None:
        for one in held:
            self._runner.stop(one, "cancel")

    def _ordered(self, shard: int, orders: Orders) -> None:
        """What operators want: types left alone, this worker drained."""
        self._crew.pause(shard, orders.paused)
        if shard == 0:
            self._teller.telling = orders.tell
            self._tell()
        self._runner.hand_back_queued(lambda one: one.shard == shard and one.type in orders.paused)
        if orders.drain and not self._stop.asked.is_set():
            self._log.info("worker.drain_requested")
            self.drained = True
            self._stop.asked.set()

    def _serve(self, known: int) -> None:
        if not self._crew.serves(known):
            self._transport.spawn(self._crew.serve(known))

    def _report(self) -> list[calls.Call[int]]:
        return self._tally.calls(self._runner.clocks.now_ms())

    def _details(self, shard: int) -> bytes:
        return self._vitals.heartbeat(shard, draining=self._stop.asked.is_set())

    def _watch(self) -> None:
        """Notice a blocked event loop: nothing in it can, and its tasks would be held for ever. Renew nothing
        for one that was closed under us."""
        if self._loop.is_closed():
            self._leases.stop()
        if not self._exclusive:
            return
        now = time.monotonic()
        for held in self._runner.running():
            if held.deadline is not None and now > held.deadline + WEDGED_AFTER and held.stop is None:
                self._log.critical(
                    "worker.wedged", task=str(held.delivery.id), fix="a handler blocks the event loop"
                )
                os._exit(exit_codes.WEDGED)

    # -- what a supervisor asks ------------------------------------------------------------------------

    def report(self) -> Report:
        """How this worker is, and what it has added up; called in another thread."""
        return self._vitals.report(started=self.ready.is_set(), draining=self._stop.asked.is_set())

    # -- end -------------------------------------------------------------------------------------------

    async def _until_stopped(self, settling: asyncio.Task[None]) -> None:
        """Until told to stop, or until a loop ends that should not: a worker that does not settle would
        keep its tasks for ever."""
        waiting = [asyncio.create_task(event.wait()) for event in (self._stop.asked, self._crew.failed)]
        self._helpers += waiting
        await asyncio.wait([settling, *waiting], return_when=asyncio.FIRST_COMPLETED)
        if settling.done() and not settling.cancelled() and (error := settling.exception()) is not None:
            self._log.critical("worker.failed", error=repr(error), exc_info=error)

    async def _halt(self) -> None:
        """Nothing is taken from the moment on that we are to stop, also where that comes while we begin: what
        is taken and handed back goes behind all others."""
        await self._stop.asked.wait()
        await self._crew.stop()

    async def _drain(self) -> None:
        """Take no more, let what runs finish within the time, hand the rest back."""
        self._stop.asked.set()
        self._log.info(
            "worker.drain", running=len(self._runner.running()), timeout=self.options.drain_timeout
        )
        self._runner.attempts.stopping = True
        self._runner.hand_back_queued()
        await self._crew.stop()
        if not await self._finish(self.options.drain_timeout):
            self._runner.stop_all()
            await self._finish(GRACE + 1.0, hurried=True)
        await self._flush(max(FLUSH, self.options.drain_timeout))

    async def _hand_back(self) -> None:
        """Give back at once what is in hand: somebody ends us otherwise than by `stop`. May be run again."""
        self._stop.asked.set()
        self._runner.attempts.stopping = True
        self._runner.hand_back_queued()
        self._settle_on()
        self._runner.stop_all()
        await self._crew.stop()
        self._runner.stop_all()
        await self._finish(GRACE + 1.0, hurried=True)
        await self._flush(FLUSH)

    def _settle_on(self) -> None:
        """Go on settling where that was cancelled too, as the end of an event loop does with all tasks."""
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settler.run())

    async def _end(self, *steps: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Leave, whoever cancels us meanwhile: each step has limits of its own. One that was cancelled itself
        is taken anew: the end of an event loop cancels all tasks."""
        for step in (*steps, self._close):
            if not await self._step(step):
                await self._step(step)

    async def _step(self, step: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Answers whether it came to its end, also with an error."""
        ending = asyncio.create_task(step())
        while not ending.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([ending])
        if not ending.cancelled() and (error := ending.exception()) is not None:
            self._log.error("worker.end_failed", error=repr(error), exc_info=error)
        return not ending.cancelled()

    async def _close(self) -> None:
        self._leases.stop()
        self._runner.close()
        if self._leases.is_alive():  # a heartbeat on its way would bring us back
            await asyncio.to_thread(self._leases.join, 2.0)
        # The first one has our heartbeats, also where we were told to stop before we served any.
        await asyncio.gather(*(self._leave(shard) for shard in {0, *self._crew.shards}))
        helpers = [one for one in (self._settling, *self._helpers) if one is not None]
        for one in helpers:
            one.cancel()
        await asyncio.gather(*helpers, self._crew.stop(), self._runner.ended(), return_exceptions=True)
        await self._transport.settled_down()
        await self._transport.aclose()
        self._log.info("worker.stopped")

    async def _finish(self, seconds: float, *, hurried: bool = False) -> bool:
        """Wait until nothing runs; False where time is up, or where it is told to end now."""
        deadline = time.monotonic() + seconds
        while not self._runner.idle and time.monotonic() < deadline:
            if self._stop.now.is_set() and not hurried:
                return False
            await asyncio.sleep(0.02)
        return self._runner.idle

    async def _flush(self, seconds: float) -> None:
        """Settle what is done. Where the server is away for long, the leases run out instead."""
        try:
            async with asyncio.timeout(seconds):
                await self._settler.flush()
        except TimeoutError:
            self._log.error("worker.unsettled", tasks=len(self._holdings))

    async def _prepare(self, shard: int) -> frozenset[str]:
        return await self._presence.prepare(shard, self._details(shard))

    async def _leave(self, shard: int) -> None:
        await self._presence.leave(shard, away=self._crew.is_away(shard))


def _in_loop(loop: asyncio.AbstractEventLoop, function: Any, *args: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *args)


def _spare_collector() -> None:
    """Keep the garbage collector from going through all modules again and again: with a thousand tasks in
    hand a full collection held up the event loop for 40 ms."""
    gc.freeze()
    gc.enable()

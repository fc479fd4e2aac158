"""The queue of an app under test: a private server, tasks that run when the test says so, time that it moves.

Owns the app's connection to that server while the queue is open. How tasks run is in `runner`, what is due in
`due`, and the time in `clock`. Must not be given a server that is in use: it is emptied.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

from streamq.blocking import refuse
from streamq.embedded import EmbeddedServer
from streamq.errors import UsageError
from streamq.keys import type_keys
from streamq.model.outcome import Outcome, Retried
from streamq.options.checks import Duration, seconds
from streamq.options.service import WorkerOptions
from streamq.testing.clock import Clock
from streamq.testing.due import Due
from streamq.testing.place import Place
from streamq.testing.runner import EndedTask, Runner
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from streamq.worker.in_flight import Held

if TYPE_CHECKING:
    from streamq.app.app import StreamQ

MOST: Final = 10_000
"""Tasks that one run takes: a task that enqueues itself would go on for ever."""
Loss = Literal["before_handler", "after_handler"]


class _Open(NamedTuple):
    """What an open queue has. before: where the app was."""

    transport: SyncTransport
    due: Due
    clock: Clock
    before: Address


class Queue:
    """An app on a private server. Use it in a `with` block, which empties the server and moves the app there.

    server: started by the caller, to be shared by many tests; else one is started. Or the URL of a server
    that others use: then the queue lies under a prefix of its own, which is removed at the end. crash: the
    share of deliveries whose worker is made to die after the handler has run, and before the task is settled:
    a handler that is not idempotent shows it. seed: of that choice.
    """

    def __init__(
        self, app: StreamQ, server: EmbeddedServer | str | None = None, *, crash: float = 0.0, seed: int = 0
    ) -> None:
        if not 0 <= crash < 1:
            raise UsageError(f"crash={crash!r}: must be a share from 0 to below 1, such as 0.1")
        self.app: StreamQ = app
        self._place = Place(server)
        self._crash, self._random = crash, random.Random(seed)
        self._opened: _Open | None = None

    # -- the server --------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        address, transport = self._place.open(self.app.address.prefix)
        due, clock = Due(self.app.registry, transport), Clock(transport, self._place.pattern)
        self._opened = _Open(transport, due, clock, self.app.address)
        self.app._move_to(address)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - made for this
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            self._opened.clock.close()
            self.app._move_to(self._opened.before)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
            self._place.close(self._opened.transport)
        self._opened = None

    @property
    def _open(self) -> _Open:
        if self._opened is None:
            raise UsageError("the queue is not open: use it in a `with` block")
        return self._opened

    @contextmanager
    def _runner(self) -> Generator[Runner]:
        runner = Runner(self.app.registry, self._open.transport, self._open.due)
        try:
            yield runner
        finally:
            runner.close()

    # -- running -----------------------------------------------------------------------------------------

    def run(self, *, retries: bool = True, raise_errors: bool = True) -> list[EndedTask]:
        """Run tasks in this thread until none is ready, with those that they enqueue. Return the ended ones.

        retries: run a failed task again at once instead of after its delay. raise_errors: raise the exception
        of the first task that became a dead letter, after all have run. Tasks for later wait for `advance`.
        Raises UsageError in an event loop: use `arun` there.
        """
        refuse("queue.run()", "await queue.arun()")
        ended: list[EndedTask] = []
        with self._runner() as runner:
            for held in self._ready(runner):
                self._settle(runner, held, runner.run(held), retries, ended)
                runner.tell()
        return _checked(ended, raise_errors)

    async def arun(self, *, retries: bool = True, raise_errors: bool = True) -> list[EndedTask]:
        """As `run`, in the event loop of the test; `def` handlers run in threads, as in a worker."""
        ended: list[EndedTask] = []
        runner = Runner(self.app.registry, self._open.transport, self._open.due, in_threads=True)
        try:
            for held in self._ready(runner):
                self._settle(runner, held, await runner.arun(held), retries, ended)
                await runner.atell()
        finally:
            await runner.aclose()
        return _checked(ended, raise_errors)

    def _ready(self, runner: Runner) -> Iterator[Held]:
        for _ in range(MOST):
            held = self._next(runner)
            if held is None:
                return
            yield held
        raise UsageError(
            f"{MOST:,} tasks have run and more are ready: does a task enqueue itself, or fail for ever? "
            "Use run(retries=False)"
        )

    def _next(self, runner: Runner) -> Held | None:
        """Take the next ready task; where there is none, one that has become due meanwhile."""
        held = runner.take()
        if held is None:
            self._open.due.make_ready()
            held = runner.take()
        return held

    def _settle(
        self, runner: Runner, held: Held, outcome: Outcome, retries: bool, ended: list[EndedTask]
    ) -> None:
        if self._loses(held):
            runner.lose(held)
            return
        task = runner.settle(held, outcome)
        if task is not None:
            ended.append(task)
        elif retries and isinstance(outcome, Retried) and outcome.delay_ms:
            delivery = held.delivery
            self._open.due.run_now(type_keys(runner.app, delivery.shard, delivery.type), delivery.local)

    def _loses(self, held: Held) -> bool:
        """Return whether this delivery is to be lost; one that could bury its task is not."""
        most = self.app.registry.handlers[held.delivery.type].options.max_lost
        return self._crash > 0 and held.delivery.lost + 1 < most and self._random.random() < self._crash

    def lose(self, when: Loss = "after_handler") -> str:
        """Let a worker die with the next ready task, before or after its handler has run; the task is
        reclaimed, as the claimer would. Return its id. Raises UsageError if no task is ready."""
        refuse("queue.lose()", "it in a plain test")
        with self._runner() as runner:
            held = self._next(runner)
            if held is None:
                raise UsageError("no task is ready, so none can be lost: enqueue one first")
            if when == "after_handler":
                runner.run(held)
            runner.lose(held)
            return str(held.delivery.id)

    @contextmanager
    def worker(self, *, concurrency: int = 10) -> Generator[None]:
        """Run a real worker and a daemon beside the test, in another thread, for the few tests of the whole:
        no `run` is needed then, and time passes by itself."""
        from streamq.testing.real_worker import real_worker  # noqa: PLC0415 - few tests need it

        with real_worker(self.app, WorkerOptions(concurrency=concurrency, block=0.5, heartbeat=0.5)):
            yield

    # -- time --------------------------------------------------------------------------------------------

    def advance(self, duration: Duration, *, raise_errors: bool = True) -> list[EndedTask]:
        """Let time pass: run what becomes due within it, in that order, each at its own time. Return the
        ended tasks. A retry that falls within it runs after its delay, and so does what a task schedules."""
        refuse("queue.advance()", "await queue.aadvance()")
        ended: list[EndedTask] = []
        for _ in self._moments(seconds(duration, "duration")):
            ended += self.run(retries=False, raise_errors=False)
        return _checked(ended, raise_errors)

    async def aadvance(self, duration: Duration, *, raise_errors: bool = True) -> list[EndedTask]:
        """As `advance`, in the event loop of the test."""
        ended: list[EndedTask] = []
        for _ in self._moments(seconds(duration, "duration")):
            ended += await self.arun(retries=False, raise_errors=False)
        return _checked(ended, raise_errors)

    def _moments(self, span: float) -> Iterator[None]:
        """Yield when there may be something to run: now, and whenever something has become due."""
        self._open.due.lines()  # schedules count from when they are registered
        self._open.clock.move_to(self._open.clock.now_ms())  # it is stopped from here on
        target = self._open.clock.now_ms() + 1000 * span
        yield
        while (at_ms := self._open.due.next_ms()) is not None and at_ms <= target:
            # Where nothing came of it, the same is next again: a moment later, so that time goes on.
            self._open.clock.move_to(max(at_ms, self._open.clock.now_ms() + 1))
            yield
        self._open.clock.move_to(target)

    def scheduled(self) -> dict[str, float]:
        """Return the tasks that wait for their time, by id: in how many seconds of the test each is due."""
        now = self._open.clock.now_ms()
        return {task: (at_ms - now) / 1000 for task, at_ms in self._open.due.scheduled().items()}


def _checked(ended: list[EndedTask], raise_errors: bool) -> list[EndedTask]:
    if raise_errors:
        for task in ended:
            if task.state == "dead" and task.error is not None:
                task.error.add_note(
                    f"streamq: task {task.id} became a dead letter in attempt {task.attempts}"
                )
                raise task.error
    return ended

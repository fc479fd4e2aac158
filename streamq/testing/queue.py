"""The queue of an app under test: a private server, tasks that run when the test says so, time that it moves.

Owns the app's connection to that server while the queue is open, and the clock of the test. Refuses a server
that it did not start: a test must not empty one that is in use. What `advance` does not move: leases, expiry,
retention, and the clock that handlers read.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

from streamq import memos
from streamq.blocking import refuse
from streamq.calls import listing as listing_calls
from streamq.calls import operator as operator_calls
from streamq.calls import question as question_calls
from streamq.calls import steps as step_calls
from streamq.calls.call import Call
from streamq.embedded import EmbeddedServer
from streamq.errors import UsageError
from streamq.keys import SUCCESSOR_DUE_MS, TypeKeys, type_keys
from streamq.model.outcome import Outcome, Retried
from streamq.model.task import TaskId
from streamq.namespace import namespace_of
from streamq.options.checks import Duration, seconds
from streamq.testing.runner import EndedTask, Runner
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from streamq.worker.in_flight import Held

if TYPE_CHECKING:
    from streamq.app.app import StreamQ

GRACE_MS: Final = 1000
"""The test itself takes time: what is due when two advances end was enqueued a little after they began."""
MOST: Final = 10_000
"""Tasks that one run takes: a task that enqueues itself would go on for ever."""
_PAGE: Final = 500
_WAITED: Final = b"?0"
"""The memo of a wait for a signal whose time is over."""
Loss = Literal["before_handler", "after_handler"]


class _Scheduled(NamedTuple):
    """A task in a schedule, with its due time: debounce and reschedule move it."""

    keys: TypeKeys
    local: str
    at_ms: int


class Queue:
    """An app on a private server. Use it in a `with` block, which empties the server and moves the app there.

    server: started by the caller, to be shared by many tests; else one is started. crash: the share of
    deliveries whose worker is made to die after the handler has run, and before the task is settled: a
    handler that is not idempotent shows it. seed: of that choice.
    """

    def __init__(
        self, app: StreamQ, server: EmbeddedServer | None = None, *, crash: float = 0.0, seed: int = 0
    ) -> None:
        if not 0 <= crash < 1:
            raise UsageError(f"crash={crash!r}: must be a share from 0 to below 1, such as 0.1")
        self.app: StreamQ = app
        self._server = EmbeddedServer() if server is None else server
        self._own = server is None
        self._crash, self._random = crash, random.Random(seed)
        self._before: Address | None = None
        self._elapsed_ms = 0.0
        self._due: dict[_Scheduled, float] = {}
        self._transport: SyncTransport | None = None

    # -- the server --------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._own:
            self._server.start()
        address = Address.parse(self._server.url, "code", prefix=namespace_of(self.app.name).prefix)
        transport = SyncTransport(address)
        transport.run(Call(None, (), ("FLUSHALL",), lambda reply: reply))
        self._before, self._transport = self.app.address, transport
        self.app._move_to(address)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - made for this
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            self.app._move_to(self._before)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        if self._transport is not None:
            self._transport.close()
        self._before = self._transport = None
        if self._own:
            self._server.stop()

    @property
    def _wire(self) -> SyncTransport:
        if self._transport is None:
            raise UsageError("the queue is not open: use it in a `with` block")
        return self._transport

    @contextmanager
    def _runner(self) -> Generator[Runner]:
        runner = Runner(self.app.registry, self._wire)
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
        runner = Runner(self.app.registry, self._wire, in_threads=True)
        try:
            for held in self._ready(runner):
                self._settle(runner, held, await runner.arun(held), retries, ended)
                await runner.atell()
        finally:
            await runner.aclose()
        return _checked(ended, raise_errors)

    def _ready(self, runner: Runner) -> Iterator[Held]:
        for _ in range(MOST):
            runner.promote()
            held = runner.take()
            if held is None:
                return
            yield held
        raise UsageError(
            f"{MOST:,} tasks have run and more are ready: does a task enqueue itself, or fail for ever? "
            "Use run(retries=False)"
        )

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
            self._make_ready(type_keys(runner.app, delivery.shard, delivery.type), delivery.local)

    def _loses(self, held: Held) -> bool:
        """Return whether this delivery is to be lost; one that could bury its task is not."""
        most = self.app.registry.handlers[held.delivery.type].options.max_lost
        return self._crash > 0 and held.delivery.lost + 1 < most and self._random.random() < self._crash

    def lose(self, when: Loss = "after_handler") -> str:
        """Let a worker die with the next ready task, before or after its handler has run; the task is
        reclaimed, as the claimer would. Return its id. Raises UsageError if no task is ready."""
        refuse("queue.lose()", "it in a plain test")
        with self._runner() as runner:
            runner.promote()
            held = runner.take()
            if held is None:
                raise UsageError("no task is ready, so none can be lost: enqueue one first")
            if when == "after_handler":
                runner.run(held)
            runner.lose(held)
            return str(held.delivery.id)

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
        """Yield when there may be something to run: now, and whenever a task has become due."""
        target = self._now_ms() + 1000 * span
        yield
        while (following := self._next(target)) is not None:
            scheduled, due = following
            self._elapsed_ms += max(0.0, due - self._now_ms())
            self._make_ready(scheduled.keys, scheduled.local)
            yield
        self._elapsed_ms += max(0.0, target - self._now_ms())

    def _now_ms(self) -> float:
        """Return the time of the test: that of the server, and what was advanced."""
        return self._wire.run(question_calls.now()) + self._elapsed_ms

    def _next(self, target: float) -> tuple[_Scheduled, float] | None:
        """Return the next task that is due until then, with its time."""
        due: dict[_Scheduled, float] = {}
        with self._runner() as runner:
            for t in runner.lines():
                for row in self._rows(t):
                    if row.at_ms < SUCCESSOR_DUE_MS:
                        task = _Scheduled(t, row.local, row.at_ms)
                        due[task] = self._due.get(task, row.at_ms + self._elapsed_ms)
        self._due = due
        found = min(due.items(), key=lambda one: one[1], default=None)
        return found if found is not None and found[1] <= target + GRACE_MS else None

    def _rows(self, t: TypeKeys) -> Iterator[listing_calls.Row]:
        cursor = ""
        while True:
            page = self._wire.run(listing_calls.page_schedule(t, cursor, _PAGE))
            yield from page.rows
            cursor = page.cursor
            if not cursor:
                return

    def _make_ready(self, t: TypeKeys, local: str) -> None:
        self._end_sleeps(t, local)
        self._wire.run(operator_calls.run_now(t, local))

    def _end_sleeps(self, t: TypeKeys, local: str) -> None:
        """Let the sleeps and waits of a task be over: they go by the server's clock, which stays."""
        first = 1
        while first:
            first, some = self._wire.run(step_calls.memos(t, local, first))
            for name, memo in some.items():
                over = memos.sleep(0) if memos.wakes_at(memo) is not None else _WAITED
                if over is not _WAITED or memo[:1] == b"~":
                    change = ("HSET", t.steps, f"{local}\0{name}", over)
                    self._wire.run(Call(None, (t.steps,), change, int))

    def scheduled(self) -> dict[str, float]:
        """Return the tasks that wait for their time, by id: in how many seconds of the test each is due."""
        self._next(0.0)
        now = self._now_ms()
        return {
            str(TaskId(task.keys.type, task.keys.shard, task.local)): (due - now) / 1000
            for task, due in sorted(self._due.items(), key=lambda one: one[1])
        }


def _checked(ended: list[EndedTask], raise_errors: bool) -> list[EndedTask]:
    if raise_errors:
        for task in ended:
            if task.state == "dead" and task.error is not None:
                task.error.add_note(
                    f"streamq: task {task.id} became a dead letter in attempt {task.attempts}"
                )
                raise task.error
    return ended

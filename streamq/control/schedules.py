"""Schedules of recurring tasks: put, pause, resume, remove, run now, backfill; and those that code declares.

Owns the list of operations, each written once for `Schedules` and for `AsyncSchedules`. The rules of a change
are in `schedules.registration`, the stored rows in `schedule_rows`. What a schedule's next step is, the
daemon decides.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol, Self

from streamq import envelope, joining, registering
from streamq.calls import question as question_calls
from streamq.calls import schedule as schedule_calls
from streamq.control.action_log import note, user
from streamq.control.backfill import backfill, refused
from streamq.control.facade import AsyncFacade, AsyncSource, Facade, SyncFacade, operation
from streamq.control.schedule_info import ScheduleInfo, info_of
from streamq.control.schedule_rows import NO_NOTE, TRIES, Found, Rows, busy, completed, upgrade, write
from streamq.control.unreadable import Unreadable
from streamq.errors import InvalidOption, UnknownTaskType, UsageError
from streamq.flow import Flow, ask
from streamq.keys import ShardKeys, type_keys
from streamq.locks import throttle_name
from streamq.model.reply import Note
from streamq.model.task import LETTER, NewTask, TaskId
from streamq.options.checks import Duration, moment_ms
from streamq.options.names import check_name
from streamq.options.schedule import GRACE, Cron, Every, Misfire, Overlap, Schedule
from streamq.options.unique_plan import DEBOUNCE
from streamq.payloads.pipeline import opened
from streamq.payloads.ring import index_key
from streamq.payloads.stage import About
from streamq.registry.handler import Handler
from streamq.registry.redefinition import importable
from streamq.schedules import registration
from streamq.schedules.definition import Definition, defined
from streamq.schedules.plan import Move
from streamq.schedules.registration import Change, Stored
from streamq.schedules.state import Paused, State
from streamq.shards import AppRecord
from streamq.transport.sync_transport import SyncTransport

Declared = Callable[[], Mapping[str, Handler]]
_Rule = Callable[[str, Definition, "Stored | None", int], "Change | None"]


class BoundTask(Protocol):
    """A call that has not been sent, as `bind` makes it."""

    @property
    def handler(self) -> Handler: ...
    @property
    def task(self) -> NewTask: ...
    @property
    def route(self) -> Any: ...


class Recurring(Facade):
    """What may be done to the schedules of one app."""

    _by = ""
    _declared: Declared | None = None
    faults: tuple[str, ...] = ()
    """What the last `all()` could not read, each with the key: its result does not include that."""

    def acting_for(self, by: str) -> Self:
        """Return the same in somebody's name: what is done through it is in the log of actions."""
        found = copy.copy(self)
        found._by = by or user()  # noqa: SLF001 - its own class
        return found

    @property
    def _rows(self) -> Rows:
        return Rows(self._app, self._shards)

    # -- reading -----------------------------------------------------------------------------------------

    @operation
    def all(self, *, outcomes: bool = True) -> Flow[list[ScheduleInfo]]:
        """Return all schedules by name; `faults` says what could not be read. outcomes: look for each what
        became of its last run."""
        look, found = Unreadable(), list[ScheduleInfo]()
        for one in (yield from self._rows.all(look)):
            found.append((yield from info_of(one, look, outcome=outcomes)))
        self.faults = tuple(look.faults)
        return sorted(found, key=lambda one: one.name)

    @operation
    def get(self, name: str) -> Flow[ScheduleInfo]:
        """Return one schedule. Raises UnknownSchedule."""
        return self._get(name)

    def _get(self, name: str) -> Flow[ScheduleInfo]:
        return (yield from info_of((yield from self._rows.existing(name)), outcome=True))

    # -- changing ----------------------------------------------------------------------------------------

    @operation
    def put(
        self,
        name: str,
        when: Cron | Every,
        task: BoundTask,
        *,
        misfire: Misfire = "last",
        overlap: Overlap = "skip",
        jitter: Duration = 0.0,
        grace: Duration = GRACE,
        start: datetime | None = None,
        end: datetime | None = None,
        times: int | None = None,
    ) -> Flow[ScheduleInfo]:
        """Make a schedule, or give the one of this name another definition. The same again changes nothing.

        task: `report.bind(...)`, with the priority, expiry, timeout, attempts and retention of its call. The
        rest as of `Schedule`. One that code declared is taken over: code does not touch it any more. Raises
        InvalidOption and UnknownTaskType.
        """
        check_name(name, "a schedule")
        rules = Schedule(when, misfire, overlap, jitter, grace, start, end, times)
        wanted = _of_call(self._app, rules, task)
        if task.route is not None and task.route.split and self._shards > 1:
            raise InvalidOption(
                "the lane and the key of a schedule's runs may have different homes where an app has several "
                "shards: leave out lane, and give unique no text"
            )
        if task.handler.app not in ("", self._app):
            raise InvalidOption(
                f"task type {wanted.type!r} belongs to app {task.handler.app!r}, not to {self._app!r}"
            )
        return self._put(name, wanted, task.task.payload, task.handler)

    def _put(self, name: str, wanted: Definition, payload: bytes, handler: Handler) -> Flow[ScheduleInfo]:
        record = yield from self._rows.announced()
        if handler.app:
            yield from self._register(name, handler, record, wanted)
        else:
            wanted = yield from self._by_policy(wanted, payload, record)
        yield from self._store(name, wanted, payload, record, registration.put)
        return (yield from self._get(name))

    def _store(
        self, name: str, wanted: Definition, payload: bytes, record: AppRecord, rule: _Rule
    ) -> Flow[bool]:
        """Write a definition as its rule says; return whether that changed something."""
        rows, tried = self._rows, False
        for _ in range(TRIES):
            found = yield from rows.find(name, record)
            before = None if found is None else found.stored
            found = found or Found(rows.home(name, record, wanted), schedule_calls.Row(name, None, None))
            now = yield from ask(question_calls.now(found.keys.schedules))
            change = rule(name, wanted, before, now)
            if change is None:
                return tried
            tried = True
            if (yield from write(found, change, wanted, payload)):
                return True
        raise busy(name)

    @operation
    def pause(self, name: str, reason: str = "") -> Flow[bool]:
        """Make no more runs until it is resumed; those that exist go on. Return whether it was not paused
        before. Raises UnknownSchedule."""
        by, why = self._by or user(), envelope.clean(reason)[:500]

        def paused(before: State, _: Definition, now: int) -> Change | None:
            return None if before.paused else registration.paused(before, Paused(by, why, now))

        return self._rows.change(name, paused, self._told("pause schedule", name, reason))

    @operation
    def resume(self, name: str) -> Flow[bool]:
        """Go on after a pause; return whether it was paused. The runs of the time between are not made.
        Raises UnknownSchedule."""

        def resumed(before: State, known: Definition, now: int) -> Change | None:
            return registration.resumed(name, before, known, now) if before.paused else None

        return self._rows.change(name, resumed, self._told("resume schedule", name))

    @operation
    def remove(self, name: str) -> Flow[bool]:
        """Delete a schedule; return whether there was one. Runs that exist go on. One that code declares
        comes back when a worker starts: pause it instead."""
        check_name(name, "a schedule")
        record, there = (yield from self._rows.record()), False
        for _ in range(TRIES):
            found = yield from self._rows.find(name, record)
            if found is None:
                return there
            there = True
            told = self._told("remove schedule", name)
            if (yield from ask(schedule_calls.write(found.keys, name, found.revision, b"", None, note=told))):
                return True
        raise busy(name)

    # -- runs beside the schedule --------------------------------------------------------------------------

    @operation
    def run_now(self, name: str) -> Flow[str]:
        """Make a run now, beside those that are due and whatever the rule for overlaps; return the task's id.
        Raises UnknownSchedule, QueueFull, RateLimitExceeded, and UniqueConflict if another task holds its
        unique key."""
        found = yield from self._rows.existing(name)
        now = yield from ask(question_calls.now(found.keys.schedules))
        run = max(now, found.whole()[0].ran + 1)
        for _ in range(TRIES):
            state, known = found.whole()
            shard = found.keys.shard
            if (state.ran, state.run_type) == (run, known.type):
                return str(TaskId(known.type, shard, state.run))  # by a sending whose reply was lost
            move, keys = Move(run, 0, 0, None, None), type_keys(self._app, shard, known.type)
            answer = yield from ask(
                schedule_calls.tick(keys, found.keys, "now", name, state.revision, "", move, "allow", known)
            )
            if answer.outcome == "made":
                yield from self._log(found.keys, "run schedule now", name, 1)
                return str(TaskId(known.type, shard, answer.detail))
            if answer.outcome == "skipped":
                raise refused(known.type, answer.detail, 0, holder=TaskId(known.type, shard, answer.holder))
            if answer.outcome == "rich":
                yield from upgrade(self._app, found)
            found = yield from self._rows.existing(name)
        raise busy(name)

    @operation
    def backfill(self, name: str, start: datetime, end: datetime) -> Flow[int]:
        """Make the runs of a time that is over, from `start` to before `end`; return how many were new.

        A run that a backfill made in the last 30 days is not made again, so one that was interrupted can be
        called again. Raises UnknownSchedule, InvalidOption, and QueueFull or RateLimitExceeded where the
        limits of the task type stop it half way.
        """
        since, until = moment_ms(start, "start"), moment_ms(end, "end")
        if until <= since:
            raise InvalidOption(f"end={end}: must be later than start={start}")
        return self._backfill(name, since, until)

    def _backfill(self, name: str, since: int, until: int) -> Flow[int]:
        found = yield from self._rows.existing(name)
        made = yield from backfill(found, since, until)
        yield from self._log(found.keys, "backfill schedule", name, made)
        return made

    # -- what code declares ----------------------------------------------------------------------------------

    @operation
    def sync(self) -> Flow[int]:
        """Register the schedules that this program's code declares, as workers do when they start; return how
        many were put or changed. A definition that a later release has replaced does not come back."""
        if self._declared is None:
            raise UsageError("schedules are declared by the code of an app: call app.schedules.sync()")
        return self._declare(self._declared().values())

    def _declare(self, handlers: Iterable[Handler]) -> Flow[int]:
        """Register what these handlers declare: a flow, for a worker's start."""
        record = yield from self._rows.announced()
        changed = 0
        for handler in handlers:
            if handler.options.schedule is not None:
                wanted, payload = _of_code(handler, handler.options.schedule)
                yield from self._register(handler.name, handler, record, wanted)
                stored = handler.stored(payload)
                changed += yield from self._store(handler.name, wanted, stored, record, registration.declare)
        return changed

    # -- what they share
    # ---------------------------------------------------------------------------------------

    def _register(self, name: str, handler: Handler, record: AppRecord, wanted: Definition) -> Flow[None]:
        """Make the type known where its runs will be, with the limits of its policy."""
        keys = self._rows.home(name, record, wanted)
        t, reference = type_keys(self._app, keys.shard, handler.name), importable(handler.reference)
        yield from registering.register(t, keys, reference, handler.options.policy())

    def _by_policy(self, wanted: Definition, payload: bytes, record: AppRecord) -> Flow[Definition]:
        """Return the definition with what the type's policy in Redis asks for. Raises UnknownTaskType for a
        type that no process has ever registered: its runs would wait for ever."""
        for keys in self._rows.shards(record):
            policy = yield from ask(question_calls.policy(type_keys(self._app, keys.shard, wanted.type)))
            if policy:
                return completed(self._app, wanted, policy, payload)
        raise UnknownTaskType(
            f"app {self._app!r} has no task type {wanted.type!r}, so nobody would run it: start a worker "
            "that has it"
        )

    def _told(self, verb: str, name: str, reason: str = "") -> Note:
        return note(self._by, verb, name, reason=reason) if self._by else NO_NOTE

    def _log(self, keys: ShardKeys, verb: str, name: str, done: int) -> Flow[None]:
        if self._by:
            yield from ask(schedule_calls.log_action(keys, done, note(self._by, verb, name)))


class Schedules(SyncFacade, Recurring, called="app.schedules", awaited="app.aschedules"):
    """The schedules of one app on one server. declared: the handlers of its code."""

    def __init__(
        self, transport: SyncTransport, app: str, shards: int = 1, *, declared: Declared | None = None
    ) -> None:
        super().__init__(transport, app, shards)
        self._declared = declared


class AsyncSchedules(AsyncFacade, Recurring):
    """As Schedules, for event loops: `await app.aschedules.pause("nightly")`."""

    def __init__(
        self, transport: AsyncSource, app: str, shards: int = 1, *, declared: Declared | None = None
    ) -> None:
        super().__init__(transport, app, shards)
        self._declared = declared


def declared(app: str, shards: int, handlers: Iterable[Handler]) -> Flow[int]:
    """Register what these handlers of an app declare."""
    return Recurring(app, shards)._declare(handlers)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def _of_call(app: str, rules: Schedule, task: BoundTask) -> Definition:
    """The definition of a call. Raises InvalidOption."""
    if not hasattr(task, "task") or not isinstance(task.handler, Handler):
        raise InvalidOption(f"task={task!r:.80}: write task.bind(...), or app.bound('name', {{...}})")
    new, route = task.task, task.route
    joins = joining.parts(new.joins)
    put_off = joins.get("unique") and joins["unique"]["conflict"] == DEBOUNCE
    throttled = new.key is not None and new.joins and new.key.name.startswith(throttle_name("", "")[:-1])
    placed = route is not None and route.shard_key is not None and "lane" not in joins
    if (new.due is not None and not put_off) or (new.key is not None and not throttled) or placed:
        raise InvalidOption(
            "the task of a schedule takes no delay, at, shard_key or idempotency_key: the "
            "schedule sets its times and its shard"
        )
    lock, home = (None, None) if route is None else (route.lock, route.shard_key)
    run = joining.of_run(joining.Joined(new, lock, home))
    fields = tuple((name, value if isinstance(value, str) else value.decode()) for name, value in new.fields)
    return defined(
        rules, task.handler.name, LETTER[new.priority], fields, _told(app, task), run, home or lock or ""
    )


def _told(app: str, task: BoundTask) -> bytes:
    """Return what the fingerprint of a definition has of the arguments: with a key ring only who has the ring
    can tell them from it."""
    name, stored = task.handler.name, task.task.payload
    raw = opened(stored, About(app, name, "payload"))
    secret = index_key(app)
    return envelope.digest(name, raw, secret) if secret else raw


def _of_code(handler: Handler, rules: Schedule) -> tuple[Definition, bytes]:
    """The definition that a handler declares, and its arguments, of which there are none."""
    policy, payload = handler.options, handler.payload((), {})
    lifetime = () if policy.expires is None else (("x", str(round(policy.expires * 1000))),)
    task = NewTask(payload, fields=lifetime)
    joined = joining.join(
        handler.name,
        task,
        joining.of_options(policy, handler.lock),
        payload,
        lock=handler.lock,
        secret=index_key(handler.app),
    )
    fields = tuple((name, str(value)) for name, value in joined.task.fields)
    run, home = joining.of_run(joined), joined.home or ""
    return defined(rules, handler.name, LETTER[policy.priority], fields, payload, run, home), payload

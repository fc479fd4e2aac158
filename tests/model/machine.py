"""Any order of steps on a real server, and the twin beside it that must agree after each.

Two producers, two workers, two daemons. Every call may be delivered again, at once or after newer ones
(`late`). Time is a key that the scripts read instead of TIME (see tests.variant), and leases age by as
much, so an hour passes in a step and every answer can be foretold to the millisecond.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamq import calls, codec
from streamq.errors import DecodeError, ServerError
from streamq.keys import GROUP
from streamq.model import (
    Accepted,
    BacklogFull,
    Cancelled,
    Completed,
    Delivery,
    Died,
    Entry,
    Expired,
    HandedBack,
    NewTask,
    Outcome,
    Priority,
    RateLimited,
    Retried,
    Settlement,
    TaskId,
)
from streamq.transport import Address, GroupMissing, SyncTransport
from tests.lua.shard import Shard
from tests.model.twin import LEASE, LETTERS, Policy, Twin
from tests.model.wire import Wire
from tests.variant import CLOCK

HOUR = 3_600_000
WORKERS = ("a", "b")
CALLS = 12
"""As many of the last calls may be delivered once more."""

Kind = Callable[[Delivery], Outcome]


def _failure(delivery: Delivery) -> bytes:
    return codec.add_failure(
        delivery.failures, attempt=delivery.attempt, at_ms=1, worker="w", error="E", message="m", traceback=""
    )


KINDS: list[Kind] = [
    lambda d: Completed(f'"{d.place}"'.encode(), 600_000),
    lambda d: Completed(b"", 0),
    lambda d: Retried(0, _failure(d)),
    lambda d: Retried(1, _failure(d)),
    lambda d: Retried(HOUR, _failure(d)),
    lambda d: Died("attempts", _failure(d)),
    lambda d: Cancelled(),
    lambda d: Cancelled(started=False),
    lambda d: Expired(),
    lambda d: HandedBack(),
    lambda d: HandedBack(started=True),
]


@dataclass(frozen=True)
class Held:
    """A delivery that some worker believes to hold. `readable`: it could be decoded."""

    delivery: Delivery
    consumer: str
    readable: bool = True


@dataclass
class DaemonState:
    """What one claimer remembers between two rounds: where it is, and what the clock said when."""

    cursors: dict[str, str]
    tidy: dict[str, str]
    clock: tuple[int, int] | None = None


class Protocol(RuleBasedStateMachine):
    """The steps. `url` is set by the test."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.transport = SyncTransport(Address.parse(self.url))
        self.transport.run(calls.Call(None, (), ("FLUSHALL",), lambda r: r))
        self.wire = Wire(self.transport)
        self.twin = Twin(Policy())
        self.held: list[Held] = []
        self.elapsed = 0
        self.daemons = [DaemonState(dict.fromkeys(LETTERS, "0-0"), dict.fromkeys(LETTERS, "-")) for _ in "12"]
        self.sent: deque[Callable[[], None]] = deque(maxlen=CALLS)
        self.remembered: dict[str, tuple[int, object]] = {}
        self.numbers = dict.fromkeys(("p1", "p2", *WORKERS), 0)

    @initialize(
        max_lost=st.sampled_from([1, 2, 3]),
        rate=st.sampled_from([None, None, None, (3, HOUR)]),
        backlog=st.sampled_from([None, None, None, 6]),
    )
    def begin(self, max_lost: int, rate: tuple[int, int] | None, backlog: int | None) -> None:
        self.twin.policy = Policy(max_lost, rate, backlog)
        self.shard = Shard(self.transport, self.twin.policy.stored())
        self.shard.run(calls.announce("shop", b'{"shards":1}'))
        self._set_time()

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None and hasattr(self, "shard"):
                self.drain()
        finally:
            self.wire.close()
            self.transport.close()

    # -- sending -----------------------------------------------------------------------------------------

    def _do(self, step: Callable[[], None], again: bool = False) -> None:
        """Make a call, twice where it is `again`; it may come once more, late."""
        step()
        if again:
            step()
        self.sent.append(step)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def late(self, data: st.DataObject) -> None:
        """A call that was sent before arrives again, behind newer ones."""
        self.sent[data.draw(st.integers(0, len(self.sent) - 1))]()

    def _numbered(self, writer: str) -> int:
        self.numbers[writer] += 1
        return self.numbers[writer]

    def _repeated(self, writer: str, number: int, send: Callable[[], object]) -> bool:
        """Whether this call is one that the server has seen: then its answer is the first one (I8), or it
        comes after a later one and is refused."""
        last, answer = self.remembered.get(writer, (0, None))
        if number > last:
            return False
        if number == last:
            assert send() == answer, "a repeated call got another answer"
            return True
        try:
            send()
        except ServerError as error:
            assert "STALE" in str(error)
            return True
        raise AssertionError("a call that came too late was carried out")

    def _place_fresh(self) -> None:
        """Ask where the entries are that the last call has made."""
        fresh, self.twin.fresh = self.twin.fresh, []
        for task, letter in fresh:
            located = self.shard.locate(task.local)
            assert (located.state, located.detail["stream"]) == ("ready", letter)
            place = letter + located.detail["entry"]
            assert place not in self.twin.streams[letter]
            assert place != task.local
            self.twin.placed(task, place)

    # -- producers ---------------------------------------------------------------------------------------

    @rule(
        writer=st.sampled_from(["p1", "p2"]),
        new=st.lists(
            st.tuples(
                st.sampled_from(["high", "normal", "low"]),
                st.sampled_from([None, None, (1, False), (HOUR, False), (-5, True), (HOUR, True)]),
                st.sampled_from([None, None, 5_000]),
            ),
            min_size=1,
            max_size=4,
        ),
        again=st.booleans(),
    )
    def enqueue(
        self,
        writer: str,
        new: list[tuple[Priority, tuple[int, bool] | None, int | None]],
        again: bool,
    ) -> None:
        tasks: list[NewTask] = []
        for n, (priority, when, lifetime) in enumerate(new):
            payload = b"%d.%d" % (len(self.twin.tasks), n)
            fields = () if lifetime is None else (("x", str(lifetime)),)
            due, absolute = when or (None, False)
            if due is not None and absolute:
                due += self.twin.now
            tasks.append(NewTask(payload, priority, due, absolute, fields))
        number = self._numbered(writer)
        self._do(lambda: self._enqueue(writer, number, tasks), again)

    def _enqueue(self, writer: str, number: int, tasks: list[NewTask]) -> None:
        def send() -> object:
            return self.shard.enqueue(*tasks, writer=writer, sequence=number)

        if self._repeated(writer, number, send):
            return
        room = self.twin.room()
        answers = send()
        assert isinstance(answers, list)
        for task, answer in zip(tasks, answers, strict=True):
            refusal = self.twin.refusal(room)
            if refusal is None:
                assert isinstance(answer, Accepted)
                self.twin.accept(task, answer.local)
                room -= 1
            else:
                assert answer == (BacklogFull() if refusal == "full" else RateLimited(int(refusal)))
        self.remembered[writer] = (number, answers)

    # -- workers -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.twin.of("ready"))
    @rule(
        consumer=st.sampled_from(WORKERS),
        budget=st.integers(1, 5),
        letters=st.sampled_from(["shnl", "shnl", "hnl", "slhn"]),
        lost=st.sampled_from([False, False, False, True]),
    )
    def fetch(self, consumer: str, budget: int, letters: str, lost: bool) -> None:
        """Where the reply is lost, the deliveries are in the group and in nobody's hands."""
        self._do(lambda: self._fetch(consumer, budget, letters, lost))

    def _fetch(self, consumer: str, budget: int, letters: str, lost: bool) -> None:
        sources = [calls.Source(self.shard.t, letter, 1 if letter == "s" else budget) for letter in letters]
        want = self.twin.fetch(consumer, budget, letters)
        try:
            _, parts = self.shard.run(calls.fetch(consumer, budget, sources))
        except GroupMissing:
            assert want is None
            return
        entries = [entry for _, listed in parts for entry in listed]
        assert [entry.place for entry in entries] == want
        self.held += [self._received(entry, consumer) for entry in entries if not lost]

    def _received(self, entry: Entry, consumer: str) -> Held:
        task = self.twin.tasks[self.twin.pending[entry.place].local]
        try:
            delivery = codec.decode("email", 0, entry)
        except DecodeError as error:
            assert (error.reason, task.readable) == ("foreign", False)
            return Held(Delivery("email", 0, entry.place, entry.place, b""), consumer, readable=False)
        assert task.readable
        got = (delivery.local, delivery.payload, delivery.attempt, delivery.lost, delivery.expires_ms)
        assert got == (task.local, task.payload, task.attempts + 1, task.lost, task.expires)  # I4
        assert delivery.accepted_ms == task.enqueued
        assert len(codec.failures(delivery.failures)) == task.failures
        return Held(delivery, consumer)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), again=st.booleans())
    def settle(self, data: st.DataObject, again: bool) -> None:
        """A worker settles what it holds or ever held; to some it will come too late."""
        consumer = data.draw(st.sampled_from(self.held)).consumer
        mine = [n for n, held in enumerate(self.held) if held.consumer == consumer]
        chosen = data.draw(st.lists(st.sampled_from(mine), min_size=1, max_size=4, unique=True))
        self._settle_held(data, consumer, [self.held[n] for n in chosen], again)

    @precondition(lambda self: self.twin.of("ready"))
    @rule(data=st.data(), consumer=st.sampled_from(WORKERS), budget=st.integers(1, 4))
    def work(self, data: st.DataObject, consumer: str, budget: int) -> None:
        """What a worker does all day: take some, and end them."""
        before = len(self.held)
        self._fetch(consumer, budget, "shnl", lost=False)
        if len(self.held) > before:
            self._settle_held(data, consumer, self.held[before:], again=False)

    def _settle_held(self, data: st.DataObject, consumer: str, chosen: list[Held], again: bool) -> None:
        items: dict[str, Settlement] = {}
        for held in chosen:
            kind = data.draw(st.sampled_from(KINDS)) if held.readable else _foreign
            delivery = held.delivery
            items[delivery.place] = Settlement(delivery.place, delivery.local, kind(delivery))
        number = self._numbered(consumer)
        self._do(lambda: self._settle(consumer, number, list(items.values())), again)

    def _settle(self, writer: str, number: int, items: list[Settlement]) -> None:
        def send() -> object:
            return self.shard.run(calls.settle(self.shard.t, self.shard.s, writer, number, items))

        if self._repeated(writer, number, send):
            return
        answer = send()
        want = self.twin.settle([(item.place, item.local, item.outcome) for item in items])
        assert answer == want, "a delivery that is not ours was settled, or one of ours was not"  # I3
        self.remembered[writer] = (number, answer)
        self._place_fresh()

    @precondition(lambda self: self.held)
    @rule(consumer=st.sampled_from(WORKERS))
    def renew(self, consumer: str) -> None:
        """A worker renews all that it ever had: only what is still its own is renewed."""
        mine = [(h.delivery.place, h.delivery.local) for h in self.held if h.consumer == consumer]
        self._do(lambda: self._renew(consumer, mine))

    def _renew(self, consumer: str, mine: list[tuple[str, str]]) -> None:
        renewal = self.shard.run(calls.renew(self.shard.t, consumer, mine))
        lost = self.twin.renew(consumer, [place for place, _ in mine])
        assert set(renewal.lost) == lost
        asked = {local for place, local in mine if place not in lost} & self.twin.cancels
        assert set(renewal.cancelled) == asked
        assert (renewal.now_ms, renewal.lease_ms) == (self.twin.now, LEASE)

    @precondition(lambda self: self.twin.pending)
    @rule(consumer=st.sampled_from(WORKERS))
    def recover(self, consumer: str) -> None:
        """After a failed read: a worker hands back what is its own and it never saw."""
        seen = {held.delivery.place for held in self.held if held.consumer == consumer}
        for letter in LETTERS:
            if letter not in self.twin.groups:
                continue
            places = self.shard.run(calls.pending(self.shard.t, letter, consumer, 1000))
            assert places == [
                p for p in self.twin.held_in(letter) if self.twin.pending[p].consumer == consumer
            ]
            unseen = [Settlement(place, place, HandedBack()) for place in places if place not in seen]
            if unseen:
                self._settle(consumer, self._numbered(consumer), unseen)

    # -- daemons -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.twin.due())
    @rule(limit=st.integers(1, 5))
    def promote(self, limit: int) -> None:
        self._do(lambda: self._promote(limit))

    def _promote(self, limit: int) -> None:
        promotion = self.shard.promote(limit)
        assert tuple(promotion) == (*self.twin.promote(limit), self.twin.now)
        self._place_fresh()

    @precondition(lambda self: self.twin.pending)
    @rule(data=st.data(), daemon=st.integers(0, 1), limit=st.integers(1, 3))
    def reclaim(self, data: st.DataObject, daemon: int, limit: int) -> None:
        """One step of one claimer's round; the other's may come between."""
        state = self.daemons[daemon]
        letter = data.draw(st.sampled_from(sorted({place[0] for place in self.twin.pending})))
        if letter in self.twin.groups:
            cursor, expected = state.cursors[letter], self._expected(state)
            state.clock = (self.twin.now, self.elapsed)
            state.cursors[letter] = self._reclaim(letter, cursor, limit, expected)
            self.sent.append(lambda: self._late_reclaim(letter, cursor, limit, expected))

    @precondition(lambda self: self.twin.pending)
    @rule(daemon=st.integers(0, 1), limit=st.integers(1, 3))
    def hosts_die(self, daemon: int, limit: int) -> None:
        """All workers are silent for a lease, and one daemon makes its round."""
        self.time_passes(LEASE)
        state = self.daemons[daemon]
        for letter in sorted(self.twin.groups):
            while True:
                expected = self._expected(state)
                state.clock = (self.twin.now, self.elapsed)
                state.cursors[letter] = self._reclaim(letter, state.cursors[letter], limit, expected)
                if state.cursors[letter] == "0-0" or self.twin.skewed(expected):
                    break

    def _expected(self, state: DaemonState) -> int:
        return 0 if state.clock is None else state.clock[0] + self.elapsed - state.clock[1]

    def _late_reclaim(self, letter: str, cursor: str, limit: int, expected: int) -> None:
        if letter in self.twin.groups:
            self._reclaim(letter, cursor, limit, expected)

    def _reclaim(self, letter: str, cursor: str, limit: int, expected: int) -> str:
        """Answers where to go on. After a clock jump nothing is touched and every lease is stamped anew."""
        reclaim = self.shard.reclaim(letter, cursor, limit, expected)
        assert reclaim.now_ms == self.twin.now
        assert reclaim.skew == self.twin.skewed(expected)
        if reclaim.skew:
            self._restamp()
            return cursor
        got = (reclaim.cursor, reclaim.returned, reclaim.dead, reclaim.cancelled)
        assert got == self.twin.reclaim(letter, cursor, limit)
        self._place_fresh()
        return reclaim.cursor

    def _restamp(self) -> None:
        for letter in self.twin.groups:
            cursor = "-"
            while cursor:
                last = self.shard.run(calls.restamp(self.shard.t.stream(letter), cursor, 2))
                cursor = f"({last}" if last else ""
            self.twin.restamp(letter)

    @precondition(lambda self: self.twin.tasks)
    @rule(
        chore=st.sampled_from(["repair", "repair", "groups", "sweep", "trim", "leave"]),
        letter=st.sampled_from(LETTERS),
        daemon=st.integers(0, 1),
        limit=st.integers(1, 3),
        consumer=st.sampled_from(WORKERS),
        gone_ms=st.sampled_from([0, HOUR]),
    )
    def housekeeping(
        self, chore: str, letter: str, daemon: int, limit: int, consumer: str, gone_ms: int
    ) -> None:
        """A janitor's chores, and a worker that takes its leave: of what is held, all stays as it is."""
        match chore:
            case "repair":
                self._tidy(daemon, letter, limit)
            case "groups":
                self._do(self._mend_groups)
            case "sweep":
                self.shard.run(calls.sweep(self.shard.t.stream(letter), self.shard.s, 0, 100))
            case "trim":
                self._do(lambda: self._trim(gone_ms))
            case "leave":
                self._do(lambda: self._leave(consumer))

    def _leave(self, consumer: str) -> None:
        self.shard.run(calls.leave(self.shard.s, consumer, self.shard.t.streams))

    def _tidy(self, daemon: int, letter: str, limit: int) -> None:
        tidy = self.daemons[daemon].tidy
        cursor = tidy[letter]
        tidy[letter] = self._repair(letter, cursor, limit) or "-"
        self.sent.append(lambda: self._late_repair(letter, cursor, limit))

    def _late_repair(self, letter: str, cursor: str, limit: int) -> None:
        self._repair(letter, cursor, limit)

    def _repair(self, letter: str, cursor: str, limit: int) -> str:
        answer = self.shard.run(calls.repair(self.shard.t, letter, cursor, limit))
        assert answer == self.twin.repair(letter, cursor, limit)
        self._place_fresh()
        return answer[0]

    def _mend_groups(self) -> None:
        missing = set(LETTERS) - self.twin.groups
        assert self.shard.run(calls.groups(self.shard.t.streams)) == len(missing)
        self.twin.groups |= missing

    def _trim(self, gone_ms: int) -> None:
        assert self.shard.run(calls.trim(self.shard.t, self.shard.s, gone_ms, HOUR, 100)) == self.twin.trim(
            gone_ms
        )

    # -- operators and callers -----------------------------------------------------------------------------

    @precondition(lambda self: self.twin.tasks)
    @rule(
        data=st.data(), what=st.sampled_from(["cancel", "cancel", "wait"]), wait_ms=st.sampled_from([1, HOUR])
    )
    def call(self, data: st.DataObject, what: str, wait_ms: int) -> None:
        """Somebody cancels a task, or asks to be told when it ends."""
        local = data.draw(st.sampled_from(list(self.twin.tasks)[-8:]))
        if what == "cancel":
            self._do(lambda: self._cancel(local))
        elif self.twin.tasks[local].state in ("ready", "running", "scheduled"):
            self.shard.run(calls.wait(self.shard.t, local, wait_ms))
            until = self.twin.now + wait_ms
            self.twin.waiters[local] = max(until, self.twin.waiters.get(local, until))

    def _cancel(self, local: str) -> None:
        answer = self.shard.run(calls.cancel(self.shard.t, self.shard.s, TaskId("email", 0, local)))
        assert answer == self.twin.cancel(local)

    @precondition(lambda self: self.twin.dead())
    @rule(limit=st.integers(1, 3), by_id=st.booleans(), back=st.booleans(), again=st.booleans())
    def move_dead(self, limit: int, by_id: bool, back: bool, again: bool) -> None:
        """Requeue or purge dead letters, by id or the oldest of those that died until now."""
        until = self.twin.now
        ids = [task.local for task in self.twin.dead()[-limit:]] if by_id else []
        if ids or not by_id:
            self._do(lambda: self._move_dead(ids, limit, until, back), again)

    def _move_dead(self, ids: list[str], limit: int, until: int, back: bool) -> None:
        build: Any = calls.requeue if back else calls.purge
        answer = self.shard.run(build(self.shard.t, limit, until, ids))
        chosen = ids or [task.local for task in self.twin.dead(until)[:limit]]
        moved = self.twin.requeue(chosen) if back else self.twin.purge(chosen)
        assert tuple(answer) == (moved, len(self.twin.dead(until)))
        self._place_fresh()

    # -- time ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.twin.tasks)
    @rule(ms=st.sampled_from([50_000, 300_000, 400_000, 1_100_000, HOUR]))
    def time_passes(self, ms: int) -> None:
        self.elapsed += ms
        self._move_time(ms)

    def _move_time(self, ms: int) -> None:
        self.twin.now += ms
        for held in self.twin.pending.values():
            held.since = min(held.since, self.twin.now)
        self._set_time()

    def _set_time(self) -> None:
        """The scripts' clock, and as much age for every delivery. (XCLAIM would forget one that was
        deleted, and Redis takes no time in the future: that a lease cannot run out for an hour after the
        clock was set back is not seen here.)"""
        now = self.twin.now
        aged: list[tuple[Any, ...]] = [("DEL", CLOCK), ("RPUSH", CLOCK, now // 1000, now % 1000 * 1000)]
        for place, held in self.twin.pending.items():
            if not held.deleted:
                claim = ("XCLAIM", self.shard.t.stream(place[0]), GROUP, held.consumer, 0, place[1:])
                aged.append((*claim, "IDLE", now - held.since, "JUSTID"))
        self.wire.ask(aged)

    # -- by hand, behind our back ----------------------------------------------------------------------------

    @precondition(lambda self: self.twin.tasks)
    @rule(
        data=st.data(),
        what=st.sampled_from(["xack", "xdel", "delconsumer", "group", "regroup", "scripts", "clock"]),
        letter=st.sampled_from(LETTERS),
        consumer=st.sampled_from(WORKERS),
    )
    def somebody_meddles(self, data: st.DataObject, what: str, letter: str, consumer: str) -> None:
        pending = sorted(self.twin.pending)
        entries = sorted(place for stream in self.twin.streams.values() for place in stream)
        match what:
            case "xack" if pending:
                self._stray_xack(data.draw(st.sampled_from(pending)))
            case "xdel" if entries:
                held = [place for place in entries if place in self.twin.pending]
                self._stray_xdel(data.draw(st.sampled_from(held or entries)))
            case "delconsumer" if letter in self.twin.groups:
                self._delete_consumer(letter, consumer)
            case "group" if letter in self.twin.groups:
                self._destroy_group(letter)
            case "regroup" if pending:  # what is in somebody's hands waits anew, or is handed over once more
                self._destroy_group(pending[0][0])
                self._mend_groups()
                if budget := data.draw(st.integers(0, 3)):
                    self._fetch(consumer, budget, pending[0][0], lost=False)
            case "scripts":
                self.shard.command("SCRIPT", "FLUSH")
            case "clock":  # no time passes
                self._move_time(data.draw(st.sampled_from([2 * HOUR, -HOUR])))

    def _destroy_group(self, letter: str) -> None:
        self.shard.command("XGROUP", "DESTROY", self.shard.t.stream(letter), GROUP)
        self.twin.destroy_group(letter)

    def _stray_xack(self, place: str) -> None:
        self.shard.command("XACK", self.shard.t.stream(place[0]), GROUP, place[1:])
        self.twin.forget(place)

    def _stray_xdel(self, place: str) -> None:
        self.shard.command("XDEL", self.shard.t.stream(place[0]), place[1:])
        self.twin.delete_entry(place)

    def _delete_consumer(self, letter: str, consumer: str) -> None:
        self.shard.command("XGROUP", "DELCONSUMER", self.shard.t.stream(letter), GROUP, consumer)
        for place in self.twin.held_in(letter):
            if self.twin.pending[place].consumer == consumer:
                self.twin.forget(place)

    # -- what must hold --------------------------------------------------------------------------------------

    @invariant()
    def the_server_agrees(self) -> None:
        """I1 to I7: the books, every task's place, the audit and the sizes of everything."""
        if not hasattr(self, "shard"):
            return
        t, tasks = self.shard.t, list(self.twin.tasks.values())
        located = [calls.locate(t, task.local) for task in tasks]
        audit = self._audit_calls()
        counts, sizes, *found = self.wire.run([calls.counts(t), calls.sizes(t), *audit, *located])
        self._books(counts)
        self._sizes(sizes)
        self._audit([problem for answer in found[: len(audit)] for problem in answer[-1]])
        found = found[len(audit) :]
        for task, where in zip(tasks, found, strict=True):
            assert where.state == (want := self.twin.located(task)), (
                f"{task.local}: {want}, not {where.state}"
            )
            assert where.result == task.result
            if where.state in ("ready", "running"):
                assert where.detail["stream"] + where.detail["entry"] == task.place
            if task.state == "dead":
                assert len(codec.failures(codec.fields_dict(where.fields).get("f", b""))) == task.failures

    def _books(self, counts: Any) -> None:
        twin = self.twin
        deleted = sum(held.deleted for held in twin.pending.values())
        assert counts.counters == {name: number for name, number in twin.counters.items() if number}
        assert counts.ready == len(twin.of("ready")) - deleted
        assert counts.running == len(twin.pending)
        assert counts.scheduled == len(twin.due())
        assert counts.dead == len(twin.dead())
        assert counts.imbalance == len(twin.of("destroyed")) + deleted
        assert counts.now_ms == twin.now

    def _sizes(self, sizes: calls.Sizes) -> None:
        twin = self.twin
        assert sizes.index == sum(task.indexed for task in twin.tasks.values())
        assert sizes.dead == sizes.letters == len(twin.dead())
        assert sizes.cancels == len(twin.cancels)
        assert sizes.waiters == len(twin.waiters)
        assert sizes.gone == sum(task.kept for task in twin.of("cancelled", "expired"))

    def _audit_calls(self) -> list[calls.Call[Any]]:
        t, asked = self.shard.t, []
        for letter in LETTERS:
            asked += [calls.audit_stream(t, letter, "-", 100), calls.audit_pending(t, letter, "-", 100)]
        return [*asked, calls.audit_schedule(t, 0, 100), calls.audit_dead(t, 0, 100)]

    def _audit(self, problems: calls.Problems) -> None:
        """The audit tells exactly what was done by hand and has not been mended."""
        want = [("delivered to nobody", place) for letter in LETTERS for place in self._visible_limbo(letter)]
        want += [("pending but deleted", place) for place, held in self.twin.pending.items() if held.deleted]
        assert sorted(problems) == sorted(want)

    def _visible_limbo(self, letter: str) -> list[str]:
        return self.twin.limbo(letter) if letter in self.twin.groups else []

    # -- the end ---------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """I9: with one worker and one daemon alive, every task that is due ends."""
        for _ in range(5):
            self._mend_groups()
            self.time_passes(10 * HOUR)
            for letter in LETTERS:
                while self._repair(letter, "-", 100):
                    pass
                cursor = "0-0"
                while (cursor := self._reclaim(letter, cursor, 100, 0)) != "0-0":
                    pass
            while self.twin.due():
                self._promote(100)
            while True:
                before = len(self.held)
                self._fetch("last", 100, "shnl", lost=False)
                if len(self.held) == before:
                    break
                for held in self.held[before:]:
                    kind = KINDS[0] if held.readable else _foreign
                    item = Settlement(held.delivery.place, held.delivery.local, kind(held.delivery))
                    self._settle("last", self._numbered_last(), [item])
            self.the_server_agrees()
        assert self.twin.of("ready", "running", "scheduled") == []
        assert self.twin.counters["accepted"] == len(
            self.twin.of("completed", "dead", "cancelled", "expired", "purged", "destroyed")
        )

    def _numbered_last(self) -> int:
        self.numbers.setdefault("last", 0)
        return self._numbered("last")


def _foreign(_: Delivery) -> Outcome:
    history = codec.add_failure(b"", attempt=0, at_ms=1, worker="w", error="E", message="m", traceback="")
    return Died("foreign", history, started=False)

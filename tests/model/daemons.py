"""Daemons that promote, reclaim, tidy and make the runs of a schedule; operators and callers that cancel,
requeue and purge."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from streamq.calls import daemon as daemon_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import schedule as schedule_calls
from streamq.calls import worker as worker_calls
from streamq.calls.schedule import Beside, Mode
from streamq.model.reply import Moved
from streamq.model.task import NewTask
from streamq.schedules import state
from streamq.schedules.plan import Move
from tests.model.base import HOUR, NIGHTLY, WORKERS, DaemonState
from tests.model.books import LEASE, LETTERS
from tests.model.workers import WorkerSteps


class DaemonSteps(WorkerSteps):
    """Promote, reclaim, restamp, repair, sweep, trim, mend, make runs; cancel, wait, requeue, purge."""

    # -- daemons ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.twin.due())
    @rule(limit=st.integers(1, 5))
    def promote(self, limit: int) -> None:
        self._do(lambda: self._promote(limit))

    def _promote(self, limit: int) -> None:
        promotion = self.shard.promote(limit)
        assert tuple(promotion) == (*self.twin.promote(limit), self.twin.now)
        self._place_fresh()

    @precondition(lambda self: self.twin.expiring)
    @rule(limit=st.integers(1, 3))
    def expire(self, limit: int) -> None:
        self._do(lambda: self._expire(limit))

    def _expire(self, limit: int) -> None:
        assert self.shard.run(daemon_calls.expire(self.shard.t, limit)) == self.twin.expire(limit)
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
        self._pass(LEASE)
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
        want = self.twin.reclaim(letter, cursor, limit)
        assert got == want, (got, want, letter, cursor, limit)
        self._place_fresh()
        return reclaim.cursor

    def _restamp(self) -> None:
        for letter in self.twin.groups:
            cursor = "-"
            while cursor:
                last = self.shard.run(daemon_calls.restamp(self.shard.t.stream(letter), cursor, 2))
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
                self.shard.run(daemon_calls.sweep(self.shard.t.stream(letter), self.shard.s, 0, 100))
            case "trim":
                self._do(lambda: self._trim(gone_ms))
            case _:
                self._do(lambda: self._leave(consumer))

    def _leave(self, consumer: str) -> None:
        self.shard.run(worker_calls.leave(self.shard.s, consumer, self.shard.t.streams))
        self.twin.beats.pop(consumer, None)

    @precondition(lambda self: self.twin.tasks)
    @rule(consumer=st.sampled_from(WORKERS), lease=st.sampled_from([LEASE // 2, 2 * LEASE]))
    def beat(self, consumer: str, lease: int) -> None:
        """A worker that renews under another lease than the policy's says so."""
        self._do(lambda: self._beat(consumer, lease))

    def _beat(self, consumer: str, lease: int) -> None:
        self.shard.run(worker_calls.beat(self.shard.s, consumer, b'{"lease_ms":%d}' % lease))
        self.twin.beat(consumer, lease)

    def _tidy(self, daemon: int, letter: str, limit: int) -> None:
        tidy = self.daemons[daemon].tidy
        cursor = tidy[letter]
        tidy[letter] = self._repair(letter, cursor, limit) or "-"
        self.sent.append(lambda: self._late_repair(letter, cursor, limit))

    def _late_repair(self, letter: str, cursor: str, limit: int) -> None:
        self._repair(letter, cursor, limit)

    def _repair(self, letter: str, cursor: str, limit: int) -> str:
        answer = self.shard.run(daemon_calls.repair(self.shard.t, letter, cursor, limit))
        assert answer == self.twin.repair(letter, cursor, limit)
        self._place_fresh()
        return answer[0]

    def _mend_groups(self) -> None:
        missing = set(LETTERS) - self.twin.groups
        assert self.shard.run(worker_calls.groups(self.shard.t.streams)) == len(missing)
        self.twin.groups |= missing

    def _trim(self, gone_ms: int) -> None:
        trimmed = self.shard.run(daemon_calls.trim([self.shard.t], self.shard.s, gone_ms, HOUR, 100))
        assert trimmed == self.twin.trim(gone_ms, HOUR)

    # -- schedules -------------------------------------------------------------------------------------

    @rule(overlap=st.sampled_from(get_args(Beside)), waiting=st.booleans(), again=st.booleans())
    def a_schedule_is_due(self, overlap: Beside, waiting: bool, again: bool) -> None:
        """A daemon makes its run, or that which waits; others that saw the same come too late."""
        seen = self.twin.recurring
        revision, run = seen.revision, seen.waiting if waiting else seen.next
        if run is not None:
            score = self._score(waiting=waiting)
            self._do(lambda: self._tick(revision, score, run, overlap, waiting=waiting), again)

    def _score(self, *, waiting: bool) -> str:
        member = "nightly:waiting" if waiting else "nightly"
        return str(self.shard.command("ZSCORE", self.shard.s.schedules_due, member).decode())

    def _tick(self, revision: int, score: str, run: int, overlap: Beside, *, waiting: bool) -> None:
        following = None if waiting else run + HOUR
        move = Move(run, 0, run, following, following)
        mode: Mode = "waiting" if waiting else "tick"
        if waiting and overlap != "end_first":
            overlap = "queue_one"
        answer = self.shard.run(
            schedule_calls.tick(
                self.shard.t, self.shard.s, mode, "nightly", revision, score, move, overlap, NIGHTLY
            )
        )
        want = self.twin.tick(revision, run, following, overlap)
        if want == "made":
            assert answer.outcome == "made"
            self.twin.accept(NewTask(b"{}"), answer.detail)
            self.twin.recurring.run = answer.detail
            self.twin.recurring.runs += 1
        else:
            assert want in (answer.outcome, answer.detail)
        self._schedule_agrees()

    def _schedule_agrees(self) -> None:
        found = state.read(self.shard.run(schedule_calls.read(self.shard.s, "nightly")).state)
        assert found is not None
        twin = self.twin.recurring
        assert (found.revision, found.next, found.last, found.run, found.runs, found.waiting) == (
            twin.revision, twin.next, twin.last, twin.run, twin.runs, twin.waiting,
        )  # fmt: skip
        assert found.skipped == dict(twin.skipped)
        rows = self.shard.command("ZRANGE", self.shard.s.schedules_due, 0, -1)
        assert sorted(rows) == [b"nightly", *([b"nightly:waiting"] if twin.waiting is not None else [])]

    # -- operators and callers --------------------------------------------------------------------------

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
            self.shard.run(producer_calls.wait(self.shard.t, local, wait_ms))
            until = self.twin.now + wait_ms
            self.twin.waiters[local] = max(until, self.twin.waiters.get(local, until))

    @precondition(lambda self: self.twin.dead())
    @rule(limit=st.integers(1, 3), by_id=st.booleans(), back=st.booleans(), again=st.booleans())
    def move_dead(self, limit: int, by_id: bool, back: bool, again: bool) -> None:
        """Requeue or purge dead letters, by id or the oldest of those that died until now."""
        until = self.twin.now
        ids = [task.local for task in self.twin.dead()[-limit:]] if by_id else []
        if ids or not by_id:
            self._do(lambda: self._move_dead(ids, limit, until, back), again)

    def _move_dead(self, ids: list[str], limit: int, until: int, back: bool) -> None:
        build: Any = operator_calls.requeue if back else operator_calls.purge
        answer = self.shard.run(build(self.shard.t, limit, until, ids))
        chosen = ids or [task.local for task in self.twin.dead(until)[:limit]]
        dead = [local for local in chosen if self.twin.tasks[local].state == "dead"]
        moved, held = self.twin.requeue(chosen) if back else (self.twin.purge(chosen), [])
        # Who names them knows how many: only who takes all is told what is left.
        left = 0 if ids else len(self.twin.dead(until))
        assert answer == Moved(moved, left, len(dead) - moved, tuple(held))
        self._place_fresh()

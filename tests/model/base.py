"""What every step of the machine shares: the server and its twin, calls that may come again, the checks.

Two producers, two workers, two daemons. Every call may be delivered again, at once or after newer ones
(`late`). Time is a key that the scripts read instead of TIME (see tests.variant), and leases age by as
much, so an hour passes in a step and every answer can be foretold to the millisecond.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamq import envelope
from streamq.calls import audit as audit_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls import schedule as schedule_calls
from streamq.calls.call import Call
from streamq.calls.locate import locate
from streamq.errors import ServerError
from streamq.keys import GROUP
from streamq.model.delivery import Delivery
from streamq.options.schedule import Every, Schedule
from streamq.schedules.definition import Definition
from streamq.schedules.state import State
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.lua.shard import Shard
from tests.model.books import LETTERS, Policy
from tests.model.locks import digest
from tests.model.twin import Twin
from tests.model.wire import Wire
from tests.variant import CLOCK

HOUR = 3_600_000
WORKERS = ("a", "b")
NIGHTLY = Definition(Schedule(Every("1h")), "email")
CALLS = 12
"""As many of the last calls may be delivered once more."""


@dataclass(frozen=True)
class Held:
    """A delivery that some worker believes to hold."""

    delivery: Delivery
    consumer: str


@dataclass
class DaemonState:
    """What one claimer remembers between two rounds: where it is, and what the clock said when."""

    cursors: dict[str, str]
    tidy: dict[str, str]
    clock: tuple[int, int] | None = None


class Base(RuleBasedStateMachine):
    """The server, the twin, what was sent, and what must hold. `url` is set by the test."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.transport = SyncTransport(Address.parse(self.url))
        self.transport.run(Call(None, (), ("FLUSHALL",), lambda r: r))
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
        self._set_time()
        self.shard = Shard(self.transport, self.twin.policy.stored())
        self.shard.run(producer_calls.announce("shop", 1))
        first = self.twin.recurring.next = self.twin.now + HOUR
        stands = State(revision=1, next=first).stored()
        self.shard.run(
            schedule_calls.write(self.shard.s, "nightly", 0, stands, first, NIGHTLY.stored(), b"{}")
        )

    # -- sending ----------------------------------------------------------------------------------------

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

    # -- time ------------------------------------------------------------------------------------------

    def _pass(self, ms: int) -> None:
        self.elapsed += ms
        self._move_time(ms)

    def _move_time(self, ms: int) -> None:
        self.twin.now += ms
        for held in self.twin.pending.values():
            # Nothing can change the age of a delivery whose entry was deleted.
            held.since = held.since + ms if held.deleted else min(held.since, self.twin.now)
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

    # -- what must hold ---------------------------------------------------------------------------------

    @invariant()
    def the_server_agrees(self) -> None:
        """I1 to I7: the books, every task's place, the audit and the sizes of everything."""
        if not hasattr(self, "shard"):
            return
        t, tasks = self.shard.t, list(self.twin.tasks.values())
        located = [locate(t, task.local) for task in tasks]
        audit = self._audit_calls()
        counts, sizes, (_, leftovers), faults, *found = self.wire.run(
            [
                question_calls.counts(t),
                question_calls.sizes(t),
                audit_calls.audit_rows(t, "unique", [digest(key) for key in self.twin.unique]),
                audit_calls.audit_places(t, self._places()),
                *audit,
                *located,
            ]
        )
        self._books(counts)
        self._sizes(sizes)
        self._audit(faults, [place for walked in found[: len(audit)] for place in walked.suspects])
        assert [fault.where for fault in leftovers] == [digest(key) for key in self.twin.leftovers()]
        found = found[len(audit) :]
        for task, where in zip(tasks, found, strict=True):
            assert where.state == (want := self.twin.located(task)), (
                f"{task.local}: {want}, not {where.state}"
            )
            assert where.result == task.result
            if where.state in ("ready", "running"):
                assert where.detail["stream"] + where.detail["entry"] == task.place, (where, task)
                assert int(envelope.fields_dict(where.fields).get("a", b"0")) == task.attempts
            if task.state == "dead":
                assert (
                    len(envelope.failures(envelope.fields_dict(where.fields).get("f", b""))) == task.failures
                )

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

    def _sizes(self, sizes: question_calls.Sizes) -> None:
        twin = self.twin
        assert sizes.index == sum(task.indexed for task in twin.tasks.values())
        assert sizes.dead == sizes.letters == sizes.groups == len(twin.dead())
        assert sizes.cancels == len(twin.cancels)
        assert sizes.waiters == len(twin.waiters)
        assert sizes.expiring == len(twin.expiring)
        assert sizes.gone == len(twin.gone())
        assert sizes.unique == len(twin.unique)
        assert sizes.after == len(twin.after)

    def _places(self) -> list[str]:
        return [place for letter in LETTERS for place in self.twin.streams[letter]] + [
            task.place for task in self.twin.due()
        ]

    def _audit_calls(self) -> list[Call[audit_calls.Walked]]:
        t, asked = self.shard.t, [audit_calls.audit_schedule(self.shard.t, "", 100)]
        asked.append(audit_calls.audit_letters(t, "", 100))
        for letter in LETTERS:
            asked += [
                audit_calls.audit_stream(t, letter, "-", 100),
                audit_calls.audit_pending(t, letter, "-", 100, HOUR),
            ]
        return asked

    def _audit(self, faults: list[audit_calls.Fault], suspects: list[str]) -> None:
        """The audit tells exactly what was done by hand and has not been mended."""
        limbo = [place for letter in LETTERS for place in self._visible_limbo(letter)]
        deleted = [place for place, held in self.twin.pending.items() if held.deleted]
        assert sorted(faults) == sorted(audit_calls.Fault("undelivered", place) for place in limbo)
        assert sorted(suspects) == sorted([*limbo, *deleted])

    def _visible_limbo(self, letter: str) -> list[str]:
        return self.twin.limbo(letter) if letter in self.twin.groups else []

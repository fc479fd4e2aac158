"""Producers that enqueue, workers that fetch, renew and settle, some of them too late."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from streamq import envelope
from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
from streamq.keys import GROUP
from streamq.model.delivery import Delivery, Entry
from streamq.model.outcome import (
    Cancelled,
    Completed,
    Died,
    Expired,
    HandedBack,
    Outcome,
    Retried,
    Settlement,
)
from streamq.model.task import Accepted, NewTask, Priority, TaskId
from streamq.options.unique_plan import DEBOUNCE
from streamq.transport.faults import GroupMissing
from tests.model.base import HOUR, WORKERS, Base, Held
from tests.model.books import LEASE, LETTERS, order
from tests.model.locks import Ask, refusal_of

AT_ONCE = 10_000
"""ms of the real clock, far less than any step of the model's."""

ASKS = st.sampled_from([
    *(7 * [None]),
    *(Ask("a", conflict) for conflict in ("return", "raise", "replace", "reschedule", "after", "after")),
    *(Ask("b", conflict, started=True) for conflict in ("return", "replace", "replace")), Ask("b", "after"),
    Ask("c", DEBOUNCE, started=True, max_wait_ms=HOUR // 2), Ask("c", DEBOUNCE, started=True),
    *(2 * [Ask("d", trailing_ms=HOUR)]), Ask("b", "replace", supersede=True),
])  # fmt: skip
"""What a task asks for: mostly no lock."""
AGAIN = st.sampled_from([
    *(Ask("b", conflict, started=True) for conflict in ("return", "replace")),
    *(Ask("b", conflict) for conflict in ("replace", "after")),
    Ask("d", trailing_ms=HOUR), Ask("b", "replace", supersede=True),
    Ask("b", "replace", started=True, supersede=True),
])  # fmt: skip
"""What tasks of one key ask for that meet."""

Kind = Callable[[Delivery], Outcome]


def _failure(delivery: Delivery) -> bytes:
    return envelope.add_failure(
        delivery.failures, attempt=delivery.attempt, at_ms=1, worker="w", error="E", message="m", traceback=""
    )


KINDS: list[Kind] = [
    *(2 * [lambda d: Completed(f'"{d.place}"'.encode(), 600_000)]),
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


class WorkerSteps(Base):
    """Enqueue, fetch, renew, settle, recover."""

    # -- producers --------------------------------------------------------------------------------------

    @rule(
        writer=st.sampled_from(["p1", "p2"]),
        new=st.lists(
            st.tuples(
                st.sampled_from(["high", "normal", "low"]),
                st.sampled_from([None, None, (1, False), (HOUR, False), (-5, True), (HOUR, True)]),
                st.sampled_from([None, None, 5_000]),
                ASKS,
            ),
            min_size=1,
            max_size=4,
        ),
        again=st.booleans(),
    )
    def enqueue(
        self,
        writer: str,
        new: list[tuple[Priority, tuple[int, bool] | None, int | None, Ask | None]],
        again: bool,
    ) -> None:
        tasks: list[NewTask] = []
        for n, (priority, when, lifetime, ask) in enumerate(new):
            payload = b"%d.%d" % (len(self.twin.tasks), n)
            fields = () if lifetime is None else (("x", str(lifetime)),)
            due, absolute = when or (None, False)
            if due is not None and absolute:
                due += self.twin.now
            task = NewTask(payload, priority, due, absolute, fields)
            tasks.append(task if ask is None else ask.joined(task))
        number, asks = self._numbered(writer), [ask for *_, ask in new]
        self._do(lambda: self._enqueue(writer, number, tasks, asks), again)

    def _enqueue(self, writer: str, number: int, tasks: list[NewTask], asks: list[Ask | None]) -> None:
        def send() -> object:
            return self.shard.enqueue(*tasks, writer=writer, sequence=number)

        if self._repeated(writer, number, send):
            return
        room = self.twin.room()
        answers = send()
        assert isinstance(answers, list)
        for task, ask, answer in zip(tasks, asks, answers, strict=True):
            refused = refusal_of(self.twin.refusal(room))
            want = None if ask is None else self.twin.conflict(task, ask, refused)
            if want in (None, "new") and (want or not refused):
                assert isinstance(answer, Accepted)
                if ask is not None and ask.trailing_ms and want == "new":
                    late = self.twin.now + ask.trailing_ms - order(answer.local)[0]
                    assert 0 <= late <= AT_ONCE, "a throttle's last call is not due at the interval's end"
                self.twin.accept(task, answer.local, ask, follows=want == "new")
                room -= 1
            else:
                assert answer == (want or refused)
        self.remembered[writer] = (number, answers)
        self._place_fresh()

    @rule(data=st.data(), asks=st.lists(AGAIN, min_size=2, max_size=3), consumer=st.sampled_from(WORKERS))
    def call_again(self, data: st.DataObject, asks: list[Ask], consumer: str) -> None:
        """A key is called, a worker begins its task, it is called again; then one of what is begun ends."""
        for ask in asks:
            task = ask.joined(NewTask(b"%d.again" % len(self.twin.tasks)))
            self._enqueue("p1", self._numbered("p1"), [task], [ask])
            self._fetch(consumer, 3, "shnl", lost=False, alone=False)
        if mine := [held for held in self.held if held.consumer == consumer and self._holds(held)]:
            self._settle_held(data, consumer, [data.draw(st.sampled_from(mine))], again=False)

    # -- workers ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.twin.of("ready"))
    @rule(
        consumer=st.sampled_from(WORKERS),
        budget=st.integers(1, 5),
        letters=st.sampled_from(["shnl", "shnl", "hnl", "slhn"]),
        lost=st.sampled_from([False, False, False, True]),
        alone=st.sampled_from([False, False, True]),
    )
    def fetch(self, consumer: str, budget: int, letters: str, lost: bool, alone: bool) -> None:
        """Where the reply is lost, the deliveries are in the group and in nobody's hands."""
        self._do(lambda: self._fetch(consumer, budget, letters, lost=lost, alone=alone))

    def _fetch(self, consumer: str, budget: int, letters: str, *, lost: bool, alone: bool) -> None:
        sources = [worker_calls.Source(self.shard.t, letter, budget) for letter in letters]
        want = self.twin.fetch(consumer, budget, letters, alone=alone)
        try:
            _, parts = self.shard.run(worker_calls.fetch(consumer, budget, sources, alone=alone))
        except GroupMissing:
            assert want is None
            return
        entries = [entry for _, listed in parts for entry in listed]
        assert [entry.place for entry in entries] == want
        self.held += [self._received(entry, consumer) for entry in entries if not lost]

    def _received(self, entry: Entry, consumer: str) -> Held:
        task = self.twin.tasks[self.twin.pending[entry.place].local]
        delivery = envelope.decode("email", 0, entry)
        assert task.readable
        got = (delivery.local, delivery.payload, delivery.attempt, delivery.lost, delivery.expires_ms)
        assert got == (task.local, task.payload, task.attempts + 1, task.lost, task.expires)  # I4
        assert delivery.accepted_ms == task.enqueued
        assert len(envelope.failures(delivery.failures)) == task.failures
        return Held(delivery, consumer)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), again=st.booleans(), cancel=st.booleans(), plain=st.booleans())
    def settle(self, data: st.DataObject, again: bool, cancel: bool, plain: bool) -> None:
        """A worker settles what it holds or ever held; to some it will come too late. Somebody may have asked
        just before that one of these be cancelled. plain: all complete, and go together."""
        consumer = data.draw(st.sampled_from(self.held)).consumer
        mine = [n for n, held in enumerate(self.held) if held.consumer == consumer]
        chosen = data.draw(st.lists(st.sampled_from(mine), min_size=1, max_size=4, unique=True))
        if cancel:
            local = self.held[chosen[0]].delivery.local
            self._do(lambda: self._cancel(local))
        kinds = KINDS[:1] if plain else KINDS
        self._settle_held(data, consumer, [self.held[n] for n in chosen], again, kinds)

    @precondition(lambda self: self.twin.of("ready"))
    @rule(data=st.data(), consumer=st.sampled_from(WORKERS), budget=st.integers(1, 4))
    def work(self, data: st.DataObject, consumer: str, budget: int) -> None:
        """What a worker does all day: take some, and end them."""
        before = len(self.held)
        self._fetch(consumer, budget, "shnl", lost=False, alone=False)
        if len(self.held) > before:
            self._settle_held(data, consumer, self.held[before:], again=False)

    def _settle_held(
        self, data: st.DataObject, consumer: str, chosen: list[Held], again: bool, kinds: list[Kind] = KINDS
    ) -> None:
        items: dict[str, Settlement] = {}
        for held in chosen:
            kind = data.draw(st.sampled_from(kinds))
            delivery = held.delivery
            rich = delivery.claims != b""
            items[delivery.place] = Settlement(
                delivery.place, delivery.local, kind(delivery), rich, (), delivery.claims
            )
        number = self._numbered(consumer)
        self._do(lambda: self._settle(consumer, number, list(items.values())), again)

    def _settle(self, writer: str, number: int, items: list[Settlement]) -> None:
        def send() -> object:
            return self.shard.run(worker_calls.settle(self.shard.t, self.shard.s, writer, number, items))

        if self._repeated(writer, number, send):
            return
        answer = send()
        want = self.twin.settle(items)
        assert answer == want, "a delivery that is not ours was settled, or one of ours was not"  # I3
        self.remembered[writer] = (number, answer)
        self._place_fresh()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), consumer=st.sampled_from(WORKERS), cancel=st.booleans())
    def renew(self, data: st.DataObject, consumer: str, cancel: bool) -> None:
        """A worker renews all that it ever had: only what is still its own is renewed. Somebody may have
        asked just before that one of these be cancelled."""
        running = [held for held in self.held if held.consumer == consumer and self._holds(held)]
        if cancel and running:
            local = data.draw(st.sampled_from(running)).delivery.local
            self._do(lambda: self._cancel(local))
        mine = [(h.delivery.place, h.delivery.local) for h in self.held if h.consumer == consumer]
        self._do(lambda: self._renew(consumer, mine))

    def _holds(self, held: Held) -> bool:
        there = self.twin.pending.get(held.delivery.place)
        return there is not None and there.consumer == held.consumer

    def _cancel(self, local: str) -> None:
        answer = self.shard.run(producer_calls.cancel(self.shard.t, self.shard.s, TaskId("email", 0, local)))
        assert answer == self.twin.cancel(local)
        self._place_fresh()

    def _renew(self, consumer: str, mine: list[tuple[str, str]]) -> None:
        renewal = self.shard.run(worker_calls.renew(self.shard.t, consumer, mine))
        lost = self.twin.renew(consumer, mine)
        assert set(renewal.fenced) == lost
        asked = {local for place, local in mine if place not in lost} & self.twin.cancels
        assert set(renewal.cancelled) == asked
        assert (renewal.now_ms, renewal.lease_ms) == (self.twin.now, LEASE)
        self._place_fresh()
        for place, _ in mine:
            if place not in lost:
                assert self._idle_ms(place) < AT_ONCE

    def _idle_ms(self, place: str) -> int:
        """How long ago the server thinks that a delivery was given or renewed."""
        asked = ("XPENDING", self.shard.t.stream(place[0]), GROUP, place[1:], place[1:], 1)
        row = self.shard.command(*asked)[0]
        return int(row[2])

    @precondition(lambda self: self.twin.pending)
    @rule(consumer=st.sampled_from(WORKERS))
    def recover(self, consumer: str) -> None:
        """After a failed read: a worker hands back what is its own and it never saw."""
        seen = {held.delivery.place for held in self.held if held.consumer == consumer}
        for letter in LETTERS:
            if letter not in self.twin.groups:
                continue
            places = self.shard.run(worker_calls.pending(self.shard.t, letter, consumer, 1000))
            assert places == [
                p for p in self.twin.held_in(letter) if self.twin.pending[p].consumer == consumer
            ]
            lost_replies = [
                Settlement(place, place, HandedBack(), rich=True) for place in places if place not in seen
            ]
            if lost_replies:
                self._settle(consumer, self._numbered(consumer), lost_replies)

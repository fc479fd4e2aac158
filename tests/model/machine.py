"""The whole protocol as a state machine: all steps, time, what somebody does by hand, and the end."""

from __future__ import annotations

import sys

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from streamq.calls import audit as audit_calls
from streamq.keys import GROUP
from streamq.model.outcome import Settlement
from tests.model.base import HOUR, WORKERS
from tests.model.books import LEASE, LETTERS, order
from tests.model.daemons import DaemonSteps
from tests.model.locks import FOLLOWS, digest
from tests.model.workers import KINDS

SIMILAR = st.sampled_from([KINDS[:3], KINDS])
"""Ends of one kind are settled together, by a way of their own."""


class Protocol(DaemonSteps):
    """Any order of steps on a real server, and the twin beside it that must agree after each."""

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None and hasattr(self, "shard"):
                self.drain()
        finally:
            self.wire.close()
            self.transport.close()

    @precondition(lambda self: self.twin.tasks)
    @rule(ms=st.sampled_from([50_000, 300_000, 400_000, 1_100_000, HOUR]))
    def time_passes(self, ms: int) -> None:
        self._pass(ms)

    # -- by hand, behind our back -----------------------------------------------------------------------

    @precondition(lambda self: self.twin.tasks)
    @rule(
        data=st.data(),
        what=st.sampled_from(
            ["xack", "xdel", "delconsumer", "group", "regroup", "regroup", "scripts", "clock"]
        ),
        letter=st.sampled_from(LETTERS),
        consumer=st.sampled_from(WORKERS),
        unaware=st.sampled_from(["", "settle", "renew"]),
    )
    def somebody_meddles(
        self, data: st.DataObject, what: str, letter: str, consumer: str, unaware: str
    ) -> None:
        """By hand; and workers that know nothing of it may go on at once to settle or renew what they had."""
        had = [held for held in self.held if self._holds(held)]
        self._meddle(data, what, letter, consumer)
        mine = [held for held in had if held.consumer == consumer]
        if unaware == "renew":
            for worker in WORKERS:
                self._renew(
                    worker, [(h.delivery.place, h.delivery.local) for h in had if h.consumer == worker]
                )
        if unaware == "settle" and mine:
            chosen = data.draw(st.lists(st.sampled_from(mine), min_size=1, max_size=4, unique=True))
            self._settle_held(data, consumer, chosen, again=False, kinds=data.draw(SIMILAR))

    def _meddle(self, data: st.DataObject, what: str, letter: str, consumer: str) -> None:
        pending = sorted(self.twin.pending)
        entries = sorted(place for stream in self.twin.streams.values() for place in stream)
        match what:
            case "xack" if pending:
                self._stray_xack(data.draw(st.sampled_from(pending)))
            case "xdel" if entries:
                held = [place for place in entries if place in self.twin.pending]
                moved = [place for place in held if self.twin.pending[place].local != place]
                found_again = bool(moved) and data.draw(st.sampled_from([True, False]))
                locked = [place for place in held if self._locked(place)]
                with_lock = bool(locked) and data.draw(st.booleans())
                which = locked if with_lock else moved if found_again else held or entries
                place = data.draw(st.sampled_from(which))
                self._stray_xdel(place, data.draw(st.booleans()))
                self._ghost(place, renewed=data.draw(st.booleans()))
            case "delconsumer" if letter in self.twin.groups:
                self._delete_consumer(letter, consumer)
            case "group" if letter in self.twin.groups:
                self._destroy_group(letter)
            case "regroup" if pending:  # what is in somebody's hands waits anew, or is handed over once more
                self._destroy_group(pending[0][0])
                self._mend_groups()
                if budget := data.draw(st.sampled_from([0, 0, 1, 3])):
                    self._fetch(consumer, budget, pending[0][0], lost=False, alone=False)
            case "scripts":
                self.shard.command("SCRIPT", "FLUSH")
            case "clock":  # no time passes
                self._move_time(data.draw(st.sampled_from([2 * HOUR, -HOUR])))
            case _:  # there is nothing to spoil
                pass

    def _locked(self, place: str) -> bool:
        """Whether a delivery's task holds the lock of a unique key."""
        task = self.twin.tasks[self.twin.pending[place].local]
        return bool(task.lock) and self.twin.unique.get(task.lock) == task.local

    def _destroy_group(self, letter: str) -> None:
        self.shard.command("XGROUP", "DESTROY", self.shard.t.stream(letter), GROUP)
        self.twin.destroy_group(letter)

    def _stray_xack(self, place: str) -> None:
        self.shard.command("XACK", self.shard.t.stream(place[0]), GROUP, place[1:])
        self.twin.forget(place)

    def _stray_xdel(self, place: str, abandoned: bool) -> None:
        """Afterwards nothing can make a delivery older, so one that is to be abandoned is old before."""
        if abandoned and place in self.twin.pending:
            self.twin.pending[place].since = self.twin.now - LEASE
            self._set_time()
        self.shard.command("XDEL", self.shard.t.stream(place[0]), place[1:])
        self.twin.delete_entry(place)

    def _ghost(self, place: str, *, renewed: bool) -> None:
        """Who holds what was deleted may be the first to meet it."""
        there = self.twin.pending.get(place)
        if renewed and there is not None:
            self._renew(there.consumer, [(place, there.local)])

    def _delete_consumer(self, letter: str, consumer: str) -> None:
        self.shard.command("XGROUP", "DELCONSUMER", self.shard.t.stream(letter), GROUP, consumer)
        for place in self.twin.held_in(letter):
            if self.twin.pending[place].consumer == consumer:
                self.twin.forget(place)

    # -- the end ----------------------------------------------------------------------------------------

    def drain(self) -> None:
        """I9: with one worker and one daemon alive, every task that is due ends."""
        self._give_up_young_ghosts()
        for _ in range(5):
            self._mend_groups()
            self._pass(10 * HOUR)
            for letter in LETTERS:
                while self._repair(letter, "-", 100):
                    pass
                cursor = "0-0"
                while (cursor := self._reclaim(letter, cursor, 100, 0)) != "0-0":
                    pass
            self._repair_locks()
            while any(order(task.place)[0] < FOLLOWS for task in self.twin.due()):
                self._promote(100)
            while True:
                before = len(self.held)
                self._fetch("last", 100, "shnl", lost=False, alone=False)
                if len(self.held) == before:
                    break
                for held in self.held[before:]:
                    kind = KINDS[0]
                    delivery = held.delivery
                    rich = delivery.claims != b""
                    item = Settlement(delivery.place, delivery.local, kind(delivery), rich)
                    self._settle("last", self._numbered_last(), [item])
            self.the_server_agrees()
        assert self.twin.of("ready", "running", "scheduled") == []
        assert self.twin.counters["accepted"] == len(
            self.twin.of("completed", "dead", "cancelled", "expired", "purged", "destroyed")
        )

    def _repair_locks(self) -> None:
        """As the audit does: a lock whose holder is nowhere goes to what follows, or is free."""
        for key in self.twin.leftovers():
            assert self.shard.run(audit_calls.repair_lock(self.shard.t, digest(key))) == 1
            self.twin.counters["repaired"] += 1
            self.twin.free(key)
        self._place_fresh()

    def _give_up_young_ghosts(self) -> None:
        """Nothing can make a delivery older whose entry was deleted: its lease would never run out."""
        for place, held in list(self.twin.pending.items()):
            if held.deleted and not self.twin._abandoned(held):  # by the lease that its worker announced, too
                self._stray_xack(place)

    def _numbered_last(self) -> int:
        self.numbers.setdefault("last", 0)
        return self._numbered("last")

"""A model of the protocol against a real server: any order of steps, stale workers, repeated calls, faults.

The model knows only what the answers said. After every step the server must agree with it, the books
must be right and the audit clean: invariants I1 to I8 of the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from streamq import calls
from streamq.embedded import EmbeddedServer
from streamq.inspector import Inspector
from streamq.keys import GROUP
from streamq.model import (
    Accepted,
    Cancelled,
    Completed,
    Delivery,
    Died,
    Expired,
    HandedBack,
    NewTask,
    Outcome,
    Priority,
    Retried,
    State,
    TaskId,
)
from streamq.transport import Address, SyncTransport
from tests.lua.shard import Shard

OUTCOMES: list[tuple[Outcome, State]] = [
    (Completed(b"1", 600_000), "completed"),
    (Retried(0, b"[]"), "ready"),
    (Retried(1, b"[]"), "scheduled"),
    (Retried(3_600_000, b"[]"), "scheduled"),
    (Died("attempts", b"[]"), "dead"),
    (Cancelled(), "cancelled"),
    (Expired(), "expired"),
    (HandedBack(), "ready"),
]
ENDED = ("completed", "cancelled", "expired", "purged")


@dataclass
class Known:
    """What the model knows of one task."""

    payload: bytes
    state: str
    attempts: int = 0
    lost: int = 0
    cancelling: bool = False


@dataclass
class Held:
    """A delivery that some worker believes to hold."""

    delivery: Delivery
    consumer: str


class Protocol(RuleBasedStateMachine):
    """The steps. `url` is set by the test."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.transport = SyncTransport(Address.parse(self.url))
        self.transport.run(calls.Call(None, (), ("FLUSHALL",), lambda r: r))
        self.shard = Shard(self.transport)
        self.shard.run(calls.announce("shop", 1))
        self.tasks: dict[str, Known] = {}
        self.held: list[Held] = []
        # Which entries are pending, and under whose name. A rebuilt group hands an entry over again: then two
        # workers hold it, and whoever settles first has settled it.
        self.owner: dict[str, str] = {}
        self.settled: dict[str, int] = {}
        self.limbo = False

    def teardown(self) -> None:
        self.transport.close()

    def _valid(self) -> list[Held]:
        return [held for held in self.held if held.delivery.place in self.owner]

    # -- steps -----------------------------------------------------------------------------------------

    @rule(
        priority=st.sampled_from(["high", "normal", "low"]),
        delay=st.sampled_from([None, 1, 3_600_000]),
        number=st.integers(1, 4),
        again=st.booleans(),
    )
    def enqueue(self, priority: Priority, delay: int | None, number: int, again: bool) -> None:
        payloads = [b"%d" % (len(self.tasks) + n) for n in range(number)]
        sequence = self.shard.sequence()
        tasks = [NewTask(payload, priority, delay) for payload in payloads]
        answers = self.shard.enqueue(*tasks, sequence=sequence)
        if again:
            assert self.shard.enqueue(*tasks, sequence=sequence) == answers  # I8
        for payload, answer in zip(payloads, answers, strict=True):
            assert isinstance(answer, Accepted)
            assert answer.local not in self.tasks
            self.tasks[answer.local] = Known(payload, "ready" if delay is None else "scheduled")

    @rule(consumer=st.sampled_from(["a", "b"]), budget=st.integers(1, 5))
    def fetch(self, consumer: str, budget: int) -> None:
        for delivery in self.shard.fetch(consumer, budget):
            task = self.tasks[delivery.local]
            assert task.state == "ready", f"{delivery.local} was handed over while {task.state}"
            assert delivery.payload == task.payload
            assert (delivery.attempt, delivery.lost) == (task.attempts + 1, task.lost)  # I4
            task.state = "running"
            self.held.append(Held(delivery, consumer))
            self.owner[delivery.place] = consumer

    @precondition(lambda self: self.held)
    @rule(data=st.data(), choice=st.sampled_from(OUTCOMES), again=st.booleans())
    def settle(self, data: st.DataObject, choice: tuple[Outcome, State], again: bool) -> None:
        held = data.draw(st.sampled_from(self.held))
        outcome, state = choice
        sequence = self.shard.sequence()
        answer = self.shard.settle([held.delivery], outcome, sequence)
        assert answer == [held.delivery.place in self.owner], (
            "a delivery that is not ours was settled, or one of ours was not"
        )  # I3
        if again:
            assert self.shard.settle([held.delivery], outcome, sequence) == answer
        if self.owner.pop(held.delivery.place, ""):
            self._became(held.delivery.local, outcome, state)

    def _became(self, local: str, outcome: Outcome, state: State) -> None:
        task = self.tasks[local]
        if task.cancelling and isinstance(outcome, Retried | HandedBack):
            state = "cancelled"
        elif isinstance(outcome, Retried):
            task.attempts, task.lost = task.attempts + 1, 0
        task.state = state
        task.cancelling = task.cancelling and state in ("ready", "scheduled")
        if state in (*ENDED, "dead"):
            self.settled[local] = self.settled.get(local, 0) + 1

    @precondition(lambda self: self.held)
    @rule(consumer=st.sampled_from(["a", "b"]))
    def renew(self, consumer: str) -> None:
        """A worker renews all that it ever had: only what is still its own is renewed."""
        mine = [held for held in self.held if held.consumer == consumer]
        renewal = self.shard.run(
            calls.renew(self.shard.t, consumer, [(h.delivery.place, h.delivery.local) for h in mine])
        )
        assert set(renewal.lost) == {p for h in mine if self.owner.get(p := h.delivery.place) != consumer}

    @precondition(lambda self: self.owner)
    @rule(data=st.data())
    def worker_falls_silent(self, data: st.DataObject) -> None:
        """One delivery's lease runs out and it is reclaimed; the worker keeps the stale delivery."""
        held = data.draw(st.sampled_from(self._valid()))
        self.shard.age(held.delivery, 60_000)
        letter = held.delivery.place[0]
        reclaim = self.shard.reclaim(letter)
        assert reclaim.returned + reclaim.dead + reclaim.cancelled == 1
        del self.owner[held.delivery.place]
        task = self.tasks[held.delivery.local]
        task.lost += 1
        task.state = "cancelled" if task.cancelling else ("dead" if task.lost >= 3 else "ready")
        task.cancelling = False

    @rule(limit=st.integers(1, 5))
    def promote(self, limit: int) -> None:
        """Promote whatever is due; a delay of 1 ms may or may not be."""
        moved = self.shard.promote(limit).moved
        found = [
            local
            for local, task in self.tasks.items()
            if task.state == "scheduled" and self.shard.state(local) == "ready"
        ]
        assert len(found) == moved
        for local in found:
            self.tasks[local].state = "ready"

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        local = data.draw(st.sampled_from(sorted(self.tasks)))
        task = self.tasks[local]
        answer = self.shard.run(calls.cancel(self.shard.t, self.shard.s, TaskId("email", 0, local)))
        wanted = {"ready": "cancelled", "scheduled": "cancelled", "running": "requested", "dead": "dead"}
        assert answer == wanted.get(task.state, "unknown")
        if answer == "cancelled":
            task.state = "cancelled"
        task.cancelling = answer == "requested"

    @rule(limit=st.integers(1, 3), again=st.booleans())
    def requeue(self, limit: int, again: bool) -> None:
        self._move_dead(limit, again, "ready")

    @rule(limit=st.integers(1, 2))
    def purge(self, limit: int) -> None:
        self._move_dead(limit, False, "purged")

    def _move_dead(self, limit: int, again: bool, state: str) -> None:
        dead = [letter.id.local for letter in self.shard.run(calls.dead_page(self.shard.t, 0, limit))]
        if not dead:
            return
        build: Any = calls.requeue if state == "ready" else calls.purge
        assert self.shard.run(build(self.shard.t, limit, 0, dead))[0] == len(dead)
        if again:
            assert self.shard.run(build(self.shard.t, limit, 0, dead))[0] == 0
        for local in dead:
            task = self.tasks[local]
            task.state, task.attempts, task.lost = state, 0, 0

    # -- faults ----------------------------------------------------------------------------------------

    @rule()
    def scripts_are_flushed(self) -> None:
        self.shard.command("SCRIPT", "FLUSH")

    @precondition(lambda self: self.owner)
    @rule(data=st.data())
    def stray_xack(self, data: st.DataObject) -> None:
        """Somebody acknowledges by hand; the janitor finds the entry and appends it anew."""
        held = data.draw(st.sampled_from(self._valid()))
        letter = held.delivery.place[0]
        self.shard.command("XACK", self.shard.stream(held.delivery), GROUP, held.delivery.place[1:])
        assert self.shard.run(calls.repair(self.shard.t, letter, "-", 1000)) == ("", 1)
        del self.owner[held.delivery.place]
        self.tasks[held.delivery.local].state = "ready"

    @rule(letter=st.sampled_from("hnls"))
    def group_is_destroyed(self, letter: str) -> None:
        self.shard.command("XGROUP", "DESTROY", self.shard.t.stream(letter), GROUP)
        self.shard.run(calls.groups(self.shard.t.streams))
        for held in self._valid():
            if held.delivery.place[0] == letter and self.owner.pop(held.delivery.place, ""):
                self.tasks[held.delivery.local].state = "ready"

    # -- what must hold --------------------------------------------------------------------------------

    @invariant()
    def the_books_are_right(self) -> None:
        snapshot = self.shard.snapshot()  # I5
        states = [task.state for task in self.tasks.values()]
        assert snapshot.ready == states.count("ready")
        assert snapshot.running == states.count("running")
        assert snapshot.scheduled == states.count("scheduled")
        assert snapshot.dead == states.count("dead")
        for name in ("completed", "cancelled", "expired", "purged"):
            assert snapshot.counters.get(name, 0) == states.count(name)

    @invariant()
    def every_task_is_where_the_model_says(self) -> None:
        for local, task in self.tasks.items():  # I1, I2
            assert self.shard.state(local) == ("unknown" if task.state == "purged" else task.state)

    @invariant()
    def the_audit_is_clean(self) -> None:
        audit = Inspector(self.transport, "shop", 1).audit()  # I1, I5, I6, I7
        assert audit.problems == []
        living = sum(task.state in ("ready", "running", "scheduled") for task in self.tasks.values())
        assert self.shard.sizes().index <= living
        assert self.shard.sizes().cancels == sum(task.cancelling for task in self.tasks.values())


def check(url: str) -> None:
    machine = type("ProtocolOnServer", (Protocol,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100, stateful_step_count=40, deadline=None, print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )  # fmt: skip


@pytest.mark.timeout(240)
def test_the_protocol_on_valkey(valkey: EmbeddedServer) -> None:
    check(valkey.url)


@pytest.mark.timeout(240)
def test_the_protocol_on_redis(redis_server: EmbeddedServer) -> None:
    check(redis_server.url)

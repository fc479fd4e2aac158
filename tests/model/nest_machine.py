"""Flows that run for tasks, against their twins: their end reaches the task, whose end cancels them.

What `flow_kinds_machine` does, with a task of another type for some flows: its parent, which starts it, looks
at it and is suspended, ends in any way, or goes on as a new run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streamq.calls import flows as calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import signals as signal_calls
from streamq.calls import steps as step_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Arg
from streamq.calls.flows import Advanced
from streamq.flow import drive
from streamq.flows.children import ORPHANED, signal_of, tell_parent
from streamq.keys import type_keys
from streamq.memos import wait_name
from streamq.model.delivery import Delivery
from streamq.model.effect import Continued, Effect, Stepped, Suspend
from streamq.model.outcome import Completed, Died, HandedBack, Outcome, Settlement
from streamq.model.task import NewTask, TaskId
from streamq.transport.sync_transport import SyncTransport
from tests.lua.shard import Shard
from tests.model.flow_kinds import KindTwin
from tests.model.flow_kinds_machine import KindFuzz
from tests.model.flow_machine import FAR, OVER, Twin

_OVER: Final = (*OVER, "stuck")
_MOST: Final = 100


@dataclass
class NestTwin(KindTwin):
    """parent: the task that it runs for. orphaned: the inbox says that this is over."""

    parent: Parent | None = None
    orphaned: bool = False

    @property
    def inbox(self) -> set[str]:
        return super().inbox | ({f"{self.id} {ORPHANED}"} if self.orphaned else set())


@dataclass
class Parent:
    """A task that runs a flow. child: None if it has forgotten that. state: ready, running, suspended, dead
    or gone. mail, taken: signals that it has not taken yet, and those that it has. told: the ends of its flow
    that it was told."""

    local: str
    child: NestTwin | None = None
    state: str = "ready"
    held: Delivery | None = None
    mail: int = 0
    taken: int = 0
    looks: bool = False
    told: frozenset[bytes] = frozenset()


class NestFuzz(KindFuzz):
    """One run of the machine. AssertionError where the server and the twin differ."""

    twin, only_maps = NestTwin, 0.0

    def __init__(self, transport: SyncTransport, seed: int) -> None:
        super().__init__(transport, seed)
        self.boss = Shard(transport, {"max_lost": "1"})
        self.boss.t = type_keys("shop", 0, "boss")
        self.boss.run(producer_calls.register(self.boss.t, self.boss.s, "tests:boss", {}))
        self.boss.run(worker_calls.groups(self.boss.t.streams))
        self.parents: list[Parent] = []

    def _failures(self) -> tuple[Callable[[], None], ...]:
        return ()  # the other machine has them, and this one has enough to do

    def _steps(self) -> tuple[Callable[[], None], ...]:
        return (
            *super()._steps(), *(2 * [self.fetch_parents]), *(3 * [self.look]), *(2 * [self.tell]),
            *(2 * [self.orphan]), self.cancel_parent, self.end_parent, self.purge_parent, self.requeue_parent,
        )  # fmt: skip

    # -- parents -----------------------------------------------------------------------------------------

    def _store(self, twin: Twin, static: int) -> None:
        """Some flows run for a task, which notes that first."""
        super()._store(twin, static)
        if not isinstance(twin, NestTwin) or self.chance.random() < 0.2:
            return
        parent = Parent(self.boss.put(), twin)
        self.parents.append(parent)
        self.fetch_parents()
        held = parent.held
        assert held is not None
        memo = f"flow {twin.id} f"
        call = step_calls.checkpoint(self.boss.t, "c", held.place, held.local, memo, b"1")
        for kept in (None, b"1"):
            assert self.boss.run(call).kept == kept, "it is started twice"
        record: dict[str, Arg] = {"parent": f"boss:0:{parent.local}", "depth": 1}
        self.shard.run(calls.build_part(self.shard.s, twin.id, "0", record, [], running=False))
        twin.parent = parent

    def _parent(self, *states: str) -> Parent | None:
        found = [one for one in self.parents if one.state in states]
        return self.chance.choice(found) if found else None

    def fetch_parents(self) -> None:
        held = {one.local: one for one in self.boss.fetch()}
        for parent in self.parents:
            if parent.local in held:
                assert parent.state == "ready", f"it runs though it is {parent.state}"
                parent.state, parent.held = "running", held.pop(parent.local)
        assert not held

    def look(self) -> None:
        """A parent that runs looks at its flow; it completes behind that, or is suspended."""
        if (parent := self._parent("running")) is None:
            return None
        child = parent.child
        if child is None or child.state in _OVER:
            return self._settled(parent, Completed(b"1", FAR), "gone")
        name = wait_name(signal_of(child.id), parent.taken + 1)
        taken = self._take(parent, name)
        assert (taken.value is not None) == (parent.mail > 0), "a signal is lost, or comes twice"
        if taken.value is not None:
            parent.mail, parent.taken = parent.mail - 1, parent.taken + 1
            return None
        parent.looks = True
        if self.chance.random() < 0.5:  # its flow ends before it is suspended
            self._cancelled(child, undo=False)
            self._tell(child)
        woken, parent.looks = not parent.looks, False
        self._settled(
            parent, HandedBack(started=True, delay_ms=FAR), "ready" if woken else "suspended", Suspend(name)
        )
        return None

    def _take(self, parent: Parent, name: str) -> signal_calls.Taken:
        held, child = parent.held, parent.child
        assert held is not None
        assert child is not None
        call = signal_calls.take(self.boss.t, "c", held.place, held.local, name, signal_of(child.id), None)
        return self.boss.run(call)

    def _settled(self, parent: Parent, outcome: Outcome, state: str, *effects: Effect) -> None:
        held = parent.held
        assert held is not None
        item = Settlement(held.place, held.local, outcome, held.claims != b"", (Stepped(), *effects))
        number = self.boss.sequence()
        for _ in range(self.chance.choice((1, 2))):
            call = worker_calls.settle(self.boss.t, self.boss.s, "settler", number, [item])
            assert self.boss.run(call) == [True]
        parent.state, parent.held = state, None
        if state == "gone":
            self._forgets(parent)

    def _forgets(self, parent: Parent) -> None:
        """Its memos are gone: its flow, if it has one, runs for nobody."""
        if parent.child is not None:
            parent.child.orphaned = True
        parent.child, parent.taken = None, 0

    def tell(self) -> None:
        """Somebody tells a parent how its flow ended, however often."""
        for twin in self._twins():
            if isinstance(twin, NestTwin) and twin.parent is not None and self.chance.random() < 0.5:
                self._tell(twin)

    def _tell(self, twin: NestTwin) -> None:
        parent = twin.parent
        assert parent is not None
        for _ in range(self.chance.choice((1, 2))):
            assert drive(self.shard.transport, tell_parent(self.shard.s, twin.id))
        [generation] = self.shard.run(calls.record(self.shard.s, twin.id, ["generation"]))
        told = (
            parent.state in ("dead", "gone") or twin.state not in _OVER or (generation or b"") in parent.told
        )
        if told:
            return
        parent.told |= {generation or b""}
        if parent.child is not None and (parent.state == "suspended" or parent.looks):
            parent.taken += 1
            parent.state = "ready" if parent.state == "suspended" else parent.state
            parent.looks = False
        else:
            parent.mail += 1

    # -- their ends --------------------------------------------------------------------------------------

    def orphan(self) -> None:
        """A flow is told that it runs for nobody, or that is said though it is not so."""
        if (twin := self._one()) is None:
            return
        assert isinstance(twin, NestTwin)
        if twin.orphaned and twin.state in ("running", "failing"):
            twin.state, twin.undo = "cancelling", True
            twin.skip(keep=None)
        twin.orphaned = False
        twin.go_on()
        for _ in range(self.chance.choice((1, 2))):
            assert self._advance(twin, [ORPHANED], joined=False).state == twin.state

    def _advance(self, twin: Twin, rows: list[str], *, joined: bool) -> Advanced:
        answer = super()._advance(twin, rows, joined=joined)
        assert isinstance(twin, NestTwin)
        assert answer.awaited == (answer.state in _OVER and twin.parent is not None), "nobody tells its end"
        return answer

    def cancel_parent(self) -> None:
        if (parent := self._parent("ready", "suspended")) is None or self.chance.random() < 0.6:
            return
        task = TaskId("boss", 0, parent.local)
        assert self.boss.run(producer_calls.cancel(self.boss.t, self.boss.s, task)) == "cancelled"
        parent.state = "gone"
        self._forgets(parent)

    def end_parent(self) -> None:
        """A parent ends that does not wait for its flow: it completes, dies, or goes on as a new run."""
        if (parent := self._parent("running")) is None or self.chance.random() < 0.6:
            return
        match self.chance.randrange(3):
            case 0:
                self._settled(parent, Completed(b"1", FAR), "gone")
            case 1:
                self._settled(parent, Died("attempts", b"[]"), "dead")
            case _:
                self._settled(parent, HandedBack(started=True), "ready", Continued(NewTask(b"{}")))
                self._forgets(parent)

    def purge_parent(self) -> None:
        if (parent := self._parent("dead")) is not None and self.chance.random() < 0.4:
            self.boss.run(operator_calls.purge(self.boss.t, 1, self.boss.now() + 1, [parent.local]))
            parent.state = "gone"
            self._forgets(parent)

    def requeue_parent(self) -> None:
        if (parent := self._parent("dead")) is not None:
            fresh = self.chance.random() < 0.3
            until = self.boss.now() + 1
            self.boss.run(operator_calls.requeue(self.boss.t, 1, until, [parent.local], fresh=fresh))
            parent.state = "ready"
            if fresh:
                self._forgets(parent)

    # -- what must hold ----------------------------------------------------------------------------------

    def compare(self) -> None:
        super().compare()
        self.boss.snapshot()
        for parent in self.parents:
            state = {"suspended": "scheduled"}.get(parent.state, parent.state)
            found = self.boss.state(parent.local)
            assert found == state or (
                state == "gone" and found not in ("ready", "running", "scheduled", "dead")
            ), f"{parent} is {found}"
            unread = self.boss.run(signal_calls.mailbox(self.boss.t, parent.local))
            assert parent.state == "gone" or sum(unread.values()) == parent.mail, (unread, parent)
            assert parent.child is None or not parent.child.orphaned, (
                "the flow of a task that lives is cancelled"
            )

    def end_all(self) -> None:
        """Every flow ends, then every parent: none waits for what was told."""
        self._take_all()
        super().end_all()
        for _ in range(_MOST):
            for twin in self._twins():
                if isinstance(twin, NestTwin) and twin.parent is not None:
                    self._tell(twin)
            self.requeue_parent()
            self.fetch_parents()
            self.look()
            self._take_all()
            self.compare()
            if all(parent.state == "gone" for parent in self.parents):
                break
        else:
            raise AssertionError(f"parents do not end: {self.parents}")
        assert self.shard.command("HLEN", self.boss.t.steps) == 0
        assert self.shard.command("ZCARD", self.shard.s.inbox) == 0

    def _take_all(self) -> None:
        """Take out of the inbox that tasks are over."""
        for _ in range(_MOST):
            if any(isinstance(twin, NestTwin) and twin.orphaned for twin in self._twins()):
                self.orphan()

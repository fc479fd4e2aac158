"""Steps, suspension, signals and follow-ups against their twin, in any order of calls.

One task type on a real server, and beside it all that must be known of each task: where it is, its memos,
what it waits for and its mailbox. Calls may come twice, and from workers that were given up for dead. A
machine of its own, as the lanes have: `machine` would have to foretell memos in each of its steps.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from streamq import memos
from streamq.calls import daemon as daemon_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import signals as signal_calls
from streamq.calls import steps as step_calls
from streamq.calls import worker as worker_calls
from streamq.calls.signals import Taken
from streamq.calls.steps import Stored
from streamq.errors import UsageError
from streamq.model.delivery import Delivery
from streamq.model.effect import Continued, Effect, Follow, FollowUp, Stepped, Suspend
from streamq.model.outcome import Cancelled, Completed, Died, HandedBack, Outcome, Retried, Settlement
from streamq.model.task import IdempotencyKey, NewTask, TaskId
from streamq.transport.sync_transport import SyncTransport
from tests.lua.shard import Shard

SIGNALS: Final = ("yes", "no")
NAMES: Final = ("one", "two")
FAR: Final = 3_600_000
STEPS: Final = 70


@dataclass
class Known:
    """What must hold of one task."""

    state: str = "ready"
    memos: dict[str, bytes] = field(default_factory=dict[str, bytes])
    mail: dict[str, list[bytes]] = field(default_factory=dict[str, list[bytes]])
    suspended: str = ""
    """The memo that it waits for, while it is scheduled."""
    runs: int = 0
    """How often it has gone on as a new run."""
    given: set[str] = field(default_factory=set[str])


class StepFuzz:
    """One run of the machine. AssertionError where the server and the twin differ."""

    def __init__(self, transport: SyncTransport, seed: int) -> None:
        self.chance = random.Random(seed)
        self.shard = Shard(transport)
        self.tasks: dict[str, Known] = {}
        self.held: list[Delivery] = []
        self.old: list[Delivery] = []
        self.calls = self.follow_ups = 0
        self.keyed = False

    def run(self, steps: int = STEPS) -> None:
        """Take so many steps; compare after each; then end every task, which leaves nothing."""
        kinds = (
            self.put, *(3 * [self.fetch]), *(2 * [self.checkpoint]), *(3 * [self.take]), *(2 * [self.signal]),
            *(2 * [self.settle]), *(3 * [self.suspend]), self.go_on, self.lose, self.run_now, self.cancel,
            self.revive, self.purge, self.too_late,
        )  # fmt: skip
        for _ in range(steps):
            self.chance.choice(kinds)()
            self.compare()
        self.end_all()

    # -- steps ---------------------------------------------------------------------------------------------

    def put(self) -> None:
        self.tasks[self.shard.put()] = Known()

    def fetch(self) -> None:
        found = self.shard.fetch(budget=2)
        for one in found:
            known = self.tasks[one.local]
            assert (known.state, known.runs) == ("ready", one.generation)
            assert one.payload == (b"%d" % known.runs if known.runs else b"{}"), (
                "the arguments of another run"
            )
            known.state = "running"
        self.held += found

    def one(self) -> tuple[Delivery, Known] | None:
        if not self.held:
            self.fetch()
        if not self.held:
            return None
        held = self.chance.choice(self.held)
        return held, self.tasks[held.local]

    def checkpoint(self) -> None:
        if (found := self.one()) is None:
            return
        (held, known), name = found, self.chance.choice(NAMES)
        value, again = b"%d" % self.chance.randrange(1000), self.chance.random() < 0.3
        call = step_calls.checkpoint(self.shard.t, "c", held.place, held.local, name, value, again=again)
        kept = None if again else known.memos.get(name)
        assert self.shard.run(call) == Stored(kept=kept)
        if kept is None:
            known.memos[name] = value

    def take(self) -> None:
        if (found := self.one()) is None:
            return
        (held, known), signal = found, self.chance.choice(SIGNALS)
        done = sum(n.startswith(f"wait {signal} ") and v[:1] in b"+!" for n, v in known.memos.items())
        name = memos.wait_name(signal, self.chance.choice((1, 2, done + 1, done + 1)))
        over = self.chance.random() < 0.2
        answer = self._take(held, name, signal, 0 if over else FAR)
        kept, letters = known.memos.get(name, b""), known.mail.get(signal, [])
        if kept[:1] == b"+":
            assert answer == Taken(kept[1:])
        elif kept == b"!":
            assert answer == Taken(late=True)
        elif letters:
            known.memos[name] = b"+" + letters[0]
            assert answer == Taken(letters.pop(0)), "a signal was not taken, or not the first"
        elif over and not kept:
            known.memos[name] = b"!"
            assert answer == Taken(late=True)
        else:
            assert answer.left_ms is not None, answer
            assert FAR - 60_000 < answer.left_ms <= FAR, "the time counts anew"
            known.memos[name] = b"?"
        if letters and held in self.held and self.chance.random() < 0.5:
            self.take()
        if self.chance.random() < 0.3 and known.memos[name][:1] == b"+":
            assert self._take(held, name, signal, FAR) == Taken(known.memos[name][1:])
        if self.chance.random() < 0.5 and known.memos[name] == b"!":
            self._signal(held.local, signal)
            assert self._take(held, name, signal, FAR) == Taken(late=True), "what came too late was taken"

    def _take(self, held: Delivery, name: str, signal: str, timeout_ms: int) -> Taken:
        call = signal_calls.take(self.shard.t, "c", held.place, held.local, name, signal, timeout_ms)
        return self.shard.run(call)

    def signal(self) -> None:
        if not self.tasks:
            return
        local, signal = self.chance.choice(list(self.tasks)), self.chance.choice(SIGNALS)
        for _ in range(self.chance.choice((1, 1, 3))):
            self._signal(local, signal)

    def _signal(self, local: str, signal: str) -> None:
        known = self.tasks[local]
        self.calls += 1
        value, key = b"%d" % self.calls, f"{self.calls:016d}"
        answer = self._give(local, signal, value, key)
        if known.state in ("ended", "dead"):
            assert answer == ("dead" if known.state == "dead" else "unknown")
            return
        waits = [n for n, v in known.memos.items() if n.startswith(f"wait {signal} ") and v[:1] in b"?~"]
        if waits:
            assert answer == "delivered"
            known.memos[waits[0]] = b"+" + value
            if known.state == "scheduled" and known.suspended == waits[0]:
                known.state, known.suspended = "ready", ""
        else:
            assert answer == "stored"
            known.mail.setdefault(signal, []).append(value)
        if self.chance.random() < 0.4:
            assert self._give(local, signal, value, key) == "stored", "a repeated call"

    def _give(self, local: str, signal: str, value: bytes, key: str) -> str:
        return self.shard.run(signal_calls.signal(self.shard.t, local, signal, value, key))

    def settle(self) -> None:
        if (found := self.one()) is None:
            return
        held, known = found
        outcomes: list[Outcome] = [
            Completed(b"1", FAR), Completed(), Cancelled(), Retried(0, b"[]"), Retried(FAR, b"[]"),
            Died("attempts", b"[]"), HandedBack(started=True),
        ]  # fmt: skip
        outcome = self.chance.choice(outcomes)
        effects: tuple[Effect, ...] = (Stepped(),) if known.memos else ()
        if self.chance.random() < 0.5:
            self.follow_ups += 1
            effects = (*effects, Follow((self._follow_up(exists=isinstance(outcome, Completed)),)))
        self._settle(held, outcome, effects)
        if isinstance(outcome, Retried | HandedBack):
            known.state = "scheduled" if outcome == Retried(FAR, b"[]") else "ready"
        elif isinstance(outcome, Died):
            known.state = "dead"
        else:
            self._ended(known)

    def _follow_up(self, *, exists: bool) -> FollowUp:
        """A follow-up: plain, due later, or with an idempotency key, which one of them has."""
        child, kind = f"n1-{(1 << 62) | self.follow_ups}", self.chance.choice(("plain", "later", "keyed"))
        key = IdempotencyKey("once", bytes(16), FAR) if kind == "keyed" else None
        task = NewTask(b"{}", due=FAR if kind == "later" else None, key=key)
        if exists and not (kind == "keyed" and self.keyed):
            self.tasks[child] = Known("scheduled" if kind == "later" else "ready")
            self.keyed = self.keyed or kind == "keyed"
        return FollowUp("email", child, task)

    def go_on(self) -> None:
        """A task goes on as a new run, at once or later, with a follow-up or without."""
        if (found := self.one()) is None:
            return
        held, known = found
        later, known.runs = self.chance.random() < 0.3, known.runs + 1
        effects: tuple[Effect, ...] = (Continued(NewTask(b"%d" % known.runs)),)
        if known.memos:
            effects = (*effects, Stepped())
        if self.chance.random() < 0.5:
            self.follow_ups += 1
            effects = (*effects, Follow((self._follow_up(exists=True),)))
        self._settle(held, HandedBack(True, FAR if later else 0), effects)
        known.state, known.memos = "scheduled" if later else "ready", {}

    def suspend(self) -> None:
        """A handler sleeps, or waits for a signal; the signal may come before the task is suspended."""
        if (found := self.one()) is None:
            return
        held, known = found
        if self.chance.random() < 0.4:
            name = "sleep 1"
            if name not in known.memos:
                value = memos.sleep(self.shard.now() + FAR)
                self.shard.run(step_calls.checkpoint(self.shard.t, "c", held.place, held.local, name, value))
                known.memos[name] = value
        else:
            waits = [name for name, value in known.memos.items() if value[:1] == b"?"]
            if not waits:
                return
            name = self.chance.choice(waits)
            if self.chance.random() < 0.3:
                self.signal()
        self._settle(held, HandedBack(True, FAR), (Stepped(), Suspend(name)))
        if known.memos[name][:1] == b"+":
            known.state = "ready"
            return
        if known.memos[name] == b"?":
            known.memos[name] = b"~"
        known.state, known.suspended = "scheduled", name

    def _settle(self, held: Delivery, outcome: Outcome, effects: tuple[Effect, ...]) -> None:
        item = Settlement(held.place, held.local, outcome, held.claims != b"", effects)
        number = self.shard.sequence()
        for _ in range(self.chance.choice((1, 1, 2))):
            call = worker_calls.settle(self.shard.t, self.shard.s, "settler", number, [item])
            assert self.shard.run(call) == [True]
        self.held.remove(held)
        self.old.append(held)

    def lose(self) -> None:
        """A worker dies; its delivery is given to others, and what it sends later comes too late."""
        if (found := self.one()) is None:
            return
        held, known = found
        if held.lost:
            return
        self.shard.age(held, 10**7)
        assert self.shard.reclaim_all() == 1
        known.state = "ready"
        self.held.remove(held)
        self.old.append(held)

    def too_late(self) -> None:
        """What a worker sends for a delivery that is no longer its own changes nothing."""
        if not self.old:
            return
        held = self.chance.choice(self.old)
        call = step_calls.checkpoint(self.shard.t, "c", held.place, held.local, "late", b"1", again=True)
        assert self.shard.run(call) == Stored(lost=True)
        assert self._take(held, memos.wait_name("yes", 9), "yes", FAR) == Taken(lost=True)
        item = Settlement(held.place, held.local, HandedBack(True, FAR), effects=(Stepped(), Suspend("late")))
        number = self.shard.sequence()
        assert self.shard.run(worker_calls.settle(self.shard.t, self.shard.s, "old", number, [item])) == [
            False
        ]

    def run_now(self) -> None:
        local = self._in("scheduled")
        if local is None:
            return
        known = self.tasks[local]
        if known.memos.get(known.suspended, b"")[:1] == b"~":
            try:
                self.shard.run(operator_calls.run_now(self.shard.t, local))
            except UsageError:
                return
            raise AssertionError("a task that waits for a signal was made ready")
        assert self.shard.run(operator_calls.run_now(self.shard.t, local))
        if known.suspended:
            known.memos[known.suspended] = memos.sleep(0)
        known.state, known.suspended = "ready", ""

    def cancel(self) -> None:
        local = self._in("scheduled", "ready")
        if local is None:
            return
        call = producer_calls.cancel(self.shard.t, self.shard.s, TaskId("email", 0, local))
        assert self.shard.run(call) == "cancelled"
        self._ended(self.tasks[local])

    def revive(self) -> None:
        local = self._in("dead")
        if local is None:
            return
        fresh = self.chance.random() < 0.5
        until = self.shard.now() + 1
        self.shard.run(operator_calls.requeue(self.shard.t, 1, until, [local], fresh=fresh))
        known = self.tasks[local]
        known.state = "ready"
        if fresh:
            known.memos = {}

    def purge(self) -> None:
        local = self._in("dead")
        if local is not None and self.chance.random() < 0.5:
            self.shard.run(operator_calls.purge(self.shard.t, 1, self.shard.now() + 1, [local]))
            self._ended(self.tasks[local])

    def _in(self, *states: str) -> str | None:
        found = [local for local, known in self.tasks.items() if known.state in states]
        return self.chance.choice(found) if found else None

    def _ended(self, known: Known) -> None:
        known.state, known.memos, known.suspended = "ended", {}, ""

    # -- what must hold ------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Compare the server with the twin: every task, and that there is nothing else."""
        fields = 0
        for local, known in self.tasks.items():
            state = self.shard.state(local)
            assert (state if known.state != "ended" else "ended") == known.state, (local, state, known)
            if known.state == "ended":
                assert state not in ("ready", "running", "scheduled", "dead"), (local, state)
            found = self.shard.run(step_calls.memos(self.shard.t, local)).by_name
            shown = {n: v[:1] if v[:1] in (b"?", b"~") else v for n, v in found.items()}
            assert shown == known.memos, (local, found, known)
            unread = {name: len(some) for name, some in known.mail.items() if some}
            assert self.shard.run(signal_calls.mailbox(self.shard.t, local)) == unread
            assert self.shard.command("PTTL", self.shard.t.mail(local)) != -1, "a mailbox without an end"
            fields += bool(known.memos) + len(known.memos)
            self._compare_head(local, found)
        assert self.shard.command("HLEN", self.shard.t.steps) == fields, "memos of no task"
        self.shard.snapshot()

    def _compare_head(self, local: str, found: dict[str, bytes]) -> None:
        head = self.shard.command("HGET", self.shard.t.steps, local)
        size, *names = head.split(b"\0") if head else (b"0",)
        told = int(size)
        assert sorted(names) == sorted(name.encode() for name in found), (local, head)
        slack = 40 if "sleep 1" in found else 0  # a sleep that was ended early is shorter than it was
        assert 0 <= told - sum(map(len, found.values())) <= slack, (local, head)

    def end_all(self) -> None:
        """End what lives; nothing of its steps is left."""
        for held in list(self.held):
            self._settle(held, Completed(), (Stepped(),))
            self._ended(self.tasks[held.local])
        for local, known in self.tasks.items():
            if known.state == "scheduled":
                call = producer_calls.cancel(self.shard.t, self.shard.s, TaskId("email", 0, local))
                assert self.shard.run(call) == "cancelled"
                self._ended(known)
            if known.state == "dead":
                self.shard.run(operator_calls.purge(self.shard.t, 1, self.shard.now() + 1, [local]))
                self._ended(known)
        while found := self.shard.fetch():
            self.held += found
            for held in found:
                self._settle(held, Completed(), ())
                self._ended(self.tasks[held.local])
        self.compare()
        assert self.shard.command("EXISTS", self.shard.t.steps) == 0
        assert self.shard.run(daemon_calls.promote(self.shard.t, 10)).moved == 0

"""A task type in a shard as the tests of scripts seed and read it: given -> call -> want."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streamq import envelope
from streamq.audit.recount import recount
from streamq.calls import daemon as daemon_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call, R
from streamq.calls.locate import locate
from streamq.calls.worker import Source
from streamq.flow import drive
from streamq.keys import GROUP, shard_keys, type_keys
from streamq.model.delivery import Delivery, Entry
from streamq.model.outcome import Completed, Outcome, Settlement
from streamq.model.reply import Located, Promotion, Reclaim
from streamq.model.task import Accepted, Answer, NewTask, Priority
from streamq.transport.sync_transport import SyncTransport


@dataclass(frozen=True)
class Snapshot:
    """What a test wants to see: how many are where, and the counters that are not 0."""

    ready: int = 0
    running: int = 0
    scheduled: int = 0
    dead: int = 0
    counters: dict[str, int] = field(default_factory=dict[str, int])


class Shard:
    """Task type `email` of app `shop`, with its group."""

    def __init__(
        self, transport: SyncTransport, policy: dict[str, str] | None = None, shard: int = 0
    ) -> None:
        self.transport = transport
        self.t = type_keys("shop", shard, "email")
        self.s = shard_keys("shop", shard)
        self.number = 0
        self.run(producer_calls.register(self.t, self.s, "tests:email", policy or {}))
        self.run(worker_calls.groups(self.t.streams))

    def run(self, call: Call[R]) -> R:
        return self.transport.run(call, patience=0)

    def command(self, *args: Any) -> Any:
        return self.run(Call(None, (), args, lambda reply: reply))

    def recount(self) -> dict[str, tuple[int, int]]:
        """Count what the lanes hold to the end: what was put right."""
        return drive(self.transport, recount(self.t))

    def sequence(self) -> int:
        self.number += 1
        return self.number

    def enqueue(self, *tasks: NewTask, writer: str = "w", sequence: int | None = None) -> list[Answer]:
        number = self.sequence() if sequence is None else sequence
        return self.run(producer_calls.enqueue(self.t, self.s, writer, number, tasks))

    def put(
        self, payload: bytes = b"{}", *, priority: Priority = "normal", delay_ms: int | None = None
    ) -> str:
        """Enqueue one task; answers its local id."""
        [answer] = self.enqueue(NewTask(payload, priority, delay_ms))
        assert isinstance(answer, Accepted)
        return answer.local

    def fetch(self, consumer: str = "c", budget: int = 100, letters: str = "shnl") -> list[Delivery]:
        sources = [Source(self.t, letter, 1 if letter == "s" else budget) for letter in letters]
        _, found = self.run(worker_calls.fetch(consumer, budget, sources))
        return [envelope.decode("email", self.t.shard, entry) for _, entries in found for entry in entries]

    def fetch_raw(self, consumer: str = "c") -> list[Entry]:
        sources = [Source(self.t, letter, 100) for letter in "shnl"]
        _, found = self.run(worker_calls.fetch(consumer, 100, sources))
        return [entry for _, entries in found for entry in entries]

    def settle(
        self, deliveries: Sequence[Delivery], outcome: Outcome | None = None, sequence: int | None = None
    ) -> list[bool]:
        outcome = outcome if outcome is not None else Completed()
        items = [Settlement(d.place, d.local, outcome, d.claims != b"", (), d.claims) for d in deliveries]
        number = self.sequence() if sequence is None else sequence
        return self.run(worker_calls.settle(self.t, self.s, "settler", number, items))

    def age(self, delivery: Delivery, ms: int) -> None:
        """Make a delivery look as if its worker had been silent for so long."""
        [[_, owner, *_]] = self.command(
            "XPENDING", self.stream(delivery), GROUP, delivery.place[1:], delivery.place[1:], 1
        )
        self.command(
            "XCLAIM", self.stream(delivery), GROUP, owner, 0, delivery.place[1:], "IDLE", ms, "JUSTID"
        )

    def stream(self, delivery: Delivery) -> str:
        return self.t.stream(delivery.place[0])

    def reclaim(self, letter: str = "n", cursor: str = "0-0", limit: int = 100, expected: int = 0) -> Reclaim:
        return self.run(daemon_calls.reclaim(self.t, self.s, letter, cursor, limit, expected))

    def reclaim_all(self) -> int:
        return sum(self.reclaim(letter).returned for letter in "hnls")

    def promote(self, limit: int = 100) -> Promotion:
        return self.run(daemon_calls.promote(self.t, limit))

    def promote_until(self, number: int) -> None:
        """Promote what becomes due, until so many have been moved."""
        moved, deadline = 0, time.monotonic() + 5
        while moved < number:
            moved += self.promote().moved
            assert time.monotonic() < deadline, f"only {moved} of {number} became due"
            time.sleep(0.005)

    def locate(self, local: str) -> Located:
        return self.run(locate(self.t, local))

    def state(self, local: str) -> str:
        return self.locate(local).state

    def now(self) -> int:
        return self.run(question_calls.now())

    def snapshot(self) -> Snapshot:
        c = self.run(question_calls.counts(self.t))
        assert c.imbalance == 0, f"the books are wrong by {c.imbalance}: {c}"
        return Snapshot(c.ready, c.running, c.scheduled, c.dead, {k: v for k, v in c.counters.items() if v})

    def running(self) -> int:
        """How many are held, also where the books cannot balance."""
        return self.run(question_calls.counts(self.t)).running

    def sizes(self) -> question_calls.Sizes:
        return self.run(question_calls.sizes(self.t))

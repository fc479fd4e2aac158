"""A count of what lanes hold, in steps, while the queue goes on: exact in the end, and no step is long."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from streamq.calls import daemon as daemon_calls
from streamq.calls import lanes as lane_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls.lanes import Counted
from streamq.embedded import EmbeddedServer
from streamq.model.delivery import Delivery
from streamq.model.outcome import Cancelled, Completed, Died, HandedBack, Outcome, Retried
from streamq.model.task import NewTask, Priority, TaskId
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.lua.lane_twin import Rules
from tests.lua.shard import Shard
from tests.lua.test_lanes import laned, plainly, put, settle

OUTCOMES: tuple[Outcome, ...] = (
    Completed(), Completed(), Completed(), Retried(0, b"[]"), Retried(1, b"[]"), Died("attempts", b"[]"),
    HandedBack(), HandedBack(True, 1, 1), Cancelled(started=True),
)  # fmt: skip


def truth(shard: Shard) -> Counter[str]:
    """What each lane holds, by all that is in the streams and the schedule."""
    found: Counter[str] = Counter()
    for letter in "shnld":
        step = shard.run(lane_calls.slot_holders(shard.t, letter, ""))
        assert len(step.tasks) < lane_calls.ENTRIES
        found.update(lane for lane, _ in step.tasks)
    return found


def written(shard: Shard) -> dict[str, int]:
    cursor, found = "", dict[str, int]()
    while cursor != "0":
        cursor, some = shard.run(lane_calls.slots(shard.t, cursor or "0", 1000))
        found |= some
    return {lane: number for lane, number in found.items() if number}


class Queue:
    """A type whose lanes move at random: one of every call that adds or takes away an entry."""

    def __init__(self, transport: SyncTransport, rules: Rules, seed: int) -> None:
        self.shard = laned(transport, rules, max_lost="2")
        self.chance = random.Random(seed)
        self.held: list[Delivery] = []

    def move(self) -> None:
        self.chance.choice(
            (self.put, self.put, self.fetch, self.settle, self.settle, self.lose, self.others)
        )()

    def put(self) -> None:
        priority: Priority = self.chance.choice(("high", "normal", "low"))
        joins = f'{{"lane":"{self.chance.choice("abcdefgh")}"}}'
        delay = self.chance.choice((None, None, None, 1))
        self.shard.enqueue(*[NewTask(b"{}", priority, delay, joins=joins)] * self.chance.randint(1, 4))

    def fetch(self) -> None:
        self.held += self.shard.fetch(budget=self.chance.randint(1, 9))

    def settle(self) -> None:
        self.chance.shuffle(self.held)
        number = self.chance.randint(0, 3)
        ended, self.held = self.held[:number], self.held[number:]
        settle(self.shard, ended, self.chance.choice(OUTCOMES))

    def lose(self) -> None:
        if self.held:
            lost = self.held.pop()
            self.shard.age(lost, 600_000)
            self.shard.reclaim(lost.place[0])

    def others(self) -> None:
        self.shard.run(daemon_calls.promote(self.shard.t, 5, rich=True))
        if self.held:
            some = self.chance.choice(self.held)
            self.shard.run(producer_calls.cancel(self.shard.t, self.shard.s, TaskId("email", 0, some.local)))
        rows = self.shard.command("ZRANGE", self.shard.t.dead, 0, 0)
        if rows:
            self.shard.run(operator_calls.requeue(self.shard.t, 1, 2 * 10**12))

    def harm(self) -> None:
        for lane, number in {"a": 5, "b": 0, "nobody": 3}.items():
            self.shard.command("HSET", self.shard.t.slots, lane, f"{number};;;;")


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "rules", [Rules(running=30, lane_running=9), Rules(lane_running=20, fair=True), Rules(order=True)],
    ids=["limits", "fair", "order"],
)  # fmt: skip
def test_a_count_is_exact_whatever_moves_meanwhile(transport: SyncTransport, rules: Rules, seed: int) -> None:
    queue = Queue(transport, rules, seed)
    shard = queue.shard
    for _ in range(60):
        queue.move()
    for _ in range(3):
        queue.harm()
        assert written(shard) != truth(shard)
        more = True
        while more:
            more = shard.run(lane_calls.recount(shard.t, queue.chance.choice((1, 3, 8)))).more
            queue.move()
        assert written(shard) == truth(shard)
    assert shard.recount() == {}


def test_what_older_workers_handed_back_moves_while_it_is_counted(transport: SyncTransport) -> None:
    for steps in range(1, 14):
        shard = laned(transport, Rules(lane_running=9))
        for _ in range(6):
            put(shard)
        plainly(shard, shard.fetch(budget=3), HandedBack(delay_ms=1, times=1))
        for _ in range(steps):
            shard.run(lane_calls.recount(shard.t, 1))
        while shard.run(daemon_calls.promote(shard.t, 10, rich=True)).moved == 0:
            pass
        shard.recount()
        assert written(shard) == truth(shard) == {"a": 6}
        shard.command("FLUSHDB")


def test_a_count_that_was_left_goes_on_and_what_happens_meanwhile_asks_for_another(
    transport: SyncTransport,
) -> None:
    shard = laned(transport, Rules(lane_running=9))
    for _ in range(4):
        put(shard)
    shard.run(lane_calls.recount(shard.t, 1))
    assert daemon_calls.Lanes.UNCOUNTED in shard.run(daemon_calls.next_promotion([shard.t]))[1][0]
    [one, *_] = shard.fetch()
    shard.command("XDEL", shard.t.normal, one.place[1:])
    settle(shard, [one], Completed())
    shard.recount()
    assert daemon_calls.Lanes.UNCOUNTED in shard.run(daemon_calls.next_promotion([shard.t]))[1][0]
    shard.recount()
    assert written(shard) == truth(shard) == {"a": 3}
    assert shard.run(daemon_calls.next_promotion([shard.t]))[1] == [daemon_calls.Lanes.THERE]


def test_a_registration_by_an_older_release_ends_a_count_and_asks_for_another(
    transport: SyncTransport,
) -> None:
    shard = laned(transport, Rules(lane_running=9))
    for _ in range(4):
        put(shard)
    for _ in range(3):
        shard.run(lane_calls.recount(shard.t, 2))
    shard.command("HDEL", shard.t.policy, "gate", "lane", "counting")
    settle(shard, shard.fetch(budget=2), Completed())
    assert daemon_calls.Lanes.UNCOUNTED in shard.run(daemon_calls.next_promotion([shard.t]))[1][0]
    assert shard.recount() == {}
    assert written(shard) == truth(shard) == {"a": 2}


MANY = 60_000


def cpu_ms(shard: Shard) -> float:
    """The time of a core that the server has used: other processes do not count in it."""
    about = dict(
        line.split(":", 1) for line in shard.command("INFO", "cpu").decode().splitlines() if ":" in line
    )
    return sum(float(about[f"used_cpu_{kind}_main_thread"]) for kind in ("user", "sys")) * 1000


@pytest.fixture(params=[1, pytest.param(3000, marks=pytest.mark.long)], ids=["one lane", "3000 lanes"])
def large(request: pytest.FixtureRequest, valkey: EmbeddedServer, url: str) -> Shard:
    """60,000 tasks with slots: most wait, the first thousand are held by a worker."""
    shard = laned(SyncTransport(Address.parse(url)), Rules(lane_running=MANY))
    for n in range(0, MANY, 500):
        shard.enqueue(
            *[
                NewTask(b'{"n":1}', "normal", joins=f'{{"lane":"lane {m % request.param}"}}')
                for m in range(n, n + 500)
            ]
        )
    return shard


def test_sixty_thousand_entries_are_counted_in_short_steps_while_they_end(large: Shard) -> None:
    shard, spent = large, list[float]()
    shard.command("HSET", shard.t.slots, "lane 0", "1;;;;", "nobody", "7;;;;")
    ended, more, wrong = 0, True, dict[str, tuple[int, int]]()
    while more:
        before = cpu_ms(shard)
        step: Counted = shard.run(lane_calls.recount(shard.t))
        spent.append(cpu_ms(shard) - before)
        more, wrong = step.more, wrong | step.wrong
        batch = shard.fetch(budget=100)
        assert all(settle(shard, batch, Completed()))
        ended += len(batch)
        put(shard, f"lane {len(spent) % 50}")
    spent.sort()
    told = f"{len(spent)} steps, {ended} settled meanwhile, median {spent[len(spent) // 2]:.2f} ms, most"
    print(f"\n{told} {spent[-1]:.2f} ms")
    assert set(wrong) == {"lane 0", "nobody"}
    # What the server does besides, such as growing a table, may be in some of them.
    assert spent[int(0.9 * len(spent))] < 5
    assert shard.recount() == {}
    assert sum(written(shard).values()) == MANY + len(spent) - ended

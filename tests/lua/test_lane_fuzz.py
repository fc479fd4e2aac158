"""Lanes under random calls: after each the whole state in Redis is the twin's, and what must hold holds.

Time is a key that the scripts read, so that rates can be foretold to the microsecond.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from streamq.calls import daemon as daemon_calls
from streamq.calls import lanes as lane_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.errors import UsageError
from streamq.model.delivery import Delivery
from streamq.model.effect import Hold
from streamq.model.outcome import Completed, Died, HandedBack, Retried, Settlement
from streamq.model.task import Accepted, NewTask, TaskId
from streamq.transport.sync_transport import SyncTransport
from tests.lua.lane_twin import NO_LANE, Rules, Task, Twin
from tests.lua.shard import Shard
from tests.variant import CLOCK, Change, changed, own_clock

LANES = ["a", "ab", "a\x01", "ä", "", *(f"rare{n}" for n in range(12))]
LETTER = {"high": "h", "normal": "n", "low": "l"}
MS = 1000
PROFILES: dict[str, Rules] = {
    "limits": Rules(running=5, lane_running=2),
    "lanes only": Rules(lane_running=2),
    "rates": Rules(
        running=6, interval=40 * MS, burst=3, lane_running=3, lane_interval=150 * MS, lane_burst=2
    ),
    "rates of lanes": Rules(lane_interval=100_000 / 3, lane_burst=3),
    "fair": Rules(fair=True, window=4),
    "fair with everything": Rules(
        running=8, interval=20 * MS, burst=4, fair=True, lane_running=3, lane_interval=90 * MS, lane_burst=2,
        lane_weight=2, window=6,
    ),
    "order": Rules(order=True, running=6),
    "order, halt and rate": Rules(order=True, halt=True, interval=30 * MS, burst=5),
    "order and fair": Rules(order=True, fair=True, window=4),
}  # fmt: skip

STEPS: tuple[str, ...] = (
    "enqueue", "enqueue", "enqueue", "fetch", "fetch", "settle", "settle", "settle", "settle", "time",
    "time", "promote", "promote", "reclaim", "cancel", "letter", "limit", "now", "force",
)  # fmt: skip
ENDS: tuple[str, ...] = (*5 * ("done",), "retry", "later", "dead", "back", "hold")


class Fuzz:
    """One run: a server, its twin, and what workers believe to hold."""

    def __init__(self, transport: SyncTransport, rules: Rules, seed: int, *, whole: bool = True) -> None:
        self.random = random.Random(seed)
        self.now = 1_700_000_000_000_123
        self.whole = whole
        transport.run(command("RPUSH", CLOCK, self.now // 10**6, self.now % 10**6))
        self.shard = Shard(transport, self.policy(rules))
        self.twin = Twin(rules, self.now)
        self.twin.replaced = self.replaced  # type: ignore[method-assign]
        self.tasks: dict[int, Task] = {}
        self.ids: dict[int, str] = {}
        self.held: list[Delivery] = []
        self.swept = True
        self.above: set[str] = set()
        self.choices, self.ends = STEPS, ENDS
        self.fences: Counter[str] = Counter()

    def policy(self, rules: Rules) -> dict[str, str]:
        return {
            "gate": rules.gate(), "lane": "key", "window": str(rules.window), "max_lost": "3",
            "max_backlog": "1000000000000000",
        }  # fmt: skip

    def replaced(self, task: Task, copy: Task) -> None:
        self.tasks[task.n] = copy

    def step(self) -> None:
        name = self.random.choice(self.choices)
        if name in ("cancel", "now", "force", "letter") and self.random.random() < 0.5:
            return
        getattr(self, f"do_{name}")()
        self.agrees(name)

    # -- steps -----------------------------------------------------------------------------------------

    def do_time(self) -> None:
        self.now += self.random.choice([1, 977, 10 * MS, 35 * MS, 200 * MS, 2_000 * MS])
        self.twin.now = self.now
        self.shard.command("DEL", CLOCK)
        self.shard.command("RPUSH", CLOCK, self.now // 10**6, self.now % 10**6)

    def do_enqueue(self) -> None:
        new: list[NewTask] = []
        twins: list[tuple[Task, int | None]] = []
        for _ in range(self.random.choice([1, 1, 2, 5])):
            n = len(self.tasks) + 1
            lane = self.random.choice(LANES[:5] if self.random.random() < 0.8 else LANES)
            cost = self.random.choice([1, 1, 1, 2, 5])
            priority: Any = "normal" if self.twin.rules.order else self.random.choice(list(LETTER))
            delay = self.random.choice([None, None, None, None, 150])
            task = Task(n, lane or NO_LANE, LETTER[priority], cost)
            self.tasks[n] = task
            joins = json.dumps({"lane": lane, "cost": cost}, ensure_ascii=self.random.random() < 0.5)
            payload = json.dumps({"n": n}).encode()
            new.append(NewTask(payload, priority, delay, joins=joins))
            twins.append((task, None if delay is None else self.now // 1000 + delay))
        answers = self.shard.enqueue(*new)
        self.twin.enqueue(twins)
        for (task, _), answer in zip(twins, answers, strict=True):
            assert isinstance(answer, Accepted)
            self.ids[task.n] = answer.local

    def do_fetch(self) -> None:
        fetched = self.shard.fetch(budget=self.random.choice([1, 3, 20]), letters="snhl")
        for delivery in fetched:
            lane = self.tasks[json.loads(delivery.payload)["n"]].lane
            if self.twin.rules.order and lane != NO_LANE:
                assert delivery.fence > self.fences[lane]
                self.fences[lane] = delivery.fence
        self.held += fetched

    def do_settle(self) -> None:
        self.random.shuffle(self.held)
        number = self.random.choice([1, 1, 2, 6])
        items, self.held = self.held[:number], self.held[number:]
        if not items:
            return
        ends = [(delivery, self.random.choice(self.ends)) for delivery in items]
        if read := self.random.random() < 0.7:  # as workers do that have read the claims: those come first
            ends.sort(key=lambda end: "hnls".index(end[0].place[0]) if end[1] == "done" else 4)
        self.twin.begin()
        settlements = [self.settlement(delivery, what, read) for delivery, what in ends]
        self.twin.close()
        call = worker_calls.settle(self.shard.t, self.shard.s, "settler", self.shard.sequence(), settlements)
        answers: list[bool] = self.shard.run(call)
        assert all(answers)
        if self.random.random() < 0.2:
            assert self.shard.run(call) == answers
        if self.random.random() < 0.2:
            late = worker_calls.settle(
                self.shard.t, self.shard.s, "zombie", self.shard.sequence(), settlements
            )
            answers = self.shard.run(late)
            assert not any(answers)

    def settlement(self, delivery: Delivery, what: str, read: bool) -> Settlement:
        task = self.tasks[json.loads(delivery.payload)["n"]]
        effects: tuple[Hold, ...] = ()
        outcome: Any = Completed()
        if what == "done":
            self.twin.end(task, "c")
        elif what == "retry":
            outcome = Retried(0, b"[]")
            self.twin.retry(task, 0)
        elif what == "later":
            outcome = Retried(120, b"[]")
            self.twin.retry(task, 120)
        elif what == "dead":
            outcome = Died("attempts", b"[]")
            self.twin.end(task, "d")
        elif what == "back":
            outcome = HandedBack()
            self.twin.back(task)
        else:
            outcome, effects = HandedBack(started=True), (Hold(70),)
            self.twin.hold(task, 70)
        claims = delivery.claims if read else b""
        return Settlement(delivery.place, delivery.local, outcome, rich=True, effects=effects, claims=claims)

    def do_promote(self) -> None:
        told = self.shard.run(daemon_calls.promote(self.shard.t, 100, rich=True))
        if not self.swept:
            self.twin.begin()
            due = sorted(row for row in self.twin.schedule if row[0] <= self.now // 1000)
            for row in due:
                self.twin.schedule.remove(row)
                self.twin.arrive(row[2])
            self.twin.sweep()
            self.twin.close()
            self.swept = True
        else:
            self.twin.promote()
        if self.whole:
            times = [*self.twin.ripe.values(), *(row[0] for row in self.twin.schedule)]
            if self.twin.turns:  # a task without a claim may leave room, and tells nobody
                times.append(self.now // 1000 + 1000)
            assert told.next_due_ms == min(times, default=None)

    def do_reclaim(self) -> None:
        lost = [delivery for delivery in self.held if self.random.random() < 0.3]
        self.held = [delivery for delivery in self.held if delivery not in lost]
        for delivery in lost:
            self.shard.age(delivery, 600_000)
        for letter in "nhls":
            place = [delivery for delivery in lost if delivery.place[0] == letter]
            place.sort(key=lambda one: tuple(map(int, one.place[1:].split("-"))))
            self.shard.reclaim(letter)
            self.twin.begin()
            for delivery in place:
                self.twin.lose(self.tasks[json.loads(delivery.payload)["n"]], 3)
            self.twin.close()

    def _one(self, *states: str) -> Task | None:
        running = {json.loads(delivery.payload)["n"] for delivery in self.held}
        found = [task for task in self.tasks.values() if task.state in states and task.n not in running]
        return self.random.choice(found) if found else None

    def do_cancel(self) -> None:
        if task := self._one("parked", "scheduled", "ready"):
            named = TaskId("email", 0, self.ids[task.n])
            assert self.shard.run(producer_calls.cancel(self.shard.t, self.shard.s, named)) == "cancelled"
            self.twin.cancel(task)

    def do_letter(self) -> None:
        task = self._one("dead")
        if task is None:
            return
        act = self.random.choice([operator_calls.requeue, operator_calls.purge])
        moved = self.shard.run(act(self.shard.t, 10, 2 * 10**12, [self.ids[task.n]]))
        assert moved.done == 1
        (self.twin.requeue if act is operator_calls.requeue else self.twin.purge)(task)

    def do_limit(self) -> None:
        lane = self.random.choice(["", "a", "ab", "rare1"])
        rules = self.random.choice([
            None, None, (0, None, 1, 1), (1, None, 1, 1), (4, None, 1, 3), (3, 50 * MS, 2, 0.5),
        ])  # fmt: skip
        if lane == "" and rules is not None and rules[0] == 0:
            return
        parts = ("-" if part is None else f"{part:.17g}" for part in rules or ())
        self.shard.run(lane_calls.limit(self.shard.t, lane, ";".join(parts)))
        self.twin.limit(lane, rules)
        self.above |= {lane} if lane else set(self.twin.records) | {""}

    def do_now(self, *, force: bool = False) -> None:
        task = self._one("parked", "scheduled")
        if task is None:
            return
        call = operator_calls.run_now(self.shard.t, self.ids[task.n], force=force)
        ordered = self.twin.rules.order and task.lane != NO_LANE
        if ordered and task.state == "parked":
            with pytest.raises(UsageError, match="nobody|no task overtakes"):
                self.shard.run(call)
            return
        if ordered:
            return
        assert self.shard.run(call)
        self.twin.run_now(task, force=force)
        if force:
            self.above |= {task.lane, ""}

    def do_force(self) -> None:
        self.do_now(force=True)

    def do_change(self) -> None:
        rules = Rules(**vars(self.twin.rules))
        what = self.random.choice(["running", "lane_running", "lane_interval", "fair", "halt"])
        value: Any = {
            "running": self.random.choice([None, 2, 9]), "lane_running": self.random.choice([None, 1, 4]),
            "lane_interval": self.random.choice([None, 20 * MS, 1_000 * MS]), "fair": not rules.fair,
            "halt": rules.order and not rules.halt,
        }[what]  # fmt: skip
        setattr(rules, what, value)
        self.shard.run(producer_calls.register(self.shard.t, self.shard.s, "tests:email", self.policy(rules)))
        if rules.gate() != self.twin.rules.gate() and any(self.twin.rows.values()):
            self.swept = False
        self.twin.change(rules)
        self.above = {*self.twin.records, ""}

    # -- what must hold --------------------------------------------------------------------------------

    def agrees(self, step: str) -> None:
        state = State(self.shard)
        assert self.shard.snapshot() is not None
        self.holds(state, step)
        if not self.whole:
            return
        twin = self.twin
        assert state.streams == {
            letter: [task.n for task in entries] for letter, entries in twin.streams.items()
        }, step
        rows = {lane: [row.task.n for row in sorted(listed)] for lane, listed in twin.rows.items() if listed}
        assert state.rows == rows, step
        assert state.turns == twin.turns, step
        assert state.ripe == twin.ripe, step
        for lane in {*twin.records, *state.slots}:
            r = twin.records.get(lane)
            if lane == "" or r is None:
                continue
            stored = state.slots.get(lane, ["", "", "", "", ""])
            floors = (r.held, r.tat if r.tat > self.now else 0, r.f, r.till if r.till > self.now else 0)
            found = [float(part or 0) for part in stored[:4]]
            # What was in the future when it was written may have passed.
            found = [value if n in (0, 2) or value > self.now else 0 for n, value in enumerate(found)]
            assert found == list(floors), (step, lane)
            assert stored[4] == (self.ids[r.halt] if r.halt else ""), (step, lane)
        whole = [float(part or 0) for part in state.slots.get("", ["", "", ""])]
        assert whole[1:] == [twin.v, twin.n], step

    def holds(self, state: State, step: str) -> None:
        """From Redis alone."""
        held = {lane: int(float(parts[0] or 0)) for lane, parts in state.slots.items() if lane}
        assert {lane: n for lane, n in held.items() if n} == dict(state.claims), step
        assert state.indexed == {n: lane for lane, listed in state.rows.items() for n in listed}, step
        running = {json.loads(delivery.payload)["n"] for delivery in self.held}
        assert running <= {n for entries in state.streams.values() for n in entries}
        for lane, n in held.items():
            if lane not in self.above:
                assert n <= self.twin.of(lane)[0], (step, lane)
        self.above -= {lane for lane in self.above if held.get(lane, 0) <= self.twin.of(lane)[0]} - {""}
        total = sum(map(len, state.streams.values()))
        most = self.twin.of("")[0]
        assert total <= most or "" in self.above, step
        if total <= most:
            self.above.discard("")
        if not self.swept:
            return
        for lane, listed in state.rows.items():
            assert listed
            able = self.able(lane, state)
            waits = state.ripe.get(lane, math.inf) <= math.ceil(self.now / 1000)
            if able:
                assert lane in state.turns or waits, (step, lane)
            else:
                assert lane not in state.turns or "" in state.ripe, (step, lane)
        assert set(state.turns) <= set(state.rows)

    def able(self, lane: str, state: State) -> bool:
        parts = state.slots.get(lane, ["", "", "", "", ""])
        held, tat, till = (float(part or 0) for part in (parts[0], parts[1], parts[3]))
        running, interval, burst, _ = self.twin.of(lane)
        _, cost, due = state.heads[lane]
        ready = max(due * 1000, till)
        if interval:
            tat = min(tat, self.now + burst * interval)
            ready = max(ready, tat + (min(cost, burst) - burst) * interval)
        return not parts[4] and held < running and ready <= self.now

    def drain(self, rounds: int = 20_000) -> None:
        """To the end: all tasks end, and nothing is left."""
        for lane in ("", "a", "ab", "rare1"):
            self.shard.run(lane_calls.limit(self.shard.t, lane, ""))
            self.twin.limit(lane, None)
        for _ in range(rounds):
            while task := self._one("dead"):
                self.shard.run(operator_calls.purge(self.shard.t, 10, 2 * 10**12, [self.ids[task.n]]))
                self.twin.purge(task)
            self.now += 50 * MS
            self.twin.now = self.now - 1
            self.do_time()
            self.do_promote()
            self.held += self.shard.fetch()
            batch, self.held = self.held[:50], []
            if batch:
                done = [Settlement(one.place, one.local, Completed(), rich=True) for one in batch]
                self.twin.begin()
                for one in batch:
                    self.twin.end(self.tasks[json.loads(one.payload)["n"]], "c")
                self.twin.close()
                sequence = self.shard.sequence()
                self.shard.run(worker_calls.settle(self.shard.t, self.shard.s, "settler", sequence, done))
            if (
                not any(self.twin.streams.values())
                and not self.twin.schedule
                and not any(self.twin.rows.values())
            ):
                break
        assert all(task.state == "ended" for task in self.tasks.values())
        self.now += 3_600_000 * MS
        self.do_time()
        self.do_promote()
        t = self.shard.t
        for key in (t.lanes, t.turns, t.ripe, t.index, t.schedule):
            assert self.shard.command("EXISTS", key) == 0, key
        slots = self.shard.command("HGETALL", t.slots)
        assert slots == [], (slots, self.twin.rules)


class State:
    """What Redis holds of the lanes."""

    def __init__(self, shard: Shard) -> None:
        t = shard.t
        self.streams: dict[str, list[int]] = {}
        self.claims: Counter[str] = Counter()
        for letter, stream in zip("hnls", t.streams, strict=True):
            entries = shard.command("XRANGE", stream, "-", "+")
            self.streams[letter] = [_number(dict(_pairs(entry[1]))[b"p"]) for entry in entries]
            for entry in entries:
                self._claim(dict(_pairs(entry[1])).get(b"c", b""))
        for row in shard.command("ZRANGE", t.schedule, 0, -1):
            assert b"\xa1l" not in row
        self.rows: dict[str, list[int]] = {}
        self.heads: dict[str, tuple[int, int, int]] = {}
        ids: dict[bytes, int] = {}
        for row in shard.command("ZRANGEBYLEX", t.lanes, "-", "+"):
            lane, _, rest = row.partition(b"\0")
            cost, due, packed = rest[17:].split(b";", 2)
            n = _number(packed)
            self.rows.setdefault(lane.decode(), []).append(n)
            self.heads.setdefault(lane.decode(), (n, int(cost), int(due or 0)))
            ids[b"k%b%d %b" % (rest[:1], int(rest[1:16]), lane)] = n
        self.indexed: dict[int, str] = {}
        for _, place in _pairs(shard.command("HGETALL", t.index)):
            if place[:1] == b"k":
                self.indexed[ids[place]] = place.partition(b" ")[2].decode()
        self.turns = _scores(shard, t.turns)
        self.ripe = {lane: round(score) for lane, score in _scores(shard, t.ripe).items()}
        self.slots = {
            lane.decode(): value.decode().split(";")
            for lane, value in _pairs(shard.command("HGETALL", t.slots))
        }

    def _claim(self, packed: bytes) -> None:
        if b"\xa1l" in packed:
            found = re.search(rb"\d+ (.*)$", packed, re.DOTALL)
            assert found is not None
            self.claims[found[1].decode()] += 1


def _scores(shard: Shard, key: str) -> dict[str, float]:
    return {
        lane.decode(): float(score)
        for lane, score in _pairs(shard.command("ZRANGE", key, 0, -1, "WITHSCORES"))
    }


def _pairs(flat: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _number(raw: bytes) -> int:
    found = re.search(rb'{"n": (\d+)}', raw)
    assert found is not None, raw
    return int(found[1])


def command(*args: Any) -> Call[Any]:
    return Call(None, (), args, lambda reply: reply)


def bounded(steps: int) -> Change:
    """Scripts that look at no more timers and admit no more tasks in one call."""
    return lambda _, text: text.replace("local STEPS = 100", f"local STEPS = {steps}")


def run(transport: SyncTransport, rules: Rules, seed: int, steps: int, *, changing: bool = False) -> None:
    with changed(own_clock):
        fuzz = Fuzz(transport, rules, seed)
        if changing:
            fuzz.choices = (*STEPS, "change", "change")
        for _ in range(steps):
            fuzz.step()
        fuzz.drain()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("seed", [1, 2])
def test_what_redis_holds_is_the_twins(transport: SyncTransport, profile: str, seed: int) -> None:
    run(transport, PROFILES[profile], seed, 150)


@pytest.mark.parametrize("profile", ["limits", "rates", "fair with everything", "order, halt and rate"])
def test_the_policy_may_change_while_tasks_wait(transport: SyncTransport, profile: str) -> None:
    run(transport, PROFILES[profile], 3, 200, changing=True)

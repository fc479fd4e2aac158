"""Flows of every kind of node against their twin: undo, children, timers, waits, races, a retry from a node.

What `flow_machine` does, with these; time passes by a row of the inbox that is made due, so nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import orjson

from streamq.calls import flows as calls
from streamq.calls import operator as operator_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Arg
from streamq.calls.flow_again import GO_ON, Plan, again
from streamq.calls.flows import Item
from streamq.flow import drive
from streamq.flows.again import run_again
from streamq.flows.growing import grow, page_of
from streamq.flows.inputs import completed_of
from streamq.flows.naming import maps
from streamq.flows.retry_plan import plan_of
from streamq.model.effect import NodeResult
from streamq.model.outcome import Completed, Died, Settlement
from streamq.transport.sync_transport import SyncTransport
from tests.model.flow_kinds import CONTROLS, Kind, KindTwin
from tests.model.flow_machine import FAR, FLOWS, OVER, FlowFuzz, Twin

STEPS: Final = 90
_OVER: Final = (*OVER, "stuck")
_HOUR_MS: Final = 3_600_000


class KindFuzz(FlowFuzz):
    """One run of the machine. AssertionError where the server and the twin differ."""

    twin: type[KindTwin] = KindTwin
    only_maps: float = 0.25
    """How often a flow is a map that is undone, and what waits for it; 0: no map is undone."""

    def __init__(self, transport: SyncTransport, seed: int) -> None:
        super().__init__(transport, seed)
        self.signals = 0
        self.plans: dict[str, Plan] = {}

    def run(self, steps: int = STEPS) -> None:
        kinds = (*self._steps(), *self._failures())
        for _ in range(steps):
            self.chance.choice(kinds)()
            self.compare()
        self.end_all()

    def _steps(self) -> tuple[Callable[[], None], ...]:
        return (
            self.start, *(4 * [self.fetch]), *(7 * [self.settle]), self.cancel_task, self.expire, self.lose,
            self.delete_entry, self.purge, *(5 * [self.advance]), *(4 * [self.release]), self.not_there,
            self.cancel, self.start_again, *(2 * [self.retry]), *(4 * [self.settle_with_children]),
            *(4 * [self.grow]), *(2 * [self.signal]), *(2 * [self.time_passes]), *(3 * [self.retry_from]),
        )  # fmt: skip

    def _failures(self) -> tuple[Callable[[], None], ...]:
        return (*(2 * [self.die]), *(3 * [self.requeue]))

    def _twins(self) -> list[KindTwin]:
        return [cast("KindTwin", twin) for twin in self.flows.values()]

    def _one(self, *states: str) -> KindTwin | None:
        twin = self._any(*states)
        return None if twin is None else cast("KindTwin", twin)

    # -- flows -------------------------------------------------------------------------------------------

    def start(self) -> None:
        if len(self.flows) == FLOWS:
            return
        nodes, last = self._graph()
        static = len(nodes)
        for n, node in enumerate(nodes[:static]):
            if node.kind == "map":
                node.children = range(len(nodes), len(nodes) + self.chance.randrange(4))
                nodes += [Kind([], map=n) for _ in node.children]
        letters = "".join("s" if node.kind == "undo" else "w" for node in nodes[:static])
        states = letters + "w" * (len(nodes) - static)
        local = f"{len(self.flows) + 1}-{7:012d}"
        twin = self.twin(local, nodes, last, states, static=static)
        apart = {last, *(node.undo for node in nodes)}
        twin.todo = [n for n in range(static) if not nodes[n].waits and n not in apart]
        self._store(twin, static)
        call = calls.commit(self.shard.s, local, "", "", len(nodes), letters=letters)
        for _ in range(self.chance.choice((1, 2))):
            assert self.shard.run(call).answer == "started"
        self.flows[twin.id] = twin

    def _graph(self) -> tuple[list[Kind], int | None]:
        """Draw a graph; at most one race, as who is looked at first decides nothing then."""
        chance, nodes, raced = self.chance, list[Kind](), set[int]()
        if self.only_maps and chance.random() < self.only_maps:
            return [Kind([], kind="map", undo=1), Kind([], kind="undo"), Kind([0])], None
        race = chance.random() < 0.6
        for n in range(chance.randrange(3, 8)):
            free = [m for m in range(len(nodes)) if m not in raced and nodes[m].kind != "undo"]
            lonely = [m for m in free if not any(m in node.waits for node in nodes)]
            if race and len(lonely) >= 2 and n > 2:
                race, racers = False, sorted(chance.sample(lonely, 2))
                raced |= {*racers}
                for racer in racers if chance.random() < 0.7 else ():  # as those that are declared
                    nodes[racer].tolerated = True
                nodes.append(Kind(racers, kind="first", tolerated=chance.random() < 0.3))
                continue
            nodes.append(self._node(free))
            undoable = nodes[-1].kind == "task" or (nodes[-1].kind == "map" and self.only_maps > 0)
            if undoable and chance.random() < 0.4:
                nodes[-1].undo = len(nodes)
                nodes.append(Kind([], kind="undo"))
        for node in nodes:
            if node.kind == "first":
                node.alone = {racer: _alone(nodes, racer) for racer in node.waits}
        last = None
        if chance.random() < 0.5:
            last = len(nodes)
            nodes.append(Kind([]))
        return nodes, last

    def _node(self, free: list[int]) -> Kind:
        chance = self.chance
        kind = chance.choice(("task", "task", "task", "map", "sleep", "wait"))
        waits = sorted(chance.sample(free, chance.randrange(min(len(free), 2) + 1)))
        tolerated = kind != "map" and chance.random() < 0.2
        mortal = kind == "task" and chance.random() < 0.1
        return Kind(waits, tolerated=tolerated, mortal=mortal, kind=kind, timed=chance.random() < 0.5)

    def _store(self, twin: Twin, static: int) -> None:
        assert isinstance(twin, KindTwin)
        nodes, s = twin.nodes, self.shard.s
        ranges = {n: node.children for n, node in enumerate(nodes) if node.children is not None}
        numbers = range(static)
        record: dict[str, Arg] = {
            "name": "f", "static": static, "todo": " ".join(map(str, twin.todo)),
            "maps": " ".join(f"{n}:{of.start}:{len(of)}" for n, of in ranges.items()),
            "controls": " ".join(str(n) for n in numbers if nodes[n].kind in CONTROLS),
            "races": " ".join(str(n) for n in numbers if nodes[n].kind == "first"),
            "awaits": "".join(f"\0go{n}\0" for n in numbers if nodes[n].kind == "wait"),
            "tolerant": " ".join(str(n) for n in numbers if nodes[n].tolerated),
            "undos": " ".join(f"{n}:{nodes[n].undo}" for n in numbers if nodes[n].undo),
            "on_failure": "" if twin.on_failure is None else twin.on_failure, "fail_fast": 0,
        }  # fmt: skip
        for n in numbers:
            record[f"n{n}"] = orjson.dumps(_told(n, nodes[n]))
            record[f"d{n}"] = " ".join(str(m) for m in numbers if n in nodes[m].waits)
            record[f"c{n}"] = orjson.dumps(["n", "", "", "", ""])
        items = [
            Item(n, ("n", b"{}", "", "", "", *(("x", "1") if nodes[n].mortal else ())))
            for n in numbers
            if nodes[n].kind in ("task", "undo")
        ]
        self.shard.run(calls.build_part(s, twin.id, "0", record, items, running=False))
        for n, of in ranges.items():
            children = [Item(m, (b"{}",)) for m in range(len(of))]
            self.shard.run(calls.build_part(s, twin.id, page_of(n, 0), {}, children, running=False))

    def advance(self) -> None:
        """Take some rows out of the inbox, those of timers too, before and after their time."""
        twin = self._one()
        if twin is None:
            return
        rows = [(n, how) for n, how in twin.rows.items() if self.chance.random() < 0.7]
        rows += [(n, "t") for n in twin.timers if self.chance.random() < 0.6]
        self.chance.shuffle(rows)
        joined = self.chance.random() < 0.5
        self._taken(twin, rows)
        told = {n for n in twin.releasable if twin.nodes[n].map is None} if joined else set[int]()
        for _ in range(self.chance.choice((1, 1, 2))):
            answer = self._advance(twin, [f"{n} {how}" for n, how in rows], joined=joined)
            for n in sorted(told):
                self._released(twin, n)
            told = set()
            assert answer.state == twin.state, (answer, twin)
            assert [one.number for one in answer.ready if not one.lost] == twin.ready, (answer, twin)
            lost = sorted(one.number for one in answer.ready if one.lost)  # they may go in any order
            assert lost == sorted(twin.losing), (answer, twin)
            assert [one.number for one in answer.ready if one.grown] == [
                n for n in twin.ready if n in twin.grown
            ]

    def _taken(self, twin: KindTwin, rows: list[tuple[int, str]]) -> None:
        for n, how in rows:
            if how != "t":
                twin.ended(n, twin.rows.pop(n))
            elif twin.timers.get(n):
                twin.timer(n)
        twin.go_on()

    def cancel(self) -> None:
        twin = self._one()
        if twin is None or self.chance.random() < 0.6:
            return
        self._cancelled(twin, undo=self.chance.random() < 0.6)

    def _cancelled(self, twin: KindTwin, *, undo: bool) -> None:
        assert self.shard.run(calls.mark(self.shard.s, twin.id, "cancel" if undo else "drop")) == twin.state
        if twin.state in ("running", "failing"):
            twin.state, twin.undo = "cancelling", undo
            twin.skip(keep=None)
            twin.go_on()

    # -- undo, children, timers, signals -----------------------------------------------------------------

    def settle_with_children(self) -> None:
        """A node's task completes, and leaves children for it."""
        if (found := self._in("running")) is None:
            return
        twin, n = cast("tuple[KindTwin, int]", found)
        node = twin.nodes[n]
        if len(twin.nodes) > 30:
            return
        held = self.held.pop(self._task(twin, n))
        count, joins = self.chance.randrange(4), self.chance.random() < 0.4
        row = ["email", "n", "{}", "", "", ""]
        rows = [row] * count
        children = orjson.dumps({"c": rows, "j": row, "a": "all"} if joins else rows)
        effects = (NodeResult(twin.id, n, len(children), expanded=self.chance.random() < 0.5),)
        item = Settlement(
            held.place, held.local, Completed(b"1" + children, FAR), held.claims != b"", effects
        )
        number = self.shard.sequence()
        for _ in range(self.chance.choice((1, 2))):
            call = worker_calls.settle(self.shard.t, self.shard.s, "settler", number, [item])
            assert self.shard.run(call) == [True]
        if twin.states[n] == "r":
            node.grows, node.joins = count + joins, joins
        self._ends(twin, n, "g")

    def die(self) -> None:
        """The item of a map, or an undo task, fails for good."""
        running = [
            (twin, n) for twin in self._twins() for n, node in enumerate(twin.nodes)
            if node.task == "running" and (node.map is not None or node.kind == "undo")
        ]  # fmt: skip
        if not running:
            return
        twin, n = self.chance.choice(running)
        held = self.held.pop(self._task(twin, n))
        item = Settlement(held.place, held.local, Died("attempts", b"[]"), held.claims != b"", ())
        call = worker_calls.settle(self.shard.t, self.shard.s, "settler", self.shard.sequence(), [item])
        assert self.shard.run(call) == [True]
        self._ends(twin, n, "d")

    def requeue(self) -> None:
        """An operator requeues the dead letter of a node: only its success is noted."""
        found = [(twin, n) for twin in self._twins() for n in twin.requeueable]
        if not found:
            return
        twin, n = self.chance.choice(found)
        until, task = self.shard.now() + 1, self._task(twin, n)
        if self.shard.run(operator_calls.requeue(self.shard.t, 1, until, [task])).done == 0:
            return  # it was lost without a trace: nothing is known of it to run again
        self.put_back += 1
        twin.nodes[n].task = "ready"
        twin.by_hand.add(n)

    def _ends(self, twin: Twin, n: int, how: str) -> None:
        assert isinstance(twin, KindTwin)
        if n not in twin.by_hand:
            return super()._ends(twin, n, how)
        twin.by_hand.remove(n)
        twin.rows[n] = how
        twin.nodes[n].task = "dead" if how == "d" else "gone"
        return None

    def grow(self) -> None:
        """The children of a node are made; a call may be lost, and come twice."""
        for twin in self._twins():
            waiting = [n for n in twin.ready if n in twin.grown]
            if waiting:
                n = self.chance.choice(waiting)
                drive(self.shard.transport, grow(self.shard.s, twin.id, n))
                first = len(twin.nodes)
                if twin.nodes[n].children is None:
                    twin.grow(n)
                else:
                    twin._begin(n, twin.nodes[n])
                twin.go_on()
                call = calls.grow(self.shard.s, twin.id, n, first, twin.nodes[n].grows or 0)
                assert self.shard.run(call) == 0, "children were made twice"
                return

    def signal(self) -> None:
        """A signal comes, before anybody waits or later, and perhaps twice."""
        twin = self._one()
        if twin is None:
            return
        waits = [n for n, node in enumerate(twin.nodes) if node.kind == "wait"]
        self.signals += 1
        value, key = str(self.signals).encode(), f"{self.signals:016d}"
        if not waits:
            assert self._signalled(twin, "go", value, key) == "none"
            return
        name = f"go{self.chance.choice(waits)}"
        looked = twin.looked
        answer = twin.signal(name, value)
        twin.looked = twin.looked if answer == "delivered" else looked
        assert self._signalled(twin, name, value, key) == answer
        if self.chance.random() < 0.4:
            assert self._signalled(twin, name, value, key) == (
                "dead" if twin.state != "running" else "stored"
            )

    def _signalled(self, twin: KindTwin, name: str, value: bytes, key: str) -> str:
        return self.shard.run(calls.signal(self.shard.s, twin.id, name, value, key))

    def time_passes(self) -> None:
        """The time of some timer comes."""
        running = [(twin, n) for twin in self._twins() for n, due in twin.timers.items() if not due]
        if running:
            twin, n = self.chance.choice(running)
            self.shard.command("ZADD", self.shard.s.inbox, 1, f"{twin.id} {n} t")
            twin.timers[n] = True

    # -- retries -----------------------------------------------------------------------------------------

    def retry(self) -> None:
        twin = self._one("failed", "cancelled", "stuck")
        if twin is None or twin.by_hand_still:
            return
        if twin.state == "stuck":
            assert self.shard.run(calls.mark(self.shard.s, twin.id, "retry")) == "stuck"
            task = twin.nodes[twin.order[-1]].undo
            assert task is not None
            twin.put(task, "s")
            twin.state, twin.stuck, twin.noted = "undoing", False, set()
            twin.go_on()
            return
        self._again(twin, [])

    def retry_from(self) -> None:
        """Nodes that have completed run again too, and all that wait for them."""
        twin = self._one("failed", "cancelled", "completed")
        if twin is None or twin.by_hand_still:
            return
        may = [n for n in range(twin.static) if twin.nodes[n].kind != "undo" and n != twin.on_failure]
        with_children = [n for n in may if n in twin.grown]
        self._again(twin, self.chance.sample(with_children or may, 1))

    def _again(self, twin: KindTwin, start: list[int]) -> None:
        s = self.shard.s
        found = drive(self.shard.transport, run_again(s, twin.id, [str(n) for n in start]))
        chosen = twin.again(start)
        assert set(found) == chosen, (found, twin)
        old = self.plans.get(twin.id)
        assert old is None or self.shard.run(again(s, twin.id, old)).left == -1, "an old plan is carried out"
        self.plans[twin.id] = plan = drive(self.shard.transport, plan_of(s, twin.id, found))
        assert self.shard.run(again(s, twin.id, plan)) == (twin.state, 0)
        assert self.shard.run(again(s, twin.id, self.chance.choice((plan, GO_ON)))).left == -1
        twin.retry(chosen)
        self._advance(twin, [], joined=False)
        twin.go_on()

    # -- what must hold ----------------------------------------------------------------------------------

    def compare(self) -> None:
        super().compare()
        for twin in self._twins():
            waits = [n for n, node in enumerate(twin.nodes) if node.kind == "wait"]
            names = ["order", "losing", *(f"v{n}" for n in waits), *(f"won{n}" for n in twin.won)]
            raw = self.shard.run(calls.record(self.shard.s, twin.id, names))
            assert [int(one) for one in (raw[0] or b"").split()] == twin.order, (raw, twin)
            assert sorted(map(int, (raw[1] or b"").split())) == sorted(twin.losing), (raw, twin)
            assert raw[2 : 2 + len(waits)] == [twin.values.get(n) for n in waits], "a signal"
            assert [int(one or -1) for one in raw[2 + len(waits) :]] == list(twin.won.values())
            self._compare_undone_maps(twin)

    def _compare_undone_maps(self, twin: KindTwin) -> None:
        """The undo task of a map gets what has completed."""
        s, transport = self.shard.s, self.shard.transport
        for n, node in enumerate(twin.nodes):
            if node.kind == "map" and node.undo is not None and twin.states[node.undo] in "qr":
                ranges = drive(transport, maps(s, twin.id))
                assert drive(transport, completed_of(s, twin.id, n, ranges)) == twin.to_undo(n), twin

    def _compare_tasks(self, twin: Twin) -> None:
        assert isinstance(twin, KindTwin)
        for n, node in enumerate(twin.nodes):
            if node.task in ("ready", "running", "dead"):
                state = self.shard.state(self._task(twin, n))
                assert state == node.task, (state, n, twin)
            task = node.kind in ("task", "undo") and node.children is None
            if task and twin.states[n] == "r" and n not in twin.rows:
                assert node.task in ("ready", "running"), "it waits for a task that is gone"

    def end_all(self) -> None:
        for _ in range(300):
            for twin in self._twins():
                rows = [*twin.rows.items(), *((n, "t") for n in twin.timers)]
                self._taken(twin, rows)
                self._advance(twin, [f"{n} {how}" for n, how in rows], joined=False)
            for step in (self.release, self.grow, self.time_passes, self.fetch, self.settle, self.signal):
                step()
            self.compare()
            if all(twin.state in _OVER and not twin.rows and not twin.by_hand for twin in self._twins()):
                break
        else:
            raise AssertionError(f"flows do not end: {self.flows}")
        assert self.shard.command("ZCARD", self.shard.s.inbox) == 0
        assert self.shard.fetch() == []


def _alone(nodes: list[Kind], racer: int) -> list[int]:
    """The nodes that run for this one alone, itself among them."""
    alone = {racer}
    for n in range(racer - 1, -1, -1):
        children = [m for m, node in enumerate(nodes) if n in node.waits]
        if children and alone.issuperset(children):
            alone.add(n)
    return sorted(alone)


def _told(n: int, node: Kind) -> dict[str, object]:
    """What the record says of a node."""
    told: dict[str, object] = {"m": str(n), "a": node.waits}
    if node.kind in ("task", "undo", "map"):
        told |= {"t": "email", "l": "n"}
    told |= {"k": node.kind} if node.kind != "task" else {}
    told |= {"c": True} if node.tolerated else {}
    told |= {"u": node.undo} if node.undo is not None else {}
    told |= {"g": f"go{n}"} if node.kind == "wait" else {}
    told |= {"z": _HOUR_MS} if node.kind == "sleep" or (node.kind == "wait" and node.timed) else {}
    told |= {"x": [node.alone[racer] for racer in node.waits]} if node.kind == "first" else {}
    return told

"""Flows against their twin, in any order of calls: each node runs once, nobody waits for what cannot come.

Flows of one task type on a real server, and beside each all that must be known of it: the letter of each
node, what has ended and was not taken out of the inbox yet, and what its tasks do. Any end of a task, by any
script; steps of the flow that are lost half way, repeated, or come with rows that are not there. A machine of
its own, as steps and lanes have.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Final

import orjson

from streamq.calls import daemon as daemon_calls
from streamq.calls import flows as calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Arg
from streamq.calls.flow_again import GO_ON, again
from streamq.calls.flows import Advanced, Item
from streamq.flow import drive
from streamq.flows.flow_id import task_of
from streamq.flows.growing import page_of
from streamq.flows.retry_plan import plan_of
from streamq.model.delivery import Delivery
from streamq.model.effect import NodeResult
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
from streamq.model.task import TaskId
from streamq.transport.sync_transport import SyncTransport
from tests.lua.shard import Shard

FAR: Final = 3_600_000
STEPS: Final = 60
FLOWS: Final = 2
FAILED: Final = "dxe"
OVER: Final = ("completed", "failed", "cancelled")
_POLICY: Final = {"max_lost": "1"}
"""The first lost delivery is the end, so that reclaim ends tasks."""


@dataclass
class Node:
    """waits: the nodes that it waits for. children: of a map, their numbers. mortal: its task expires."""

    waits: list[int]
    tolerated: bool = False
    children: range | None = None
    map: int | None = None
    mortal: bool = False
    task: str = ""
    """Where its task is: ready, running, gone, dead; '' if it never was released."""
    spared: bool = False
    """Whether it ran when those were looked for that have expired: it is looked at again much later."""


@dataclass
class Twin:
    """What must hold of one flow."""

    id: str
    nodes: list[Node]
    on_failure: int | None
    states: str
    state: str = "running"
    rows: dict[int, str] = field(default_factory=dict[int, str])
    """What the inbox has of it: how a node ended."""
    looked: bool = False
    """Whether its first nodes, or those of a retry, were looked at."""

    # -- what the server is to do ------------------------------------------------------------------------

    def put(self, n: int, letter: str) -> None:
        self.states = self.states[:n] + letter + self.states[n + 1 :]

    def ended(self, n: int, letter: str) -> None:
        before = self.states[n]
        if before != "r" and not (letter == "c" and before in FAILED):
            return
        self.put(n, letter)
        node = self.nodes[n]
        tolerated = node.tolerated or n == self.on_failure
        if before == "r" and letter != "c" and not tolerated and self.state == "running":
            self.state = "failing"
            self.skip(keep=self.on_failure)

    def skip(self, keep: int | None) -> None:
        for n, letter in enumerate(self.states):
            control = self.nodes[n].children is not None and letter == "r"
            if (letter in "wq" or control) and n != keep:
                self.put(n, "s")

    def go_on(self) -> None:
        """Look at all nodes until nothing changes, then whether the flow has ended."""
        self.looked = True
        before = ""
        while self.state == "running" and before != self.states:
            before = self.states
            for n, node in enumerate(self.nodes):
                if self.states[n] == "w" and n != self.on_failure and node.map is None and self._may_run(n):
                    self._begin(n, node)
                if node.children is not None and self.states[n] == "r" and self._all_ended(node.children):
                    self.put(n, "c")
        self._end()

    def _may_run(self, n: int) -> bool:
        parents = [(self.states[one], self.nodes[one]) for one in self.nodes[n].waits]
        return all(letter == "c" or (letter in FAILED and node.tolerated) for letter, node in parents)

    def _begin(self, n: int, node: Node) -> None:
        if node.children is None:
            return self.put(n, "q")
        self.put(n, "r")
        for child in node.children:
            if self.states[child] == "w":
                self.put(child, "q")
        return None

    def _all_ended(self, children: range) -> bool:
        return all(self.states[child] not in "wqr" for child in children)

    def _end(self) -> None:
        last, live = self.on_failure, "r" in self.states
        if self.state == "running" and not live and "q" not in self.states:
            assert self.states.count("w") == (last is not None and self.states[last] == "w"), (
                f"it waits: {self}"
            )
            if last is not None and self.states[last] == "w":
                self.put(last, "s")
            self.state = "completed"
        if self.state == "failing" and not live:
            if last is not None and self.states[last] == "w":
                self.put(last, "q")
            if not set("wq") & set(self.states):
                self.state = "failed"
        if self.state == "cancelling" and not live:
            self.state = "cancelled"

    def released(self, n: int) -> None:
        self.put(n, "r")
        self.nodes[n].task, self.nodes[n].spared = "ready", False

    @property
    def ready(self) -> list[int]:
        return [n for n, letter in enumerate(self.states) if letter == "q"]

    @property
    def releasable(self) -> list[int]:
        """Those that may run and have a task."""
        return self.ready

    @property
    def inbox(self) -> set[str]:
        """What the inbox has of it."""
        look = {f"{self.id} look"} if self.ready or not self.looked else set[str]()
        return look | {f"{self.id} {n} {how}" for n, how in self.rows.items()}


class FlowFuzz:
    """One run of the machine. AssertionError where the server and the twin differ."""

    def __init__(self, transport: SyncTransport, seed: int) -> None:
        self.chance = random.Random(seed)
        self.shard = Shard(transport, _POLICY)
        self.flows: dict[str, Twin] = {}
        self.held: dict[str, Delivery] = {}
        self.taken_over = self.put_back = 0

    def run(self, steps: int = STEPS) -> None:
        """Take so many steps; compare after each; then every flow ends, and leaves nothing."""
        kinds = (
            self.start, *(4 * [self.fetch]), *(6 * [self.settle]), self.cancel_task, self.expire, self.lose,
            self.delete_entry, self.purge, *(5 * [self.advance]), *(4 * [self.release]), self.not_there,
            self.cancel, self.start_again, *(2 * [self.retry]),
        )  # fmt: skip
        for _ in range(steps):
            self.chance.choice(kinds)()
            self.compare()
        self.end_all()

    # -- flows -------------------------------------------------------------------------------------------

    def start(self) -> None:
        if len(self.flows) == FLOWS:
            return
        static = self.chance.randrange(2, 6)
        last = static - 1 if self.chance.random() < 0.5 else None
        nodes = self._nodes(static, last)
        twin = Twin(f"{len(self.flows) + 1}-{7:012d}", nodes, last, "w" * len(nodes))
        if any(node.children for node in nodes) or self.chance.random() < 0.5:
            self._store(twin, static)
            for _ in range(self.chance.choice((1, 2))):
                call = calls.commit(self.shard.s, twin.id, "", "", len(nodes))
                assert self.shard.run(call).answer == "started"
        else:
            self._start_at_once(twin, static)
        self.flows[twin.id] = twin

    def _start_at_once(self, twin: Twin, static: int) -> None:
        """Store and start it in one call, which may be sent twice."""
        twin.go_on()
        told = {n for n in twin.ready if twin.nodes[n].map is None}
        about = calls.Beginning("", "", len(twin.nodes), "")
        call = calls.start(self.shard.t, self.shard.s, twin.id, "0", about, *self._stored(twin, static))
        for _ in range(self.chance.choice((1, 2))):
            answer = self.shard.run(call)
            for n in sorted(told):
                self._released(twin, n)
            told = set()
            assert answer.committed.answer == "started"
            assert answer.advanced is not None
            assert answer.advanced.state == twin.state
            assert [one.number for one in answer.advanced.ready] == twin.ready, (answer, twin)

    def _nodes(self, static: int, last: int | None) -> list[Node]:
        """Draw a graph: a node waits for some of those before it."""
        chance, nodes = self.chance, list[Node]()
        for n in range(static):
            waits = sorted(chance.sample(range(n), chance.randrange(min(n, 3) + 1)))
            nodes.append(Node(waits, tolerated=chance.random() < 0.2, mortal=chance.random() < 0.15))
        if last is not None:
            nodes[last] = Node([])
        for n in range(static):
            if n != last and chance.random() < 0.25:
                count = chance.randrange(4)
                nodes[n].tolerated = False
                nodes[n].children = range(len(nodes), len(nodes) + count)
                nodes += [Node([], map=n) for _ in range(count)]
        return nodes

    def _store(self, twin: Twin, static: int) -> None:
        s, (record, items) = self.shard.s, self._stored(twin, static)
        for _ in range(self.chance.choice((1, 2))):
            self.shard.run(calls.build_part(s, twin.id, "0", record, items, running=False))
            for n, node in enumerate(twin.nodes):
                if node.children is not None:
                    children = [Item(m, (b"{}",)) for m in range(len(node.children))]
                    self.shard.run(calls.build_part(s, twin.id, page_of(n, 0), {}, children, running=False))

    def _stored(self, twin: Twin, static: int) -> tuple[dict[str, Arg], list[Item]]:
        nodes = twin.nodes
        plain = [n for n in range(static) if n != twin.on_failure]
        maps = {n: node.children for n, node in enumerate(nodes) if node.children is not None}
        record: dict[str, Arg] = {
            "name": "f", "static": static, "todo": " ".join(str(n) for n in plain if not nodes[n].waits),
            "maps": " ".join(f"{n}:{of.start}:{len(of)}" for n, of in maps.items()),
            "controls": " ".join(map(str, maps)),
            "tolerant": " ".join(str(n) for n in range(static) if nodes[n].tolerated),
            "on_failure": "" if twin.on_failure is None else twin.on_failure, "fail_fast": 0,
        }  # fmt: skip
        for n in range(static):
            told: dict[str, object] = {"m": str(n), "t": "email", "l": "n", "a": nodes[n].waits}
            told |= {"c": True} if nodes[n].tolerated else {}
            told |= {"k": "map"} if n in maps else {}
            record[f"n{n}"] = orjson.dumps(told)
            record[f"d{n}"] = " ".join(str(m) for m in range(static) if n in nodes[m].waits)
            record[f"c{n}"] = orjson.dumps(["n", "", "", "", ""])
        life = [("x", "1")]
        items = [
            Item(n, ("n", b"{}", "", "", "", *(life[0] if nodes[n].mortal else ())))
            for n in range(static)
            if n not in maps
        ]
        return record, items

    def _any(self, *states: str) -> Twin | None:
        found = [twin for twin in self.flows.values() if not states or twin.state in states]
        return self.chance.choice(found) if found else None

    def advance(self) -> None:
        """Take some rows out of the inbox, by one call or by the one that also releases; perhaps twice."""
        twin = self._any()
        if twin is None:
            return
        rows = [n for n in twin.rows if self.chance.random() < 0.7]
        self.chance.shuffle(rows)
        sent = [f"{n} {twin.rows[n]}" for n in rows]
        joined = self.chance.random() < 0.5
        for n in rows:
            twin.ended(n, twin.rows.pop(n))
        twin.go_on()
        told = {n for n in twin.ready if twin.nodes[n].map is None} if joined else set[int]()
        for _ in range(self.chance.choice((1, 1, 2))):
            answer = self._advance(twin, sent, joined=joined)
            for n in sorted(told):
                self._released(twin, n)
            told = set()
            assert answer.state == twin.state
            assert [one.number for one in answer.ready] == twin.ready, (answer, twin)

    def _advance(self, twin: Twin, rows: list[str], *, joined: bool) -> Advanced:
        if joined:
            return self.shard.run(calls.step(self.shard.t, self.shard.s, twin.id, "0", rows))
        return self.shard.run(calls.advance(self.shard.s, twin.id, rows))

    def not_there(self) -> None:
        """A row that is not in the inbox, or is of a node that was not released, changes nothing."""
        twin = self._any()
        if twin is None:
            return
        twin.go_on()
        n, how = self.chance.randrange(len(twin.nodes)), self.chance.choice("cdxe")
        if twin.rows.get(n) == how:
            return
        letter = twin.states[n]
        if letter != "r" and not (how == "c" and letter in FAILED) and self.chance.random() < 0.5:
            self.shard.command("ZADD", self.shard.s.inbox, 1, f"{twin.id} {n} {how}")
        self._advance(twin, [f"{n} {how}"], joined=False)

    def start_again(self) -> None:
        """The reply to the first call was lost."""
        twin = self._any()
        if twin is not None:
            call = calls.commit(self.shard.s, twin.id, "", "", len(twin.nodes))
            assert self.shard.run(call).answer == "started"

    def release(self) -> None:
        """Let some of those run that may; the call may be lost half way, and come twice."""
        twin = self._any()
        if twin is None or not twin.releasable:
            return
        one = self.chance.choice(twin.releasable)
        of, may = twin.nodes[one].map, twin.releasable
        some = [n for n in may if twin.nodes[n].map == of and (n == one or self.chance.random() < 0.7)]
        first = 0 if of is None else (twin.nodes[of].children or range(0)).start
        number = -1 if of is None else of
        call = calls.release(self.shard.t, self.shard.s, twin.id, page_of(number, 0), some, number, first)
        for n in range(self.chance.choice((1, 1, 2))):
            assert self.shard.run(call) == (len(some) if n == 0 else 0), "a node was released again"
        for n in some:
            self._released(twin, n)

    def _released(self, twin: Twin, n: int) -> None:
        if twin.nodes[n].task == "dead":
            self.put_back += 1
        else:
            self.taken_over += 1
        twin.released(n)

    def cancel(self) -> None:
        twin = self._any()
        if twin is None or self.chance.random() < 0.6:
            return
        before = self.shard.run(calls.mark(self.shard.s, twin.id, "cancel"))
        assert before == twin.state
        if twin.state in ("running", "failing"):
            twin.state = "cancelling"
            twin.skip(keep=None)
            twin.go_on()

    def retry(self) -> None:
        twin = self._any("failed", "cancelled")
        if twin is None:
            return
        self._retried(twin)
        for n, node in enumerate(twin.nodes):
            letter = twin.states[n]
            again = letter == "s" or (letter in FAILED and not node.tolerated)
            if again or n == twin.on_failure:  # that is told again of what fails next
                twin.put(n, "w")
        twin.state, twin.looked = "running", False
        self._advance(twin, [], joined=False)
        twin.go_on()

    def _retried(self, twin: Twin) -> None:
        """Plan a retry, and let the nodes wait again; whoever does it may die, and somebody else goes on."""
        s = self.shard.s
        plan = drive(self.shard.transport, plan_of(s, twin.id, []))
        assert self.shard.run(again(s, twin.id, plan)) == (twin.state, 0)
        assert self.shard.run(again(s, twin.id, self.chance.choice((plan, GO_ON)))).left == -1

    # -- their tasks -------------------------------------------------------------------------------------

    def _task(self, twin: Twin, n: int) -> str:
        return task_of(twin.id, "n", n)

    def _in(self, *where: str) -> tuple[Twin, int] | None:
        found = [
            (twin, n)
            for twin in self.flows.values()
            for n, node in enumerate(twin.nodes)
            if node.task in where
        ]
        return self.chance.choice(found) if found else None

    def fetch(self) -> None:
        for one in self.shard.fetch(budget=2):
            self.held[one.local] = one
            self._node_of(one.local).task = "running"

    def _node_of(self, local: str) -> Node:
        for twin in self.flows.values():
            for n, node in enumerate(twin.nodes):
                if self._task(twin, n) == local:
                    return node
        raise AssertionError(f"{local} is the task of no node")

    def _ends(self, twin: Twin, n: int, how: str) -> None:
        assert n not in twin.rows, "a node ended twice"
        assert twin.states[n] == "r", "a node ended that was not released"
        twin.rows[n] = how
        twin.nodes[n].task = "dead" if how == "d" else "gone"

    def settle(self) -> None:
        if (found := self._in("running")) is None:
            return
        twin, n = found
        ends: list[tuple[Outcome, str]] = [
            *(5 * [(Completed(b"1", FAR), "c")]), (Died("attempts", b"[]"), "d"), (Cancelled(), "x"),
            (Expired(), "e"), (Retried(0, b"[]"), ""), (HandedBack(started=True), ""),
        ]  # fmt: skip
        outcome, how = self.chance.choice(ends)
        held = self.held.pop(self._task(twin, n))
        item = Settlement(held.place, held.local, outcome, held.claims != b"", (NodeResult(twin.id, n),))
        number = self.shard.sequence()
        for _ in range(self.chance.choice((1, 1, 2))):
            call = worker_calls.settle(self.shard.t, self.shard.s, "settler", number, [item])
            assert self.shard.run(call) == [True]
        if how:
            self._ends(twin, n, how)
        else:
            twin.nodes[n].task = "ready"

    def cancel_task(self) -> None:
        if (found := self._in("ready")) is None or self.chance.random() < 0.5:
            return
        twin, n = found
        task = TaskId("email", 0, self._task(twin, n))
        assert self.shard.run(producer_calls.cancel(self.shard.t, self.shard.s, task)) == "cancelled"
        self._ends(twin, n, "x")

    def expire(self) -> None:
        time.sleep(0.002)
        ready = [
            (twin, n)
            for twin in self.flows.values()
            for n, node in enumerate(twin.nodes)
            if node.task == "ready" and node.mortal and not node.spared
        ]
        self.shard.run(daemon_calls.expire(self.shard.t, 100))
        for twin, n in ready:
            self._ends(twin, n, "e")
        for twin in self.flows.values():
            for node in twin.nodes:
                node.spared = node.spared or node.task == "running"

    def lose(self) -> None:
        """A worker dies with a task that was lost too often."""
        if (found := self._in("running")) is None or self.chance.random() < 0.4:
            return
        twin, n = found
        held = self.held.pop(self._task(twin, n))
        asked = self.chance.random() < 0.4
        if asked:
            task = TaskId("email", 0, held.local)
            assert self.shard.run(producer_calls.cancel(self.shard.t, self.shard.s, task)) == "requested"
        self.shard.age(held, 10**7)
        for letter in "hnls":
            self.shard.reclaim(letter)
        self._ends(twin, n, "x" if asked else "d")

    def delete_entry(self) -> None:
        """Something else deletes the entry of a running task, and whoever notices writes the task off."""
        if (found := self._in("running")) is None or self.chance.random() < 0.5:
            return
        twin, n = found
        held = self.held.pop(self._task(twin, n))
        self.shard.age(held, 10**7)
        self.shard.command("XDEL", self.shard.stream(held), held.place[1:])
        if self.chance.random() < 0.5:
            self.shard.run(worker_calls.renew(self.shard.t, "c", [(held.place, held.local)]))
        else:
            for letter in "hnls":
                self.shard.reclaim(letter)
        self._ends(twin, n, "d")

    def purge(self) -> None:
        """An operator throws a dead letter away: a retry makes the task anew."""
        if (found := self._in("dead")) is not None and self.chance.random() < 0.5:
            twin, n = found
            until = self.shard.now() + 1
            self.shard.run(operator_calls.purge(self.shard.t, 1, until, [self._task(twin, n)]))
            twin.nodes[n].task = "gone"

    # -- what must hold ----------------------------------------------------------------------------------

    def compare(self) -> None:
        """Compare the server with the twin: each node, the books, the inbox, each task."""
        rows = set[str]()
        for twin in self.flows.values():
            names = ["state", "nodes", "waiting", "released", "done", "skipped", "failed", "ready"]
            state, *raw = self.shard.run(calls.record(self.shard.s, twin.id, names))
            assert self.shard.run(calls.states(self.shard.s, twin.id)) == twin.states, twin
            assert state == twin.state.encode(), (state, twin)
            counted = [
                len(twin.states), *(sum(twin.states.count(letter) for letter in of)
                for of in ("wq", "r", "cdxe", "s", "dxe", "q")),
            ]  # fmt: skip
            assert [int(one or -1) for one in raw] == counted, (raw, twin)
            assert counted[0] == sum(counted[1:5])
            rows |= twin.inbox
            self._compare_tasks(twin)
        found = {row.decode() for row in self.shard.command("ZRANGE", self.shard.s.inbox, 0, -1)}
        assert found == rows, (found, rows)
        counters = self.shard.snapshot().counters
        assert counters.get("accepted", 0) == self.taken_over, "a node ran twice, or not at all"
        assert counters.get("requeued", 0) == self.put_back

    def _compare_tasks(self, twin: Twin) -> None:
        for n, node in enumerate(twin.nodes):
            if node.task in ("ready", "running", "dead"):
                state = self.shard.state(self._task(twin, n))
                assert state == node.task, (state, n, twin)
            if twin.states[n] == "r" and n not in twin.rows and node.children is None:
                assert node.task in ("ready", "running"), "it waits for a task that is gone"

    def end_all(self) -> None:
        """Let every flow end: nobody waits."""
        for _ in range(200):
            for twin in self.flows.values():
                sent = [f"{n} {how}" for n, how in twin.rows.items()]
                for n, how in list(twin.rows.items()):
                    twin.ended(n, how)
                twin.rows.clear()
                self._advance(twin, sent, joined=False)
                twin.go_on()
            self.release()
            self.fetch()
            self.settle()
            self.compare()
            if all(twin.state in OVER and not twin.rows for twin in self.flows.values()):
                break
        else:
            raise AssertionError(f"flows do not end: {self.flows}")
        assert self.shard.command("ZCARD", self.shard.s.inbox) == 0
        assert self.shard.fetch() == []

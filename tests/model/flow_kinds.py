"""What must hold of flows whose nodes are more than tasks: the twin of undo, children, timers, waits and
races.

Owns what the server is to do, node by node and in the order in which it looks at them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tests.model.flow_machine import FAILED, Node, Twin

CONTROLS: Final = ("map", "sleep", "wait", "first")


@dataclass
class Kind(Node):
    """kind: as in a flow's record, or gone: a child that was forgotten. undo: the task that undoes it. timed:
    a wait that ends by itself. alone: of a race, for each that takes part the nodes that run for it alone."""

    kind: str = "task"
    undo: int | None = None
    timed: bool = False
    alone: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    grows: int | None = None
    """How many children its last attempt has left for it; None if none."""
    joins: bool = False
    """Whether the last of these runs behind the others."""

    @property
    def join(self) -> int | None:
        """That child."""
        return self.children[-1] if self.joins and self.children else None


@dataclass
class KindTwin(Twin):
    """What must hold of one such flow."""

    nodes: list[Kind]  # type: ignore[assignment]
    static: int = 0
    todo: list[int] = field(default_factory=list[int])
    order: list[int] = field(default_factory=list[int])
    """The nodes to be undone, the last of them first."""
    undo: bool = True
    stuck: bool = False
    ends: str = ""
    timers: dict[int, bool] = field(default_factory=dict[int, bool])
    """Whose timer runs, and whether its time has come."""
    losing: list[int] = field(default_factory=list[int])
    waiting: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    mail: dict[str, list[bytes]] = field(default_factory=dict[str, list[bytes]])
    values: dict[int, bytes] = field(default_factory=dict[int, bytes])
    won: dict[int, int] = field(default_factory=dict[int, int])
    grown: list[int] = field(default_factory=list[int])
    noted: set[int] = field(default_factory=set[int])
    """The maps of which a child has completed since the flow was started or went on."""
    by_hand: set[int] = field(default_factory=set[int])
    """The nodes whose dead letters were requeued by hand, and have not ended since."""
    late: set[int] = field(default_factory=set[int])
    """Children that have completed after the undo of their map had begun."""

    # -- nodes that end ----------------------------------------------------------------------------------

    def ended(self, n: int, letter: str) -> None:
        before, node = self.states[n], self.nodes[n]
        if letter == "g" and (n == self.on_failure or node.kind == "undo"):
            letter = "c"  # nothing could wait for its children
        if letter in "cg" and (before == "r" or before in FAILED):
            self._may_be_undone(n, letter)
        if before == "r" and n in self.losing:
            self.losing.remove(n)
            done = letter == "c" or (letter == "g" and self._map_undo(n) is not None)
            return self.put(n, "c" if done else "s")
        again = letter == "c" and before in FAILED
        if letter == "g" and before == "r" and n not in self.grown:
            self.grown.append(n)
            return self.put(n, "q" if self.state == "running" else "s")
        if before != "r" and not again:
            return None
        self.put(n, letter)
        if before != "r":
            return None
        told = self.nodes[self.root(n)]
        if letter != "c" and not (told.tolerated or n == self.on_failure) and self.state == "running":
            self.fail()
        return self._after(n)

    def _map_undo(self, n: int) -> int | None:
        """The undo task of the map that a node is a child of."""
        parent = self.nodes[n].map
        return self.nodes[parent].undo if parent is not None and self.nodes[parent].kind == "map" else None

    def _may_be_undone(self, n: int, letter: str) -> None:
        """A task has completed: note its node, or the map that it is a child of."""
        node, undo = self.nodes[n], self._map_undo(n)
        if node.undo is not None and n not in self.grown:
            self.order.append(n)
        failed = self.states[n] in FAILED
        if undo is None or (failed and letter == "g"):
            return
        assert node.map is not None
        if failed and self.states[undo] in "qrc":
            self.late.add(n)
        elif node.map not in self.noted:
            self.noted.add(node.map)
            self.order.append(node.map)

    def _after(self, n: int) -> None:
        """A node has ended: look at those that wait for it; or a child has."""
        parent = self.nodes[n].map
        if self.state != "running":
            return
        if parent is None:
            self.todo += [m for m in range(self.static) if n in self.nodes[m].waits]
        elif self.states[parent] == "r":
            self._perhaps_done(parent)

    def _perhaps_done(self, n: int) -> None:
        children, join = self.nodes[n].children, self._joins_now(n)
        if join is not None:
            self.put(join, "q")
        elif children is not None and self._all_ended(children):
            self.put(n, "c")
            undoes = self.nodes[n].kind == "map" and self.nodes[n].undo is not None
            if undoes and "c" in [self.states[child] for child in children]:
                self.order.append(n)
            self._after(n)

    def to_undo(self, n: int) -> list[int]:
        """The children of a map that have completed, those too that wait for what they have spawned."""
        children = [child for child in self.nodes[n].children or () if child not in self.late]
        return [
            child for child in children
            if self.states[child] in ("cqrs" if child in self.grown else "c")
        ]  # fmt: skip

    def _joins_now(self, n: int) -> int | None:
        """The child that joins the others, if they have ended and it waits."""
        children, join = self.nodes[n].children, self.nodes[n].join
        waits = join is not None and self.states[join] == "w"
        return join if waits and children is not None and self._all_ended(children[:-1]) else None

    def root(self, n: int) -> int:
        while (parent := self.nodes[n].map) is not None:
            n = parent
        return n

    def timer(self, n: int) -> None:
        """A timer's row is taken, whose time has come."""
        del self.timers[n]
        if self.states[n] == "r":
            self.ended(n, "c" if self.nodes[n].kind == "sleep" else "e")

    def signal(self, name: str, value: bytes) -> str:
        """A signal comes; return what its sender is to be told."""
        if self.state != "running":
            return "dead"
        taker = next((n for n in self.waiting.get(name, ()) if self.states[n] == "r"), None)
        if taker is None:
            self.mail.setdefault(name, []).append(value)
            return "stored"
        self.values[taker] = value
        self.timers.pop(taker, None)
        self.ended(taker, "c")
        self.go_on()
        return "delivered"

    def grow(self, n: int) -> None:
        """The children of a node get their numbers."""
        first, node = len(self.nodes), self.nodes[n]
        node.children = range(first, first + (node.grows or 0))
        self.nodes += [Kind([], map=n) for _ in node.children]
        self.states += "w" * len(node.children)
        self._begin(n, node)

    # -- nodes that begin --------------------------------------------------------------------------------

    def go_on(self) -> None:
        self.looked = True
        while self.todo and self.state == "running":
            n = self.todo.pop(0)
            if self.states[n] == "w" and n != self.on_failure:
                self._look(n, self.nodes[n])
        if self.state != "running":
            self.todo = []
        else:
            self._nobody_is_forgotten()
        self._end()

    def _nobody_is_forgotten(self) -> None:
        for n in range(self.static):
            if self.states[n] == "w" and n != self.on_failure and self.nodes[n].kind != "first":
                assert not self._may_run(n), f"{n} may run: {self}"

    def _look(self, n: int, node: Kind) -> None:
        if node.kind == "first":
            self._race(n, node)
        elif self._may_run(n):
            self._begin(n, node)

    def _begin(self, n: int, node: Node) -> None:
        assert isinstance(node, Kind)
        if node.kind in ("sleep", "wait"):
            return self._begin_wait(n, node)
        held = node.join if node.join is not None and self.states[node.join] == "w" else None
        super()._begin(n, node)
        if held is not None:
            self.put(held, "w")
        return self._perhaps_done(n)

    def _begin_wait(self, n: int, node: Kind) -> None:
        name = f"go{n}"
        if node.kind == "wait" and self.mail.get(name):
            self.values[n] = self.mail[name].pop(0)
            self.put(n, "c")
            return self._after(n)
        self.put(n, "r")
        if node.kind == "wait":
            self.waiting.setdefault(name, []).append(n)
        if node.kind == "sleep" or node.timed:
            self.timers[n] = False
        return None

    def _race(self, n: int, node: Kind) -> None:
        letters = [self.states[racer] for racer in node.waits]
        won = next((racer for racer in node.waits if self.states[racer] == "c"), None)
        if won is None and not all(letter in (*FAILED, "s") for letter in letters):
            return
        if won is not None:
            self.won[n] = won
            for racer in node.waits:
                for loser in node.alone[racer] if racer != won else ():
                    self.lose(loser)
        self.put(n, "r")
        self.ended(n, "d" if won is None else "c")

    def lose(self, n: int) -> None:
        """A node runs for nothing any more."""
        letter, node = self.states[n], self.nodes[n]
        if letter not in "wqr" or n in self.losing:
            return
        control = node.children is not None or node.kind in CONTROLS
        if letter == "r" and not control:
            self.losing.append(n)
            return
        self.put(n, "s")
        self.timers.pop(n, None)
        for child in node.children or ():
            self.lose(child)

    # -- flows that end ----------------------------------------------------------------------------------

    def fail(self) -> None:
        self.state = "failing"
        self.skip(keep=self.on_failure)

    def skip(self, keep: int | None) -> None:
        super().skip(keep)
        for n, node in enumerate(self.nodes):
            if node.kind in ("sleep", "wait") and self.states[n] == "r":
                self.put(n, "s")
        self.timers = {n: due for n, due in self.timers.items() if self.states[n] == "r"}

    def _end(self) -> None:
        if self.state in ("failing", "cancelling", "undoing") and "r" not in self.states:
            if self._undoes():
                self.ends = self.ends if self.state == "undoing" else self.state
                self.state = "undoing"
            elif self.state == "undoing":
                self.state = self.ends
        super()._end()
        if self.stuck and self.state in ("failed", "cancelled"):
            self.state = "stuck"

    def _undoes(self) -> bool:
        """Whether an undo task runs or is to run next."""
        while self.undo and not self.stuck and self.order:
            task = self.nodes[self.order[-1]].undo
            assert task is not None
            if self.states[task] == "s":
                self.put(task, "q")
            if self.states[task] in "qr":
                return True
            if self.states[task] == "c":
                self.order.pop()
            else:
                self.stuck = True
        return False

    # -- a retry -----------------------------------------------------------------------------------------

    def again(self, start: list[int]) -> set[int]:
        """Who runs again besides those that failed."""
        undone = [n for n, node in enumerate(self.nodes) if node.undo and self.states[node.undo] == "c"]
        found, new = set[int](), {*start, *undone}
        while new:
            found |= new
            new = {m for m in range(self.static) for n in new if n in self.nodes[m].waits} - found
        return found

    def retry(self, again: set[int]) -> None:
        before, gone = self.states, set[int]()
        lost = {loser for loser in self._lost(again) if loser not in again}
        for n in sorted(again):
            self._forget(n, gone)
        for n, node in enumerate(self.nodes):
            if node.map is None:
                self.put(n, self._letter(n, node, again, lost))
            elif n in gone or node.kind == "gone":
                self.put(n, "s")
                node.kind = "gone"
            elif n in self.late and node.map in again and before[n] == "c":
                continue  # it was not undone
            elif node.map in again or (
                self.root(n) not in lost and before[node.map] != "c" and before[n] in "sdxe"
            ):
                self.put(n, "w")
        self.order = [n for n in self.order if n not in again]
        self.todo = [n for n in range(self.static) if self.states[n] == "w"]
        self.state, self.undo, self.looked = "running", True, False
        self.noted, self.late = set(), set()

    def _letter(self, n: int, node: Kind, again: set[int], lost: set[int]) -> str:
        letter = self.states[n]
        if node.kind == "undo":
            return "s"
        if n in again or n == self.on_failure:
            return "w"
        return letter if n in lost or letter not in ("s" if node.tolerated else "sdxe") else "w"

    def _lost(self, again: set[int]) -> list[int]:
        races = [(n, node) for n, node in enumerate(self.nodes) if node.kind == "first" and n not in again]
        return [
            loser for n, node in races if self.states[n] == "c"
            for racer, alone in node.alone.items() if racer != self.won[n] for loser in alone
        ]  # fmt: skip

    def _forget(self, n: int, gone: set[int]) -> None:
        """Forget the children that a node has by what it returned, theirs as well."""
        node, made = self.nodes[n], n in self.grown
        children = node.children or range(0)
        if made:
            self.grown.remove(n)
            node.children, node.grows, node.joins = None, None, False
            gone |= {*children}
        for child in children:
            self._forget(child, gone)

    # -- what the server is to say -----------------------------------------------------------------------

    @property
    def releasable(self) -> list[int]:
        return [n for n in self.ready if n not in self.grown]

    @property
    def requeueable(self) -> list[int]:
        """Nodes whose tasks are dead letters, and of which the flow knows that."""
        return [
            n for n, node in enumerate(self.nodes)
            if node.task == "dead" and self.states[n] == "d" and n not in self.rows and not node.mortal
            and node.kind != "undo" and n != self.on_failure
        ]  # fmt: skip

    @property
    def by_hand_still(self) -> bool:
        """Whether some of these run, or the flow is not told yet of their end."""
        return bool(self.by_hand) or any(self.states[n] in FAILED for n in self.rows)

    @property
    def inbox(self) -> set[str]:
        return super().inbox | {f"{self.id} {n} t" for n in self.timers}

"""Flows, steps, signals and follow-ups under test: their handlers, and the flows that producers start.

Owns the shapes of the flows. What is derived from another task has a key that says so, as nobody asked for
it: `flow:` of a node, `after:` of a follow-up.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Final

from streamq import Expand, Joined, SignalTimeout, get_context
from streamq.errors import StreamQError
from tests.chaos.promises import DERIVED_KEYS, MEMOS
from tests.chaos.tasks import Step, app, behave, policy

FLOW, AFTER = DERIVED_KEYS
CONDUCTS: Final = {"ok": 80, "slow": 8, "fail1": 8, "fail": 4, "crash1": 2}
SHAPES: Final = ("chain", "diamond", "map", "group", "brood", "gather", "race")
TIMERS_MS: Final = (100, 3_600_000)
"""One that may win its race, and one that never does."""
UNDONE: Final = 0.4
"""How often the last node of a chain whose nodes are undone fails, or that of a diamond."""


@app.task(**policy())
async def node(key: str, conduct: str, one: str = "", many: list[str] | None = None) -> str:
    """A node, with the results of those before it."""
    given = [*([one] if one else []), *(many or [])]
    return await behave(Step(key, conduct, given=given))


@app.task(**policy())
async def source(key: str, conduct: str, items: list[str]) -> list[str]:
    """A node that returns the list that a map goes over."""
    await behave(Step(key, conduct, given=[]))
    return items


@app.task(**policy())
async def leaf(item: str) -> str:
    """A child of a map."""
    key, _, conduct = item.partition("|")
    return await behave(Step(key, conduct, given=[]))


@app.task(**policy())
async def brood(key: str, conduct: str, number: int) -> str:
    """A node that leaves children for those that wait for it."""
    step = Step(key, conduct, given=[])
    get_context().spawn(*(leaf.bind(f"{key}[{n}]|ok") for n in range(number)))
    return await behave(step)


@app.task(**policy())
async def member(item: str) -> str:
    """A child whose result says which it is."""
    key, _, conduct = item.partition("|")
    return f"{key}|{await behave(Step(key, conduct, given=[]))}"


@app.task(**policy())
async def gather(key: str, conduct: str, number: int) -> Joined[str]:
    """A node that returns children, and one that runs behind them."""
    await behave(Step(key, conduct, given=[]))
    members = (member.bind(f"{key}[{n}]|{'fail1' if n == 1 else 'ok'}") for n in range(number))
    return Expand(members).then(gathered)


@app.task(**policy())
async def gathered(parts: list[str]) -> str:
    """The last child, with the results of the others."""
    return await behave(Step(f"{_parent(parts)}[{len(parts)}]", "ok", given=parts))


@app.task(**policy())
async def taking_back(parts: list[str]) -> str:
    """What undoes a map, with the results of the items that completed."""
    flow, _, name = _parent(parts).rpartition("/")
    return await behave(Step(f"{flow}/undo-{name}", "fail1" if len(parts) % 2 else "ok", given=parts))


def _parent(parts: list[str]) -> str:
    """The key of the node whose children returned these."""
    return parts[0].partition("[")[0]


@app.task(**policy())
async def undoing(key: str, conduct: str) -> str:
    """What undoes a node."""
    return await behave(Step(key, conduct, given=[]))


@app.task(**policy())
async def stepping(key: str, conduct: str) -> str:
    """Three steps, a sleep between them, and a signal that may come."""
    step = Step(key, conduct)
    try:
        await _stepped(step)
    except StreamQError:  # the server was away for too long, or the lease is lost
        step.note("fail")
        raise
    return await behave(step)


async def _stepped(step: Step) -> None:
    context = get_context()

    def effect(name: str) -> str:
        step.note("did", step=name)
        return f"{step.token}/{name}"

    for name in MEMOS:
        step.note("stepped", step=name, value=await context.step(name, effect, name))
        if name == MEMOS[0]:
            await context.sleep(0.2)
    try:
        value = await context.wait("go", timeout=1.5)
    except SignalTimeout:
        value = ""
    step.note("waited", value=value)


@app.task(**policy())
async def parent(key: str, conduct: str) -> str:
    """Two follow-ups, which exist if it completes."""
    step, context = Step(key, conduct), get_context()
    context.enqueue(child.bind(f"{AFTER}{key}:0", "ok"))
    context.enqueue_many([child.bind(f"{AFTER}{key}:1", "fail1")])
    return await behave(step)


@app.task(**policy())
async def child(key: str, conduct: str) -> str:
    """A follow-up."""
    return await behave(Step(key, conduct))


TYPES: Final[dict[str, Any]] = {
    "node": node, "source": source, "leaf": leaf, "brood": brood, "member": member, "gather": gather,
    "gathered": gathered, "taking_back": taking_back, "undoing": undoing, "stepping": stepping,
    "parent": parent, "child": child,
}  # fmt: skip


@dataclass
class Shape:
    """A flow to be started. nodes: by name, the names of those that it waits for; children: of a map;
    broods: how many a node leaves for others; joins: how many of a brood its last waits for; undo: of a node,
    its undo task; races: who takes part; timers: in ms."""

    key: str
    graph: Any
    nodes: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    children: dict[str, int] = field(default_factory=dict[str, int])
    broods: dict[str, int] = field(default_factory=dict[str, int])
    joins: dict[str, int] = field(default_factory=dict[str, int])
    undo: dict[str, str] = field(default_factory=dict[str, str])
    races: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    timers: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def noted(self) -> dict[str, Any]:
        return {
            "key": self.key, "nodes": self.nodes, "children": self.children, "broods": self.broods,
            "joins": self.joins, "undo": self.undo, "races": self.races, "timers": self.timers,
        }  # fmt: skip


def drawn(rng: random.Random, key: str) -> Shape:
    """A flow of some shape, whose nodes behave as drawn."""
    shape = Shape(f"{FLOW}{key}", app.flow(rng.choice(SHAPES)))
    drawers = {
        "chain": _chain, "diamond": _diamond, "map": _map, "group": _group, "brood": _brood,
        "gather": _gather, "race": _race,
    }  # fmt: skip
    drawers[shape.graph.name](shape, rng)
    if rng.random() < 0.5:
        shape.graph.on_failure(node.bind(f"{shape.key}/failure", "ok"), name="failure")
        shape.nodes["failure"] = []
    return shape


def _conduct(rng: random.Random) -> str:
    return rng.choices(list(CONDUCTS), list(CONDUCTS.values()))[0]


def _add(shape: Shape, rng: random.Random, name: str, *before: Any, **given: Any) -> Any:
    shape.nodes[name] = [one.name for one in before]
    return shape.graph.add(node.bind(f"{shape.key}/{name}", _conduct(rng), **given), name=name, after=before)


def _undone(
    shape: Shape, rng: random.Random, name: str, *before: Any, last: bool = False, **given: Any
) -> Any:
    """Add a node with its undo task, which ends well in the end. last: it often fails."""
    conduct = "fail" if last and rng.random() < UNDONE else _conduct(rng)
    undo = undoing.bind(f"{shape.key}/undo-{name}", rng.choice(["ok", "ok", "fail1"]))
    shape.nodes[name], shape.undo[name] = [one.name for one in before], f"undo-{name}"
    return shape.graph.add(node.bind(f"{shape.key}/{name}", conduct, **given), name=name, undo=undo)


def _chain(shape: Shape, rng: random.Random) -> None:
    add = _undone if rng.random() < 0.5 else _add
    before = add(shape, rng, "a")
    before = add(shape, rng, "b", before, one=before.output)
    more = {"last": True} if add is _undone else {}
    add(shape, rng, "c", before, one=before.output, **more)


def _diamond(shape: Shape, rng: random.Random) -> None:
    add = _undone if rng.random() < 0.5 else _add
    top = add(shape, rng, "top")
    left, right = (add(shape, rng, name, top, one=top.output) for name in ("left", "right"))
    more = {"last": True} if add is _undone else {}
    add(shape, rng, "join", left, right, many=[left.output, right.output], **more)


def _brood(shape: Shape, rng: random.Random) -> None:
    number = rng.choice([0, 2, 5])
    shape.nodes["brood"], shape.broods["brood"] = [], number
    call = brood.bind(f"{shape.key}/brood", _conduct(rng), number)
    before = shape.graph.add(call, name="brood")
    _add(shape, rng, "join", before, one=before.output)


def _gather(shape: Shape, rng: random.Random) -> None:
    number = rng.choice([1, 2, 5])
    shape.nodes["gather"], shape.broods["gather"], shape.joins["gather"] = [], number + 1, number
    before = shape.graph.add(gather.bind(f"{shape.key}/gather", _conduct(rng), number), name="gather")
    _add(shape, rng, "join", before, one=before.output)


def _race(shape: Shape, rng: random.Random) -> None:
    before = _add(shape, rng, "before")
    quick = _add(shape, rng, "quick", before)
    ms = rng.choice(TIMERS_MS)
    timer = shape.graph.sleep(ms / 1000, name="timer", after=before)
    race = shape.graph.first(quick, timer, name="race")
    shape.races["race"], shape.timers["timer"] = ["quick", "timer"], ms
    shape.nodes["timer"] = ["before"]
    _add(shape, rng, "join", race)


def _group(shape: Shape, rng: random.Random) -> None:
    several = [_add(shape, rng, f"g{n}") for n in range(6)]
    _add(shape, rng, "join", *several, many=[one.output for one in several])


def _map(shape: Shape, rng: random.Random) -> None:
    number = rng.choice([0, 3, 12])
    items: Any = [f"{shape.key}/each[{n}]|{_conduct(rng)}" for n in range(number)]
    shape.nodes["each"], shape.children["each"] = [], number
    if rng.random() < 0.5:
        shape.nodes["list"] = []
        shape.nodes["each"] = ["list"]
        before = shape.graph.add(source.bind(f"{shape.key}/list", _conduct(rng), items), name="list")
        items = before.output
    if rng.random() < 0.5:
        shape.undo["each"] = "undo-each"
        each = shape.graph.map(member, items, name="each", undo=taking_back)
        _undone(shape, rng, "join", each, last=True, many=each.output)
    else:
        each = shape.graph.map(leaf, items, name="each")
        _add(shape, rng, "join", each, many=each.output)

"""What must hold of flows, steps, signals and follow-ups. Pure.

Owns these rules. A node is known by its key, `flow:<key of the flow>/<its name>`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tests.chaos import flow_kind_rules, nest_rules
from tests.chaos.census import OVER, Tally
from tests.chaos.flow_census import FlowEnd
from tests.chaos.history import Event
from tests.chaos.promises import DERIVED_KEYS
from tests.chaos.record import Finding, History

_FAILED: Final = frozenset("dxe")
FOLLOW_UPS: Final = 2
"""Of each completed parent."""


def check(
    events: Iterable[Event], history: History, states: Mapping[str, list[str]], final: Tally
) -> Iterator[Finding]:
    """Everything that is wrong with flows, steps, signals and follow-ups."""
    asked = {event["key"]: event for event in events if event["event"] == "flow_invoke"}
    told = {event["key"]: event for event in events if event["event"] == "flow_started"}
    cancels = {event["id"] for event in events if event["event"] == "flow_cancel"}
    yield from _started(asked, told, final)
    for flow in final.flows:
        yield from _books(flow, cancelled=flow.id in cancels or _orphaned(flow, states))
        if flow.key in asked:
            yield from _nodes(flow, asked[flow.key], history)
            yield from flow_kind_rules.check(flow, asked[flow.key], history)
    for task, some in history.by_id.items():
        yield from _steps(task, some, history)
    yield from _follow_ups(history, states)
    yield from nest_rules.check(history, states, final)


def _orphaned(flow: FlowEnd, states: Mapping[str, list[str]]) -> bool:
    """Whether it ran for a task that did not complete."""
    return bool(flow.parent) and "completed" not in states.get(flow.parent, ())


def _started(asked: Mapping[str, Event], told: Mapping[str, Event], final: Tally) -> Iterator[Finding]:
    """A flow that was acknowledged exists, one that nobody asked for does not, and none is there twice."""
    by_key = Counter(flow.key for flow in final.flows if not flow.parent)
    existing = {flow.id for flow in final.flows}
    for key, number in by_key.items():
        if key not in asked:
            yield Finding("flow of nobody", key, "was started by no call")
        if number > 1:
            yield Finding("flow twice", key, f"there are {number} flows of one key")
    for key, event in told.items():
        if event["id"] not in existing:
            yield Finding("flow lost", key, f"{event['id']} was started and is gone")


def _books(flow: FlowEnd, *, cancelled: bool) -> Iterator[Finding]:
    """nodes = waiting + released + done + skipped, as counted, and nothing of it is left to do."""
    letters = Counter(flow.states)
    counted = {
        "nodes": len(flow.states), "waiting": letters["w"] + letters["q"], "released": letters["r"],
        "done": sum(letters[one] for one in "cdxe"), "skipped": letters["s"],
    }  # fmt: skip
    if counted != flow.books:
        yield Finding("flow books", flow.id, f"it has {counted} and its books say {flow.books}")
    if flow.state not in OVER or counted["waiting"] or counted["released"]:
        yield Finding("flow stands", flow.id, f"it is {flow.state}, with {flow.states}")
    apart = {flow.on_failure, *flow.undos}
    failed = any(flow.letter(name) in _FAILED for name in flow.numbers if name not in apart)
    stuck = ("stuck",) if any(flow.letter(name) in _FAILED for name in flow.undos) else ()
    ends = ("cancelled", "failed", "completed") if cancelled else ("failed",) if failed else ("completed",)
    want = (*ends, *stuck)
    if flow.state not in want:
        yield Finding("flow ended wrong", flow.id, f"it is {flow.state}, with {flow.states}")
    last = flow.on_failure
    if last and not cancelled and (flow.letter(last) == "s") == (flow.state in ("failed", "stuck")):
        yield Finding(
            "flow ended wrong", flow.id, f"{flow.state}, and its node for that is {flow.letter(last)}"
        )


def _nodes(flow: FlowEnd, asked: Event, history: History) -> Iterator[Finding]:
    """Each node ran once those before it had completed, with their results; after a failure it did not."""
    waits: dict[str, list[str]] = dict(asked["nodes"])
    for name, number in asked["children"].items():
        waits |= {f"{name}[{n}]": waits[name] for n in range(number)}
    joins: Mapping[str, int] = asked.get("joins", {})
    for name, number in joins.items():
        members = [f"{name}[{n}]" for n in range(number)]
        waits |= {one: [name] for one in members} | {f"{name}[{number}]": members}
    waits = {name: [one for one in some if one not in asked.get("races", ())] for name, some in waits.items()}
    before = {name: list(_before(parents, asked["children"])) for name, parents in waits.items()}
    # The output of a node whose children are joined is that of the last of them.
    before |= {
        name: [f"{one}[{joins[one]}]" if one in joins else one for one in before[name]]
        for name in asked["nodes"]
    }
    for name, parents in before.items():
        key = f"{flow.key}/{name}"
        if len(history.ids.get(key, ())) > 1:
            yield Finding("node twice", key, f"it is {sorted(history.ids[key])}")
        for task in history.ids.get(key, ()):
            yield from _ran(flow, key, history.of_task(task, "start"), parents, history)


def _before(parents: Iterable[str], children: Mapping[str, int]) -> Iterator[str]:
    """Yield the nodes with a task that a node waits for: of a map its children."""
    for parent in parents:
        if parent in children:
            yield from (f"{parent}[{n}]" for n in range(children[parent]))
        else:
            yield parent


def _ran(
    flow: FlowEnd, key: str, starts: list[Event], parents: list[str], history: History
) -> Iterator[Finding]:
    for start in starts:
        tokens: list[Any] = []
        for parent in parents:
            ended = [
                event
                for task in history.ids.get(f"{flow.key}/{parent}", ())
                for event in history.of_task(task, "effect")
                if event["at"] < start["at"]
            ]
            if not ended:
                yield Finding("node too early", key, f"it ran before {parent} had")
                return
            tokens.append(flow.results.get(parent))
        if start["given"] and start["given"] != tokens:
            yield Finding("node's inputs", key, f"it was given {start['given']}, not {tokens}")
            return


def _steps(task: str, events: list[Event], history: History) -> Iterator[Finding]:
    """A step that was stored is not done again by an execution that begins later, and is always the same;
    so is what a wait has got. Who began a delivery that another had taken over may do anything again."""
    del history
    begins = {event["token"]: event for event in events if event["event"] == "start"}
    stored: dict[str, Event] = {}
    waited: list[str] = []
    for event in events:
        if event["event"] == "stepped":
            known = stored.setdefault(event["step"], event)
            if known["value"] != event["value"]:
                yield Finding(
                    "step changed", task, f"{event['step']} is {event['value']}, was {known['value']}"
                )
        elif event["event"] == "did":
            known_, begun = stored.get(event["step"]), begins.get(event["token"])
            if known_ and begun and begun["at"] > known_["at"] and not _superseded(begun, begins.values()):
                yield Finding(
                    "step again", task, f"{event['step']} was stored by {known_}, done again by {begun}"
                )
        elif event["event"] == "waited":
            waited.append(event["value"])
            sent = {one["value"] for one in events if one["event"] == "signal"}
            if event["value"] and event["value"] not in sent:
                yield Finding(
                    "signal of nobody", task, f"it got {event['value']!r}, sent were {sorted(sent)}"
                )
    if len(set(waited)) > 1:
        yield Finding("signal changed", task, f"one wait got {waited}")


def _superseded(begun: Event, all_begun: Iterable[Event]) -> bool:
    """Whether a later delivery of the task had begun before: a worker that stood still past its lease begins
    what it had fetched, until it is told."""
    return any(_delivery(one) > _delivery(begun) and one["at"] < begun["at"] for one in all_begun)


def _delivery(begun: Event) -> tuple[int, int]:
    """What grows with each delivery of a task that is not the same one again."""
    return begun.get("attempt", 0), begun.get("lost", 0)


def _follow_ups(history: History, states: Mapping[str, list[str]]) -> Iterator[Finding]:
    """They exist if, and only if, the task that enqueued them completed."""
    existing: dict[str, Counter[str]] = defaultdict(Counter)
    after = DERIVED_KEYS[1]
    for key, tasks in history.ids.items():
        if key.startswith(after):
            parent, _, number = key.removeprefix(after).rpartition(":")
            existing[parent][number] = len(tasks)
    for key, asked in history.asked.items():
        if asked.type != "parent":
            continue
        ends = {end for task in history.ids.get(key, ()) for end in states.get(task, ())}
        want = {str(n): 1 for n in range(FOLLOW_UPS)} if "completed" in ends else {}
        if dict(existing[key]) != want:
            yield Finding("follow-ups", key, f"it is {sorted(ends)}, and {dict(existing[key])} ran after it")

"""What must hold of undo, children, timers and races in flows. Pure.

Owns these rules; those of nodes and books are in `flow_rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tests.chaos.flow_census import FlowEnd
from tests.chaos.history import Event
from tests.chaos.record import Finding, History

_MS: Final = 1_000_000
_CLOCKS_NS: Final = 100 * _MS
"""By so much the server's clock and that of the history may differ over a timer."""


def check(flow: FlowEnd, asked: Event, history: History) -> Iterator[Finding]:
    """Everything that is wrong with these in one flow."""
    ran = _Ran(flow, asked, history)
    yield from _undo(flow, asked, ran)
    yield from _broods(flow, asked, ran)
    yield from _races(flow, asked, ran)


class _Ran:
    """When the nodes of a flow began, and had their effects, in ns."""

    def __init__(self, flow: FlowEnd, asked: Event, history: History) -> None:
        self._key, self._flow, self._history = flow.key, flow, history
        self._nodes: Mapping[str, list[str]] = asked["nodes"]
        self._children: Mapping[str, int] = asked.get("children", {})

    def _at(self, name: str, event: str) -> list[int]:
        key = f"{self._key}/{name}"
        return sorted(
            one["at"] for task in self._history.ids.get(key, ()) for one in self._history.of_task(task, event)
        )

    def starts(self, name: str) -> list[int]:
        return self._at(name, "start")

    def given(self, name: str) -> list[list[str]]:
        """What each execution of a node was given of others."""
        tasks = self._history.ids.get(f"{self._key}/{name}", ())
        return [one["given"] for task in tasks for one in self._history.of_task(task, "start")]

    def completed(self, name: str) -> list[str]:
        """The node, if it has completed; of a map those of its items that have."""
        names = (
            [f"{name}[{n}]" for n in range(self._children.get(name, 0))] if name in self._children else [name]
        )
        return [one for one in names if self._flow.letter(one) == "c"]

    def done_by(self, name: str, at: int) -> bool:
        """Whether a node had its effect before this time."""
        return any(one < at for one in self._at(name, "effect"))

    def waits(self, name: str) -> set[str]:
        """All nodes that one waits for, through others too."""
        found, new = set[str](), {*self._nodes.get(name, ())}
        while new:
            found |= new
            new = {parent for one in new for parent in self._nodes.get(one, ())} - found
        return found


def _undo(flow: FlowEnd, asked: Event, ran: _Ran) -> Iterator[Finding]:
    """Where a flow has failed or was cancelled, each node that has completed was undone, those that waited
    for it before; no other, and none in a flow that has completed."""
    undo: Mapping[str, str] = asked.get("undo", {})
    for name, task in undo.items():
        due = bool(ran.completed(name)) and flow.state in ("failed", "cancelled", "stuck")
        if ran.starts(task) and not due:
            yield Finding("undo of nobody", f"{flow.key}/{task}", f"{name} is {flow.letter(name)}")
        if due and flow.state != "stuck" and flow.letter(task) != "c":
            yield Finding("undo missing", f"{flow.key}/{task}", f"it is {flow.letter(task)}, in {flow.state}")
        for start in ran.starts(task):
            for later, before in undo.items():
                late = ran.completed(later) and name in ran.waits(later)
                if late and not ran.done_by(before, start):
                    yield Finding("undo too early", f"{flow.key}/{task}", f"it ran before {before} had")
                    return
        if name in asked.get("children", {}):
            yield from _undone_items(flow, name, task, ran)


def _undone_items(flow: FlowEnd, name: str, task: str, ran: _Ran) -> Iterator[Finding]:
    """The undo task of a map got the results of those items that completed, in their order."""
    want = [flow.results.get(one) for one in ran.completed(name)]
    for given in ran.given(task):
        if given != want:
            yield Finding("undone items", f"{flow.key}/{task}", f"it was given {given}, not {want}")
            return


def _broods(flow: FlowEnd, asked: Event, ran: _Ran) -> Iterator[Finding]:
    """The children of a node exist if it completed, and only then; who waits for it ran behind them."""
    broods: Mapping[str, int] = asked.get("broods", {})
    for name, number in broods.items():
        children = [f"{name}[{n}]" for n in range(number)]
        for child in children:
            if flow.letter(name) == "c" and flow.letter(child) != "c":
                yield Finding("child missing", f"{flow.key}/{child}", f"it is {flow.letter(child)!r}")
            if any(not ran.done_by(name, start) for start in ran.starts(child)):
                yield Finding("child of nobody", f"{flow.key}/{child}", f"it ran before {name} had completed")
        for other in asked["nodes"]:
            for start in ran.starts(other) if name in ran.waits(other) else ():
                if not all(ran.done_by(child, start) for child in children):
                    yield Finding("node too early", f"{flow.key}/{other}", f"it ran before {name}'s children")
                    return


def _races(flow: FlowEnd, asked: Event, ran: _Ran) -> Iterator[Finding]:
    """Who waits for a race ran behind one of its nodes, or when a timer's time had come."""
    timers: Mapping[str, int] = asked.get("timers", {})
    for race, racers in asked.get("races", {}).items():
        for other in asked["nodes"]:
            for start in ran.starts(other) if race in ran.waits(other) else ():
                if any(ran.done_by(racer, start) for racer in racers if racer not in timers):
                    continue
                if not any(
                    _over(timers[one], asked["nodes"][one], ran, start) for one in racers if one in timers
                ):
                    yield Finding("race not decided", f"{flow.key}/{other}", f"it ran before any of {racers}")
                    return


def _over(ms: int, after: list[str], ran: _Ran, at: int) -> bool:
    """Whether a timer's time has come since the nodes before it had their effects."""
    return all(ran.done_by(one, at - ms * _MS + _CLOCKS_NS) for one in after)

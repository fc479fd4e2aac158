"""The rules for undo, children, timers and races: what is right passes, and each fault in it is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.flow_census import FlowEnd
from tests.chaos.flow_kind_rules import check
from tests.chaos.history import Event
from tests.chaos.record import History

KEY = "flow:f"
_MS = 1_000_000


class Tale:
    """A flow, written by hand: names of nodes, in the order of their numbers, and their letters."""

    def __init__(self, state: str, letters: dict[str, str], **asked: Any) -> None:
        self.flow = FlowEnd("f:0:1-1", KEY, state, "")
        self.restate(letters)
        self.asked: Event = {"nodes": {}, "undo": {}, "broods": {}, "races": {}, "timers": {}, **asked}
        self.events: list[Event] = []
        self.now = 0

    def restate(self, letters: dict[str, str]) -> None:
        self.flow.numbers = {name: n for n, name in enumerate(letters)}
        self.flow.states = "".join(letters.values())

    def ran(self, name: str, *, after_ms: int = 1, given: tuple[str, ...] = ()) -> None:
        for event in ("start", "effect"):
            self.now += after_ms * _MS
            about = {"id": f"node:0:{name}", "key": f"{KEY}/{name}", "token": name, "given": [*given]}
            self.events.append({"event": event, "at": self.now, **about})
        self.flow.results[name] = f"result of {name}"

    def found(self) -> set[str]:
        return {one.rule for one in check(self.flow, self.asked, History.of(self.events))}

    def without(self, name: str) -> None:
        self.events = [one for one in self.events if not one["key"].endswith(f"/{name}")]


def undone() -> Tale:
    """Two nodes that were undone, as the third failed."""
    letters = {"a": "c", "undo-a": "c", "b": "c", "undo-b": "c", "c": "d", "undo-c": "s"}
    nodes = {"a": [], "b": ["a"], "c": ["b"]}
    tale = Tale("failed", letters, nodes=nodes, undo={name: f"undo-{name}" for name in nodes})
    for name in ("a", "b", "undo-b", "undo-a"):
        tale.ran(name)
    return tale


def brood() -> Tale:
    """A node with two children, and one that waits for it."""
    letters = {"brood": "c", "join": "c", "brood[0]": "c", "brood[1]": "c"}
    tale = Tale("completed", letters, nodes={"brood": [], "join": ["brood"]}, broods={"brood": 2})
    for name in ("brood", "brood[0]", "brood[1]", "join"):
        tale.ran(name)
    return tale


def undone_map() -> Tale:
    """A map of which one item failed, after a node that was undone as well."""
    letters = {"a": "c", "undo-a": "c", "each[0]": "c", "each[1]": "d", "each[2]": "c", "undo-each": "c"}
    undo = {"a": "undo-a", "each": "undo-each"}
    tale = Tale("failed", letters, nodes={"a": [], "each": ["a"]}, children={"each": 3}, undo=undo)
    for name in ("a", "each[0]", "each[2]"):
        tale.ran(name)
    tale.ran("undo-each", given=_kept(0, 2))
    tale.ran("undo-a")
    return tale


def _kept(*items: int) -> tuple[str, ...]:
    return tuple(f"result of each[{n}]" for n in items)


def race() -> Tale:
    """A race that the timer has won."""
    letters = {"before": "c", "quick": "s", "timer": "c", "race": "c", "join": "c"}
    nodes = {"before": [], "quick": ["before"], "timer": ["before"], "join": ["race"]}
    races, timers = {"race": ["quick", "timer"]}, {"timer": 1000}
    tale = Tale("completed", letters, nodes=nodes, races=races, timers=timers)
    tale.ran("before")
    tale.ran("join", after_ms=1100)
    return tale


def _undo_forwards(tale: Tale) -> None:
    tale.without("undo-a")
    tale.without("undo-b")
    tale.ran("undo-a")
    tale.ran("undo-b")


def _undo_missing(tale: Tale) -> None:
    tale.without("undo-a")
    tale.restate({"a": "c", "undo-a": "s", "b": "c", "undo-b": "c", "c": "d"})


def _undo_of_who_failed(tale: Tale) -> None:
    tale.ran("undo-c")


def _undo_where_all_is_well(tale: Tale) -> None:
    tale.flow.state = "completed"


def _map_not_undone(tale: Tale) -> None:
    for name in ("undo-a", "undo-each"):
        tale.without(name)
    tale.restate({"a": "d", "undo-a": "s", "each[0]": "c", "each[1]": "d", "each[2]": "c", "undo-each": "s"})


def _map_undone_after(tale: Tale) -> None:
    tale.without("undo-each")
    tale.ran("undo-each", given=_kept(0, 2))


def _map_undone_in_part(tale: Tale) -> None:
    tale.without("undo-each")
    tale.without("undo-a")
    tale.ran("undo-each", given=_kept(0))
    tale.ran("undo-a")


def _map_of_failures_undone(tale: Tale) -> None:
    tale.restate({"a": "c", "undo-a": "c", "each[0]": "d", "each[1]": "d", "each[2]": "d", "undo-each": "c"})


def _child_missing(tale: Tale) -> None:
    tale.restate({"brood": "c", "join": "c", "brood[0]": "c"})


def _join_before_a_child(tale: Tale) -> None:
    tale.without("brood[1]")
    tale.ran("brood[1]")


def _child_of_nobody(tale: Tale) -> None:
    tale.without("brood")
    tale.ran("brood")


def _timer_too_early(tale: Tale) -> None:
    tale.without("join")
    tale.now = 0
    tale.ran("join", after_ms=500)


def _join_before_the_race(tale: Tale) -> None:
    tale.asked["timers"]["timer"] = 3_600_000


@pytest.mark.parametrize("tale", [undone, undone_map, brood, race])
def test_what_is_right_passes(tale: Callable[[], Tale]) -> None:
    assert tale().found() == set()


@pytest.mark.parametrize(
    ("tale", "spoil", "rule"),
    [
        (undone, _undo_forwards, "undo too early"), (undone, _undo_missing, "undo missing"),
        (undone, _undo_of_who_failed, "undo of nobody"), (undone, _undo_where_all_is_well, "undo of nobody"),
        (undone_map, _map_not_undone, "undo missing"), (undone_map, _map_undone_after, "undo too early"),
        (undone_map, _map_undone_in_part, "undone items"),
        (undone_map, _map_of_failures_undone, "undo of nobody"), (brood, _child_missing, "child missing"),
        (brood, _join_before_a_child, "node too early"), (brood, _child_of_nobody, "child of nobody"),
        (race, _timer_too_early, "race not decided"), (race, _join_before_the_race, "race not decided"),
    ],
)  # fmt: skip
def test_each_fault_is_found(tale: Callable[[], Tale], spoil: Callable[[Tale], None], rule: str) -> None:
    found = tale()
    spoil(found)
    assert rule in found.found()


def test_a_stuck_flow_may_leave_some_undone() -> None:
    tale = undone()
    tale.without("undo-a")
    tale.restate({"a": "c", "undo-a": "s", "b": "c", "undo-b": "d", "c": "d", "undo-c": "s"})
    tale.flow.state = "stuck"
    assert tale.found() == set()

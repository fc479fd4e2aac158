"""The rules for flows, steps, signals and follow-ups: what is right passes, and each fault in it is found."""

# ruff: noqa: S106 - tokens of executions
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.census import Tally
from tests.chaos.flow_census import FlowEnd
from tests.chaos.flow_rules import check
from tests.chaos.history import Event
from tests.chaos.record import History

KEY = "flow:f"


class Tale:
    """A diamond that has completed, a task with steps, and one with follow-ups, written by hand."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.now = 0
        self.states: dict[str, list[str]] = {}
        self.flow = FlowEnd("f:0:1-1", KEY, "completed", "ccccs")
        self.flow.books = {"nodes": 5, "waiting": 0, "released": 0, "done": 4, "skipped": 1}
        self.flow.numbers = {"top": 0, "left": 1, "right": 2, "join": 3, "failure": 4}
        self.flow.on_failure = "failure"
        nodes = {
            "top": [], "left": ["top"], "right": ["top"], "join": ["left", "right"], "failure": [],
        }  # fmt: skip
        self.note("flow_invoke", key=KEY, nodes=nodes, children={})
        self.note("flow_started", key=KEY, id=self.flow.id)
        self.flows = [self.flow]

    def note(self, name: str, **about: Any) -> Event:
        self.now += 1000
        self.events.append({"event": name, "at": self.now, **about})
        return self.events[-1]

    def node(self, name: str, *given: str, task: str = "") -> None:
        """A node that runs, with its result."""
        about = {"id": task or f"node:0:{name}", "key": f"{KEY}/{name}", "token": f"token-{name}"}
        self.note("start", given=list(given), **about)
        self.note("effect", **about)
        self.flow.results[name] = f"token-{name}"

    def step(self, token: str, name: str, value: str = "v", event: str = "stepped", **more: Any) -> None:
        self.note(event, id="stepping:0:n1", key="s", token=token, step=name, value=value, **more)

    def begin(self, token: str, lost: int = 0) -> None:
        self.note("start", id="stepping:0:n1", key="s", token=token, attempt=1, lost=lost)

    def found(self) -> set[str]:
        history = History.of(self.events)
        return {one.rule for one in check(self.events, history, self.states, Tally(flows=self.flows))}


def sound() -> Tale:
    tale = Tale()
    tale.node("top")
    tale.node("left", "token-top")
    tale.node("right", "token-top")
    tale.node("join", "token-left", "token-right")
    tale.note("invoke", key="p", type="parent", conduct="ok")
    tale.note("accepted", key="p", id="parent:0:n1")
    tale.note("effect", key="p", id="parent:0:n1", token="p")
    tale.states["parent:0:n1"] = ["completed"]
    for n in range(2):
        tale.note("start", key=f"after:p:{n}", id=f"child:0:n{n}", token=f"c{n}")
    tale.begin("one")
    tale.step("one", "a", event="did")
    tale.step("one", "a")
    tale.note("signal", id="stepping:0:n1", value="yes")
    tale.note("waited", id="stepping:0:n1", key="s", token="one", value="yes")
    return tale


def test_what_is_right_passes() -> None:
    assert sound().found() == set()


def failed() -> Tale:
    """The left node died: who waits for it was skipped, and the node for that ran."""
    tale = Tale()
    tale.node("top")
    tale.node("right", "token-top")
    tale.node("failure")
    tale.flow.state, tale.flow.states = "failed", "cdcsc"
    return tale


def test_a_flow_that_failed_as_it_should_passes() -> None:
    assert failed().found() == set()


def _restate(tale: Tale, states: str, state: str = "completed") -> None:
    tale.flow.states, tale.flow.state = states, state


def _books(tale: Tale) -> None:
    tale.flow.books["done"] = 3


def _stands(tale: Tale) -> None:
    _restate(tale, "ccrwc", "running")


def _completed_with_a_dead_node(tale: Tale) -> None:
    _restate(tale, "ccdcs")


def _skipped_without_failure(tale: Tale) -> None:
    _restate(tale, "ccccs", "failed")


def _cancelled_by_nobody(tale: Tale) -> None:
    _restate(tale, "ccsss", "cancelled")


def _failure_ran_without_one(tale: Tale) -> None:
    _restate(tale, "ccccc")


def _lost(tale: Tale) -> None:
    tale.flows = []


def _twice(tale: Tale) -> None:
    tale.flows.append(FlowEnd("f:0:2-2", KEY, "completed", "", dict.fromkeys(tale.flow.books, 0)))


def _of_nobody(tale: Tale) -> None:
    tale.flows.append(FlowEnd("f:0:2-2", "flow:g", "completed", "", dict.fromkeys(tale.flow.books, 0)))


def _join_twice(tale: Tale) -> None:
    tale.node("join", "token-left", "token-right", task="node:0:other")


def _join_before_right(tale: Tale) -> None:
    tale.events = [
        event for event in tale.events if (event["event"], event.get("token")) != ("effect", "token-right")
    ]


def _wrong_order_of_inputs(tale: Tale) -> None:
    next(one for one in tale.events if one.get("given") == ["token-left", "token-right"])["given"].reverse()


def _step_again(tale: Tale) -> None:
    tale.begin("two")
    tale.step("two", "a", event="did")


def _step_changed(tale: Tale) -> None:
    tale.begin("two")
    tale.step("two", "a", "other")


def _signal_changed(tale: Tale) -> None:
    tale.note("waited", id="stepping:0:n1", key="s", token="two", value="")


def _signal_of_nobody(tale: Tale) -> None:
    for event in tale.events:
        if event["event"] == "waited":
            event["value"] = "no"


def _follow_up_missing(tale: Tale) -> None:
    tale.events = [event for event in tale.events if event.get("key") != "after:p:1"]


def _follow_up_twice(tale: Tale) -> None:
    tale.note("start", key="after:p:1", id="child:0:n9", token="c9")


def _follow_up_of_one_that_died(tale: Tale) -> None:
    tale.states["parent:0:n1"] = ["dead"]


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (_books, "flow books"), (_stands, "flow stands"), (_completed_with_a_dead_node, "flow ended wrong"),
        (_skipped_without_failure, "flow ended wrong"), (_cancelled_by_nobody, "flow ended wrong"),
        (_failure_ran_without_one, "flow ended wrong"), (_lost, "flow lost"), (_twice, "flow twice"),
        (_of_nobody, "flow of nobody"), (_join_twice, "node twice"), (_join_before_right, "node too early"),
        (_wrong_order_of_inputs, "node's inputs"), (_step_again, "step again"),
        (_step_changed, "step changed"), (_signal_changed, "signal changed"),
        (_signal_of_nobody, "signal of nobody"), (_follow_up_missing, "follow-ups"),
        (_follow_up_twice, "follow-ups"), (_follow_up_of_one_that_died, "follow-ups"),
    ],
)  # fmt: skip
def test_each_fault_is_found(spoil: Callable[[Tale], None], rule: str) -> None:
    tale = sound()
    spoil(tale)
    assert rule in tale.found()


def joined() -> Tale:
    """A node with two children and one that joins them, for the node that waits for it."""
    tale = Tale()
    names = ("gather", "join", "gather[0]", "gather[1]", "gather[2]")
    tale.flow.states, tale.flow.on_failure = "ccccc", ""
    tale.flow.numbers = {name: n for n, name in enumerate(names)}
    tale.flow.books |= {"done": 5, "skipped": 0}
    asked, nodes = tale.events[0], {"gather": [], "join": ["gather"]}
    asked |= {"nodes": nodes, "broods": {"gather": 3}, "joins": {"gather": 2}}
    tale.node("gather")
    for n in range(2):
        tale.node(f"gather[{n}]")
    tale.node("gather[2]", "token-gather[0]", "token-gather[1]")
    tale.node("join", "token-gather[2]")
    return tale


def test_children_that_are_joined_pass() -> None:
    assert joined().found() == set()


def _joined_too_early(tale: Tale) -> None:
    tale.events = [
        one for one in tale.events if (one["event"], one.get("token")) != ("effect", "token-gather[1]")
    ]


def _joined_in_part(tale: Tale) -> None:
    next(one for one in tale.events if one.get("given") == ["token-gather[0]", "token-gather[1]"])[
        "given"
    ].pop()


def _passed_over_the_join(tale: Tale) -> None:
    next(one for one in tale.events if one.get("given") == ["token-gather[2]"])["given"] = ["token-gather"]


def _joined_twice(tale: Tale) -> None:
    tale.node("gather[2]", "token-gather[0]", "token-gather[1]", task="node:0:other")


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (_joined_too_early, "node too early"), (_joined_in_part, "node's inputs"),
        (_passed_over_the_join, "node's inputs"), (_joined_twice, "node twice"),
    ],
)  # fmt: skip
def test_each_fault_of_a_join_is_found(spoil: Callable[[Tale], None], rule: str) -> None:
    tale = joined()
    spoil(tale)
    assert rule in tale.found()


def test_a_zombie_may_do_a_step_again() -> None:
    """It began before the step was stored, by the worker that took its task over."""
    tale = sound()
    start = {"event": "start", "at": 1, "id": "stepping:0:n1", "key": "s", "token": "zombie"}
    tale.events.insert(0, start)
    tale.step("zombie", "a", event="did")
    assert tale.found() == set()


def test_one_that_stood_still_past_its_lease_may_begin_and_do_a_step_again() -> None:
    """It had fetched the task before another one took it over, and has not been told yet."""
    tale = sound()
    tale.begin("second", lost=1)
    tale.begin("stale")
    tale.step("stale", "a", event="did")
    assert tale.found() == set()
    tale.begin("third", lost=1)
    tale.step("third", "a", event="did")
    assert tale.found() == {"step again"}

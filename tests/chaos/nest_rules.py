"""What must hold of flows that run for tasks, and of tasks that go on as new runs. Pure.

Owns these rules. A flow that runs for a task has that as its parent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from tests.chaos.census import Tally
from tests.chaos.flow_census import FlowEnd
from tests.chaos.promises import NEW_RUNS
from tests.chaos.record import Finding, History


def check(history: History, states: Mapping[str, list[str]], final: Tally) -> Iterator[Finding]:
    """Everything that is wrong with them."""
    children: dict[str, list[FlowEnd]] = defaultdict(list)
    for flow in final.flows:
        if flow.parent:
            children[flow.parent].append(flow)
    for task, some in children.items():
        if len(some) > 1:
            yield Finding("inner twice", task, f"its flows are {[one.id for one in some]}")
    for task, ends in states.items():
        if task.startswith("outer:") and "completed" in ends:
            yield from _outer(task, children.get(task, []), history)
        if task.startswith("onward:"):
            yield from _onward(task, history, completed="completed" in ends)


def _outer(task: str, flows: list[FlowEnd], history: History) -> Iterator[Finding]:
    """It completed after its flow, whose result it got, the same each time."""
    if not flows or flows[0].state != "completed":
        yield Finding("outer without inner", task, f"it has completed, and its flows are {flows}")
        return
    told = history.of_task(task, "inner")
    values = {event["value"] for event in told}
    if values != {flows[0].results.get("last")}:
        yield Finding("inner's result", task, f"it got {values}, and its flow has {flows[0].results}")
    last = [
        event["at"] for one in history.ids.get(f"{_key(task, history)}/last", ())
        for event in history.of_task(one, "effect")
    ]  # fmt: skip
    effects = [event["at"] for event in history.of_task(task, "effect")]
    if not last or (effects and min(effects) < min(last)):
        yield Finding("outer too early", task, "it had its effect before its flow had ended")


def _key(task: str, history: History) -> str:
    starts = history.of_task(task, "start")
    return f"flow:{starts[0]['key']}" if starts else ""


def _onward(task: str, history: History, *, completed: bool) -> Iterator[Finding]:
    """Each run came after the one before had asked for it, and the last alone did the work."""
    asked: dict[int, int] = {}
    for event in history.of_task(task, "went"):
        asked.setdefault(event["run"], event["at"])
    for start in history.of_task(task, "start"):
        before = asked.get(start["run"] - 1)
        if start["run"] and (before is None or before > start["at"]):
            yield Finding("new run too early", task, f"run {start['run']} came before that was asked for")
    runs = {start["token"]: start["run"] for start in history.of_task(task, "start")}
    early = {runs.get(event["token"]) for event in history.of_task(task, "effect")} - {NEW_RUNS}
    if early or (completed and sorted(asked) != list(range(NEW_RUNS))):
        yield Finding("new runs", task, f"runs {sorted(asked)} asked for the next, early effects: {early}")

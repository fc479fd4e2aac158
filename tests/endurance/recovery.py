"""How soon the work of a killed worker runs again, with default settings, and that no living one is robbed.

Many apps on one server with one daemon, each with two workers that hold tasks: in each round one of the two
is killed with SIGKILL, at any moment between two renewals, and what it held must start at the other. A kill
is of one worker process, which its supervisor replaces, or of a whole group, which nobody does.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from streamq import StreamQ
from tests.chaos import history
from tests.chaos.history import Event
from tests.chaos.recovery import recoveries
from tests.chaos.stage import Seat
from tests.endurance.stage import Stage, said
from tests.running import until

HELD: Final = 6
"""Tasks a round in each app, for both of its workers together."""
SPREAD: Final = 3.4
"""Seconds over which the kills of a round are spread: more than lie between two renewals."""
GOAL: Final = 15.0
LIMIT: Final = 60.0
AT_ONCE: Final = 12
"""Worker groups that start at the same time."""


@dataclass
class Recovery:
    """Times are ms from SIGKILL: `ready_ms` until the task is in a stream again, `running_ms` until its
    handler is called elsewhere. `robbed`: tasks that were taken from a worker that was alive."""

    apps: int = 0
    kills_of_a_process: int = 0
    kills_of_a_group: int = 0
    tasks_recovered: int = 0
    never_recovered: int = 0
    robbed: int = 0
    ready_ms: dict[str, int] = field(default_factory=dict)
    running_ms: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


class Pair:
    """One app with two worker groups."""

    def __init__(self, stage: Stage, number: int) -> None:
        self.name = f"app{number}"
        self.app = StreamQ(self.name, stage.url)
        self.groups = [stage.group(f"{self.name}-{letter}", 1, app=self.name) for letter in "ab"]

    def workers(self) -> list[int]:
        return [pid for group in self.groups for pid in group.workers()]

    def kill(self, group: Seat, *, whole: bool) -> list[int]:
        """SIGKILL of its worker process, or of all its processes at once; who is dead."""
        dead = group.workers()
        if whole:
            os.killpg(group.pid, signal.SIGKILL)
        for pid in dead:
            if not whole:
                os.kill(pid, signal.SIGKILL)
            history.write(
                "fault", kind="group_killed" if whole else "worker_killed", whom=self.name, killed=pid
            )
        return dead


async def measure(stage: Stage, apps: int, rounds: int) -> Recovery:
    """`apps` kills in each round; in every fourth app of a whole group."""
    found = Recovery(apps=apps)
    stage.daemon().start()
    pairs = [Pair(stage, number) for number in range(apps)]
    for pair in pairs:
        await _start(pair)
        await until(lambda: _starting(pairs) <= AT_ONCE, 120)
    for number in range(rounds):
        await until(lambda: _starting(pairs) == 0, 120)
        await _round(stage, pairs, number, found)
        for pair in pairs:
            await _start(pair)
    _sum_up(stage, found)
    for pair in pairs:
        await pair.app.aclose()
    return found


async def _start(pair: Pair) -> None:
    """Start the groups that are not there."""
    for group in pair.groups:
        if group.process is None or group.process.poll() is not None:
            await asyncio.to_thread(group.start)


async def _round(stage: Stage, pairs: list[Pair], number: int, found: Recovery) -> None:
    """One of each pair is killed with what it holds; returns when all of that runs elsewhere."""
    for pair in pairs:
        await pair.app.aenqueue_many([pair.app.bound("hold", {"seconds": 900}) for _ in range(HELD)])
    await until(lambda: _held(stage) >= HELD * len(pairs), 60)
    said(f"round {number + 1}: {len(pairs)} kills")
    await asyncio.gather(*(_kill(pair, number, found) for pair in pairs))
    said(f"{len(_lost(stage))} tasks lost their worker")
    with suppress(AssertionError):  # it is counted
        await until(lambda: not _lost(stage), LIMIT)


def _starting(pairs: list[Pair]) -> int:
    """Groups that were started and have no worker yet that sends heartbeats."""
    started = sum(group.process is not None for pair in pairs for group in pair.groups)
    return started - sum(_live(pair) for pair in pairs)


def _live(pair: Pair) -> int:
    """Workers of an app that are alive and have sent a heartbeat."""
    alive = set(pair.workers())
    return sum(int(worker.name.split("-")[-2]) in alive for worker in pair.app.inspector.workers())


async def _kill(pair: Pair, number: int, found: Recovery) -> None:
    await asyncio.sleep(random.uniform(0, SPREAD))
    whole = int(pair.name.removeprefix("app")) % 4 == 3
    pair.kill(pair.groups[number % 2], whole=whole)
    if whole:
        found.kills_of_a_group += 1
    else:
        found.kills_of_a_process += 1


def _events(stage: Stage) -> list[Event]:
    return history.read(stage.history)


def _held(stage: Stage) -> int:
    """Tasks in hand: begun by a process that lives, and not ended."""
    return len(_running(_events(stage))[0])


def _running(events: list[Event]) -> tuple[dict[str, Event], dict[str, Event]]:
    """By task: who runs it, and whose worker was killed without another having begun it."""
    running: dict[str, Event] = {}
    lost: dict[str, Event] = {}
    for event in events:
        if event["event"] == "start":
            running[event["id"]] = event
            lost.pop(event["id"], None)
        elif event["event"] == "effect":
            running.pop(event["id"], None)
        elif dead := event.get("killed"):
            for task in [task for task, start in running.items() if start["pid"] == dead]:
                lost[task] = running.pop(task)
    return running, lost


def _lost(stage: Stage) -> dict[str, Event]:
    return _running(_events(stage))[1]


def _sum_up(stage: Stage, found: Recovery) -> None:
    events = _events(stage)
    back = recoveries(events)
    found.tasks_recovered = len(back)
    found.never_recovered = len(_running(events)[1])
    found.robbed = _robbed(events)
    found.ready_ms = _summary([one.ready_ms for one in back])
    found.running_ms = _summary([one.started_ms for one in back])
    if found.never_recovered or found.robbed or not back:
        found.findings.append(f"{found.never_recovered} never recovered, {found.robbed} robbed")
    if back and found.running_ms["max"] > GOAL * 1000:
        found.findings.append(f"it took {found.running_ms['max']} ms; the goal is {GOAL:g} s")


def _robbed(events: list[Event]) -> int:
    """Starts of tasks that another, which was alive, had in hand."""
    robbed, holder, dead = 0, dict[str, Any](), set[int]()
    for event in events:
        if event["event"] == "start":
            robbed += event["id"] in holder and holder[event["id"]] not in dead
            holder[event["id"]] = event["pid"]
        elif event["event"] == "effect":
            holder.pop(event["id"], None)
        elif event.get("killed"):
            dead.add(event["killed"])
    return robbed


def _summary(values: list[float]) -> dict[str, int]:
    if not values:
        return {}
    ordered = sorted(values)
    return {
        "p50": round(ordered[len(ordered) // 2]),
        "p95": round(ordered[int(len(ordered) * 0.95)]),
        "max": round(ordered[-1]),
    }

"""A run from its start to its verdict: start, inject, stop, drain, count, check.

Owns the order of these and the report.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redis

from streamq.control.inspector import Inspector
from streamq.errors import StreamQError
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.chaos import blob_rules, featured, history, release, tasks
from tests.chaos.account import Account, draw_up
from tests.chaos.census import Census, Tally
from tests.chaos.checker import check
from tests.chaos.faults import FAULTS
from tests.chaos.journal import lives
from tests.chaos.operator import Operator
from tests.chaos.plan import Fault, Topology, draw
from tests.chaos.record import Finding
from tests.chaos.servers import Servers, started
from tests.chaos.stage import GROUPS, PROCESSES, Seat, Stage

APP: Final = "chaos"
STARTS_WITHIN: Final = 30.0
CATCHES_UP: Final = 30.0
"""Seconds for the schedules to be up to date once the faults are over."""
DRAIN: Final = 90.0
"""Seconds for everything to end once the faults are over: crashed workers are restarted after up to 30."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is to be.

    only: kinds of faults to draw from, where not all. faults: these and no others, instead of a draw, once
    all workers are at work. conducts: how handlers may behave, where not in all ways. rate: tasks a second.
    drain: seconds for everything to end once the faults are over. plain: without lanes, keys and schedules.
    previous: the commit of the other release.
    """

    seed: int
    seconds: float
    topology: Topology = "single"
    only: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    conducts: tuple[str, ...] = ()
    sabotage: str | None = None
    rate: float = 60.0
    drain: float = DRAIN
    plain: bool = False
    previous: str | None = None

    @property
    def other_release(self) -> str:
        return self.previous or release.COMMITS["plain" if self.plain else "featured"]

    @property
    def types(self) -> list[str]:
        return list(tasks.TYPES if self.plain else featured.TYPES)

    @property
    def at_work(self) -> int:
        """Workers that have run a task before the first fault."""
        return GROUPS * PROCESSES if self.faults else 1

    def plan(self, *, deploys: bool) -> list[Fault]:
        return [
            fault
            for fault in self.faults or draw(self.seed, self.seconds, self.topology, self.only)
            if deploys or fault.kind != "deploy"
        ]


@dataclass
class Run:
    """What came of it."""

    account: Account
    findings: list[Finding]
    events: list[history.Event] = field(repr=False, default_factory=list)


async def conduct(settings: Settings, folder: Path) -> Run:
    """Run in this folder, which takes the data, the logs and the history."""
    os.environ[history.DIRECTORY] = str(folder / "history")
    commit = settings.other_release
    previous = release.check_out(folder, commit) if settings.sabotage is None else None
    began = time.monotonic()
    with started(settings.topology, folder) as servers:
        stage = Stage(
            folder, servers, settings.seed, previous, settings.sabotage, settings.conducts, settings.rate,
            plain=settings.plain,
        )  # fmt: skip
        operator = Operator(servers)
        beside = [asyncio.create_task(stage.supervise()), asyncio.create_task(operator.run())]
        try:
            stage.start()
            await _inject(stage, settings.plan(deploys=previous is not None), settings.at_work)
            extra = [] if settings.plain else await _schedules_end(operator, settings)
            extra += await _drained(stage, settings)
            for one in beside:
                one.cancel()
            extra += await _end(stage)
            if not settings.plain:
                extra += await blob_rules.swept(folder, servers.url("conductor"), APP, servers.shards)
            final = await asyncio.to_thread(_count, servers, settings.types)
        finally:
            for one in beside:
                one.cancel()  # or daemons would be started anew that nobody ends
            stage.close()
            operator.close()
    events = history.read(folder / "history")
    found = lives([folder])
    findings = [*extra, *check(events, final, found)]
    account = draw_up(events, final, findings, found)
    account.seed, account.topology = settings.seed, settings.topology
    account.seconds = round(time.monotonic() - began, 1)
    account.previous = commit if previous is not None else None
    return Run(account, findings, events)


async def _schedules_end(operator: Operator, settings: Settings) -> list[Finding]:
    behind = await operator.end_schedules(min(CATCHES_UP, settings.drain))
    return [Finding("schedule stands", what, "when the faults were over") for what in behind]


async def _inject(stage: Stage, plan: list[Fault], workers: int) -> None:
    """Every fault at its time, from when so many workers are at work; returns when all are over."""
    await _serving(stage, workers)
    began = time.monotonic()
    running: list[asyncio.Task[None]] = []
    for fault in plan:
        await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
        running.append(asyncio.create_task(FAULTS[fault.kind](stage, fault), name=fault.kind))  # type: ignore[arg-type]
    await asyncio.gather(*running)


async def _serving(stage: Stage, workers: int) -> None:
    """Until so many workers have run a task: one that is only starting has nothing that a fault could hit."""
    deadline = time.monotonic() + STARTS_WITHIN
    while len({event["pid"] for event in _events(stage, "effect")}) < workers:
        if time.monotonic() > deadline:
            told = f"fewer than {workers} workers ran a task within {STARTS_WITHIN:g} s"
            raise RuntimeError(f"{told}: see the logs in {stage.folder}")
        await asyncio.sleep(0.1)


def _events(stage: Stage, name: str) -> list[history.Event]:
    return [event for event in history.read(stage.folder / "history") if event["event"] == name]


async def _end(stage: Stage) -> list[Finding]:
    """Stop what still runs. What ended otherwise than with 0 is a finding, then or before.

    Not where it ran the previous release: what that one did wrong cannot be mended any more.
    """
    await asyncio.gather(*(_stop(stage, seat) for seat in (*stage.groups, *stage.daemons)))
    return [
        Finding("exit code", event["whom"], f"ended with {event['code']}")
        for event in _events(stage, "ended")
        if event["code"] != 0 and not event["previous"]
    ]


async def _stop(stage: Stage, seat: Seat) -> None:
    seat.kill(signal.SIGTERM)
    history.write("ended", whom=seat.name, code=await seat.ended(), previous=stage.runs_previous(seat))


async def _drained(stage: Stage, settings: Settings) -> list[Finding]:
    """Stop the producers and let everything end."""
    for seat in stage.producers:
        await _stop(stage, seat)
    transport = SyncTransport(Address.parse(stage.servers.url("conductor")))
    inspector = Inspector(transport, APP, stage.servers.shards)
    deadline = time.monotonic() + settings.drain
    left: list[str] = []
    try:
        while time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            left = await asyncio.to_thread(_left, inspector, stage.servers, settings.types)
            if not left:
                return []
    finally:
        transport.close()
    return [Finding("not drained", what, f"still there after {settings.drain:g} s") for what in left]


def _left(inspector: Inspector, servers: Servers, types: list[str]) -> list[str]:
    """What has not ended yet."""
    try:
        stats = inspector.stats()
        census = Census(servers.clients(), inspector, APP, servers.shards)
        return [
            f"{s.type}: {s.ready} ready, {s.running} running, {s.scheduled} scheduled, {s.parked} parked"
            for s in stats
            if s.ready or s.running or s.scheduled or s.parked
        ] or census.take(types).left
    except (StreamQError, redis.RedisError) as error:
        return [f"the server: {error}"]


def _count(servers: Servers, types: list[str]) -> Tally:
    transport = SyncTransport(Address.parse(servers.url("conductor")))
    try:
        inspector = Inspector(transport, APP, servers.shards)
        return Census(servers.clients(), inspector, APP, servers.shards).take(types)
    finally:
        transport.close()

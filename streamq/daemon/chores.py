"""The table of the daemon's chores: a row each with its name, factory and interval.

Owns that table, which the daemon's loops, its health and the tests of its options read. The work itself is
in the chores' own modules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from streamq.daemon.alarm import Alarm
from streamq.daemon.claimer import Claimer
from streamq.daemon.discovery import Discovery
from streamq.daemon.expirer import Expirer
from streamq.daemon.flow_keeper import FlowKeeper
from streamq.daemon.janitor import Janitor
from streamq.daemon.loop import Step
from streamq.daemon.promoter import LONGEST_SLEEP, Promoter
from streamq.daemon.recounter import Recounter
from streamq.daemon.retirer import Retirer
from streamq.daemon.sampler import Sampler
from streamq.daemon.scheduler import Scheduler
from streamq.daemon.windower import Windower
from streamq.options.service import DaemonOptions
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport

SOON: Final = 1.0
"""Seconds after an outage until the daemon sends a heartbeat and discovers apps again."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The objects that chores are built from. stop: set when the daemon should end. beat: sends the daemon's
    heartbeat. alarm: the promoter listens for the scheduler. name: the daemon's."""

    transport: AsyncTransport
    discovery: Discovery
    options: DaemonOptions
    counters: Counters
    stop: asyncio.Event
    beat: Callable[[], Awaitable[None]]
    alarm: Alarm
    name: str


@dataclass(frozen=True, slots=True)
class RunningChore:
    """A chore in operation. wait: waits for the next round; None: wait for the interval. close: releases its
    resources."""

    round: Step
    wait: Step | None = None
    close: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Chore:
    """One row of the table.

    interval_option: the field of DaemonOptions with the seconds between two rounds; '' if the chore decides
    itself when to run. after_outage: seconds from the end of a Redis outage to the next round; None: the
    interval.
    """

    name: str
    make: Callable[[Dependencies], RunningChore]
    interval_option: str = ""
    after_outage: float | None = None

    def interval(self, options: DaemonOptions) -> float:
        """Return the longest time between two rounds, in seconds."""
        seconds: float = getattr(options, self.interval_option) if self.interval_option else LONGEST_SLEEP
        return seconds


def _promoter(deps: Dependencies) -> RunningChore:
    promoter = Promoter(deps.transport, deps.discovery, deps.options.batch, deps.counters, deps.alarm)
    return RunningChore(promoter.round, lambda faults: promoter.wait(deps.stop, faults), promoter.aclose)


def _scheduler(deps: Dependencies) -> RunningChore:
    scheduler = Scheduler(deps.transport, deps.discovery, deps.counters, deps.alarm, deps.name)
    return RunningChore(scheduler.round, lambda _: scheduler.wait(deps.stop))


def _flow_keeper(deps: Dependencies) -> RunningChore:
    keeper = FlowKeeper(deps.transport, deps.discovery)
    return RunningChore(keeper.round, lambda _: keeper.wait(deps.stop))


def _claimer(deps: Dependencies) -> RunningChore:
    return RunningChore(Claimer(deps.transport, deps.discovery, deps.options.batch).round)


def _janitor(deps: Dependencies) -> RunningChore:
    return RunningChore(Janitor(deps.transport, deps.discovery, deps.options).round)


def _expirer(deps: Dependencies) -> RunningChore:
    return RunningChore(Expirer(deps.transport, deps.discovery, deps.options.batch).round)


def _sampler(deps: Dependencies) -> RunningChore:
    return RunningChore(Sampler(deps.transport, deps.discovery).round)


def _windower(deps: Dependencies) -> RunningChore:
    return RunningChore(Windower(deps.transport, deps.discovery).round)


def _recounter(deps: Dependencies) -> RunningChore:
    return RunningChore(Recounter(deps.transport, deps.discovery).round)


def _retirer(deps: Dependencies) -> RunningChore:
    return RunningChore(Retirer(deps.transport, deps.discovery).round)


DISCOVER: Final = Chore(
    "discover", lambda deps: RunningChore(deps.discovery.refresh), "discover_interval", after_outage=SOON
)
CHORES: Final = (
    Chore("promote", _promoter),
    Chore("schedule", _scheduler),
    Chore("flow", _flow_keeper),
    DISCOVER,
    Chore("reclaim", _claimer, "claim_interval"),
    Chore("tidy", _janitor, "tidy_interval"),
    Chore("heartbeat", lambda deps: RunningChore(lambda _: deps.beat()), "heartbeat", after_outage=SOON),
    Chore("expire", _expirer, "expire_interval"),
    Chore("sample", _sampler, "sample_interval"),
    Chore("retire", _retirer, "tidy_interval"),
    Chore("window", _windower, "discover_interval"),
    Chore("recount", _recounter, "discover_interval"),
)

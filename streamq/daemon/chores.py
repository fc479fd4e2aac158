"""What the daemon does, one row a chore: its name, how it is made, and how often it runs.

Owns that table, which the daemon's loops, its health and the tests of its options read. A chore is a file of
its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from streamq.daemon.claimer import Claimer
from streamq.daemon.discovery import Discovery
from streamq.daemon.expirer import Expirer
from streamq.daemon.janitor import Janitor
from streamq.daemon.loop import Step
from streamq.daemon.promoter import LONGEST_SLEEP, Promoter
from streamq.daemon.retirer import Retirer
from streamq.daemon.sampler import Sampler
from streamq.daemon.windower import Windower
from streamq.options.service import DaemonOptions
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport

SOON: Final = 1.0
"""Seconds after an outage until it is told that a daemon is there, and looked what there is."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What chores are made from. stop: set when the daemon is to end. beat: sends its own heartbeat."""

    transport: AsyncTransport
    discovery: Discovery
    options: DaemonOptions
    counters: Counters
    stop: asyncio.Event
    beat: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Work:
    """A chore at work. wait: how it waits for its next round, where not for its interval. close: ends what
    it holds."""

    round: Step
    wait: Step | None = None
    close: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Chore:
    """One row of the table.

    interval_option: the field of DaemonOptions that says how many seconds are between two rounds; '' where
    the chore itself knows when it is needed. after_outage: seconds from the return of an absent server to
    the next round; None: the interval.
    """

    name: str
    make: Callable[[Tools], Work]
    interval_option: str = ""
    after_outage: float | None = None

    def interval(self, options: DaemonOptions) -> float:
        """Return the seconds between two rounds, at most."""
        seconds: float = getattr(options, self.interval_option) if self.interval_option else LONGEST_SLEEP
        return seconds


def _promoter(tools: Tools) -> Work:
    promoter = Promoter(tools.transport, tools.discovery, tools.options.batch, tools.counters)
    return Work(promoter.round, lambda faults: promoter.wait(tools.stop, faults), promoter.aclose)


def _claimer(tools: Tools) -> Work:
    return Work(Claimer(tools.transport, tools.discovery, tools.options.batch).round)


def _janitor(tools: Tools) -> Work:
    return Work(Janitor(tools.transport, tools.discovery, tools.options).round)


def _expirer(tools: Tools) -> Work:
    return Work(Expirer(tools.transport, tools.discovery, tools.options.batch).round)


def _sampler(tools: Tools) -> Work:
    return Work(Sampler(tools.transport, tools.discovery).round)


def _windower(tools: Tools) -> Work:
    return Work(Windower(tools.transport, tools.discovery).round)


def _retirer(tools: Tools) -> Work:
    return Work(Retirer(tools.transport, tools.discovery).round)


DISCOVER: Final = Chore(
    "discover", lambda tools: Work(tools.discovery.look), "discover_interval", after_outage=SOON
)
CHORES: Final = (
    Chore("promote", _promoter),
    DISCOVER,
    Chore("reclaim", _claimer, "claim_interval"),
    Chore("tidy", _janitor, "tidy_interval"),
    Chore("heartbeat", lambda tools: Work(lambda _: tools.beat()), "heartbeat", after_outage=SOON),
    Chore("expire", _expirer, "expire_interval"),
    Chore("sample", _sampler, "sample_interval"),
    Chore("retire", _retirer, "tidy_interval"),
    Chore("window", _windower, "discover_interval"),
)

"""What of a queue stands still: lanes that are halted or paused, flows that do not go on, runs that are late.

Owns what counts as that for commands, and how little is read for it: an app without lanes, flows and
schedules costs one look at the first rows of three sets for each shard, of 0.03 ms. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.calls import lanes as lane_calls
from streamq.calls import producer as producer_calls
from streamq.control import flow_pages
from streamq.control.formatting import age
from streamq.control.overview import TypeStats
from streamq.control.schedule_info import LATE_MS, ScheduleInfo, info_of
from streamq.control.schedule_rows import Found, rows_of
from streamq.control.unreadable import Unreadable
from streamq.flow import Flow, ask
from streamq.keys import ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.options.lane import Gate

_PAGE: Final = 100
PAGES: Final = 5
"""Pages of lanes that are looked at for halted ones: there may be millions."""
_FLOWS: Final = 5
"""Flows that do not go on, and flows that have failed, that are read."""
_NAMED: Final = 2
"""Of flows and schedules that are named."""


@dataclass(frozen=True, slots=True)
class StandingLanes:
    """Lanes of a type that stand still while tasks wait in them: how many dead letters halt, and how many an
    operator has paused. waiting: tasks in the halted ones."""

    type: str
    halted: int
    paused: int
    waiting: int

    def told(self) -> str:
        """Return it as a line."""
        parts = [f"{_number(self.halted, 'lane')} halted by dead letters"] if self.halted else []
        parts += [f"{_number(self.paused, 'lane')} paused"] if self.paused else []
        waiting = f", {_number(self.waiting, 'task')} behind" if self.waiting else ""
        return f"{self.type}: {', '.join(parts)}{waiting}: streamq lanes {self.type}"


@dataclass(frozen=True, slots=True)
class Standstill:
    """What stands still. late_flows: run but do not go on; stuck_flows: an undo task of theirs has failed;
    late_runs: seconds by which the next run of a schedule is late, by its name."""

    lanes: list[StandingLanes] = field(default_factory=list[StandingLanes])
    late_flows: list[str] = field(default_factory=list[str])
    stuck_flows: list[str] = field(default_factory=list[str])
    late_runs: dict[str, int] = field(default_factory=dict[str, int])

    def told(self) -> list[str]:
        """Return it as lines, each with the command that shows more."""
        lines = [one.told() for one in self.lanes]
        if self.late_flows:
            lines.append(f"flows do not go on: {_named(self.late_flows)}: streamq flow")
        if self.stuck_flows:
            lines.append(f"flows are stuck in their undo: {_named(self.stuck_flows)}: streamq flow")
        if self.late_runs:
            by = age(max(self.late_runs.values()))
            lines.append(f"runs are late by up to {by}: {_named(list(self.late_runs))}: streamq schedules")
        return lines


def standstill(
    app: str, shards: Iterable[int], stats: Sequence[TypeStats], look: Unreadable
) -> Flow[Standstill]:
    """Read what stands still in these shards. stats: of the types that are looked at; lanes are read only of
    those with parked tasks. look: notes what cannot be read."""
    numbers = list(shards)
    found = Standstill(lanes=(yield from _lanes(app, numbers, stats, look)))
    with_flows = list[ShardKeys]()
    for s in (shard_keys(app, n) for n in numbers):
        now, (run, *flows) = yield from ask(daemon_calls.first_rows((s.schedules_due, s.flows, s.inbox)))
        if run is not None and now - run > LATE_MS:
            found.late_runs.update((yield from _late_runs(s, now, look)))
        with_flows += [s] if any(one is not None for one in flows) else []
    if with_flows:
        late, failed = yield from flow_pages.troubled(with_flows, _FLOWS, look)
        found.late_flows.extend(one.id for one in late)
        found.stuck_flows.extend(one.id for one in failed if one.state == "stuck")
    return found


def _late_runs(s: ShardKeys, now_ms: int, look: Unreadable) -> Flow[dict[str, int]]:
    found = dict[str, int]()
    for row in (yield from rows_of(s, look)):
        known = yield from info_of(Found(s, row), look, outcome=False)
        if by := late_by(known, now_ms):
            found[known.name] = by // 1000
    return found


def late_by(one: ScheduleInfo, now_ms: int) -> int:
    """Return by how many ms the next run of a schedule is late; 0 if it is not, or by no more than a daemon
    that keeps up may need."""
    by = now_ms - one.next_ms if one.next_ms else 0
    return by if by > one.jitter * 1000 + LATE_MS else 0


def _lanes(
    app: str, shards: Sequence[int], stats: Sequence[TypeStats], look: Unreadable
) -> Flow[list[StandingLanes]]:
    found = list[StandingLanes]()
    for one in stats:
        if one.parked:
            standing = yield from _lanes_of([type_keys(app, n, one.type) for n in shards], look)
            found += [standing] if standing.halted or standing.paused else []
    return found


def _lanes_of(places: Sequence[TypeKeys], look: Unreadable) -> Flow[StandingLanes]:
    paused, halted = set[str](), list[lane_calls.LaneRow]()
    for t in places:
        limits = yield from look.ask(lane_calls.rules(t), dict)
        paused |= {lane for lane, rules in limits.items() if lane and rules.partition(";")[0] == "0"}
        rules = yield from look.ask(producer_calls.policy_rules(t), dict)
        if Gate.parse(rules.get("gate", "")).halts:
            halted += yield from halted_lanes(t, look)
    return StandingLanes(places[0].type, len(halted), len(paused), sum(row.parked for row in halted))


def halted_lanes(t: TypeKeys, look: Unreadable) -> Flow[list[lane_calls.LaneRow]]:
    """Return the lanes with tasks that wait for a dead letter to be requeued or purged, of the first 500."""
    found = list[lane_calls.LaneRow]()
    after = ""
    for _ in range(PAGES):
        after, rows = yield from look.ask(lane_calls.listed(t, after, _PAGE), _no_lanes)
        found += [row for row in rows if row.halted]
        if not after:
            break
    return found


def _no_lanes() -> tuple[str, list[lane_calls.LaneRow]]:
    return "", []


def _number(of: int, what: str) -> str:
    return f"{of:,} {what}" if of == 1 else f"{of:,} {what}s"


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")

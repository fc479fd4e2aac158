"""An overview of a queue that is read again and again at little cost to the server.

Owns how often each part is read, and the overview as a value. Must not write anything. Cost of one update:
for each task type and shard one script of about 0.05 ms that reads a few lengths and heads; every five
seconds another of 0.03 ms that reads five small hashes, and for each shard one of 0.03 ms that tells whether
lanes, flows or schedules are to be looked at. Ten types over four shards take 2.3 ms (by INFO
commandstats): with an update every two seconds a thousandth of the server's time, and no other command waits
longer than one script takes. Of thousands of types some are read, and the number of the others is part of the
overview.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from streamq.calls import question as question_calls
from streamq.cli.target import Target
from streamq.client.task_event import TaskEvent
from streamq.control.action_log import Pause
from streamq.control.inspector import Inspector
from streamq.control.overview import Totals, TypeStats, TypeSummary, totals
from streamq.control.partial_outage import PartialView, unless_unreachable
from streamq.control.rollups import Activity, activity
from streamq.control.standstill import Standstill
from streamq.errors import AuthenticationFailed, ServerError
from streamq.heartbeat import WorkerInfo
from streamq.stored import count

RECENT: Final = 5
"""Minutes over which waiting and running times and success are taken, and rates until the counters give
them."""
SLOW: Final = 5.0
"""Seconds between two reads of what changes slowly or costs more."""
WATCHED: Final = 5
"""Running tasks whose progress is read."""
WINDOW: Final = 10.0
"""Seconds over which rates are computed from the counters, in an overview that is updated."""

_Counted = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Server:
    """The server. Memory in bytes and clients: for a cluster the sums over all masters."""

    address: str
    name: str
    version: str
    nodes: int
    used_memory: int
    max_memory: int | None
    clients: int


@dataclass(frozen=True, slots=True)
class Overview:
    """A queue at one moment. Workers and daemons are None if the shard with their heartbeats is
    unreachable."""

    app: str
    at_ms: int
    server: Server
    totals: Totals
    types: list[TypeSummary]
    more_types: int
    workers: list[WorkerInfo] | None
    daemons: list[WorkerInfo] | None
    faults: list[str]
    missing_shards: tuple[int, ...] = ()
    standstill: Standstill = field(default_factory=Standstill)
    progress: dict[str, TaskEvent] = field(default_factory=dict[str, "TaskEvent"])
    """By the ids of the tasks that have run longest, where their handlers told it."""

    def as_object(self) -> dict[str, object]:
        """Return the overview as JSON shows it."""
        return {
            "app": self.app,
            "at_ms": self.at_ms,
            "server": asdict(self.server),
            "totals": asdict(self.totals),
            "types": [one.as_object() for one in self.types],
            "more_types": self.more_types,
            "workers": _objects(self.workers),
            "daemons": _objects(self.daemons),
            "faults": self.faults,
            "missing_shards": list(self.missing_shards),
            "standstill": asdict(self.standstill),
            "progress": {name: asdict(told) for name, told in self.progress.items()},
        }


def _objects(processes: list[WorkerInfo] | None) -> list[dict[str, object]] | None:
    return None if processes is None else [asdict(one) for one in processes]


def _running_longest(workers: Iterable[WorkerInfo]) -> list[str]:
    """Return the ids of some tasks that run, those that began first."""
    running = [one.details.get("running") for one in workers if one.alive]
    tasks = [task for listed in running if isinstance(listed, list) for task in listed]
    known = [
        (task["since_ms"], str(task.get("id")))
        for task in tasks
        if isinstance(task, dict) and isinstance(task.get("since_ms"), int)
    ]
    return [name for _, name in sorted(known)[:WATCHED]]


@dataclass(slots=True)
class _Slow:
    """What is read every five seconds only."""

    paused: dict[str, Pause]
    activities: dict[str, Activity]
    daemons: list[WorkerInfo] | None
    standstill: Standstill
    server: Server
    at: float


class Watch:
    """Reads the overview of one app, again and again."""

    def __init__(self, found: Target) -> None:
        self._found = found
        self._partial = PartialView(lambda: found.inspector)
        self._missing: tuple[int, ...] = ()
        self._slow: _Slow | None = None
        self._counted: deque[tuple[float, _Counted]] = deque()

    def read(self) -> Overview:
        """Return the overview. If a master of a cluster is unreachable: of the other shards. Raise
        RedisErrors."""
        seen, missing = self._partial.look(self._read)
        if missing != self._missing:  # the counters are of other shards than before
            self._missing = missing
            self._counted.clear()
            seen, missing = self._partial.look(self._read)
        return replace(seen, missing_shards=missing)

    def _read(self, inspector: Inspector) -> Overview:
        now = time.monotonic()
        names, more = inspector.glance()
        stats = inspector.stats(names)
        slow = self._slow
        if slow is None or now - slow.at >= SLOW or any(one.type not in slow.activities for one in stats):
            slow = self._slow = self._read_slow(inspector, stats, now)
        self._count(now, stats)
        types = [self._summary(one, slow) for one in stats]
        workers = unless_unreachable(inspector.workers)
        longest = _running_longest(workers or ())
        return Overview(
            app=self._found.app,
            at_ms=inspector.now_ms(),
            server=slow.server,
            totals=totals(types),
            types=types,
            more_types=more,
            workers=workers,
            daemons=slow.daemons,
            faults=inspector.faults,
            standstill=slow.standstill,
            progress=unless_unreachable(lambda: inspector.progress(longest)) or {},
        )

    def _read_slow(self, inspector: Inspector, stats: list[TypeStats], now: float) -> _Slow:
        pinned, now_ms = inspector.within(inspector.each()), inspector.now_ms()
        since_ms = now_ms - RECENT * 60_000
        return _Slow(
            paused=inspector.paused(),
            activities={
                one.type: activity(pinned.rollups(one.type, since_ms=since_ms, now_ms=now_ms))
                for one in stats
            },
            daemons=unless_unreachable(inspector.daemons),
            standstill=inspector.standstill(stats),
            server=self._server(),
            at=now,
        )

    def _server(self) -> Server:
        try:
            nodes = list(self._found.transport.run_on_reachable_nodes(question_calls.info()).values())
        except (AuthenticationFailed, ServerError):  # renamed there, or not for this user
            nodes = []
        names = ("used_memory", "maxmemory", "connected_clients")
        used, most, clients = (sum(count(node.get(name)) for node in nodes) for name in names)
        first = nodes[0] if nodes else {}
        return Server(
            address=str(self._found.transport.address),
            name=first.get("server_name", "redis"),
            version=first.get("valkey_version") or first.get("redis_version", "?"),
            nodes=len(nodes),
            used_memory=used,
            max_memory=most or None,
            clients=clients,
        )

    def _count(self, now: float, stats: list[TypeStats]) -> None:
        counted = {
            one.type: (one.counters.get("accepted", 0), one.counters.get("completed", 0)) for one in stats
        }
        self._counted.append((now, counted))
        while len(self._counted) > 2 and now - self._counted[0][0] > WINDOW:
            self._counted.popleft()

    def _summary(self, one: TypeStats, slow: _Slow) -> TypeSummary:
        recent = slow.activities[one.type]
        return TypeSummary(one, self._with_rates(one.type, recent), slow.paused.get(one.type))

    def _with_rates(self, task_type: str, recent: Activity) -> Activity:
        """Return the activity with rates by the counters, once they were read twice."""
        (began, first), (ended, last) = self._counted[0], self._counted[-1]
        if ended - began < 0.5 or task_type not in first:
            return recent
        pairs = zip(first[task_type], last[task_type], strict=True)
        entered, left = (max(0, after - before) / (ended - began) for before, after in pairs)
        return replace(recent, rate_in=entered, rate_out=left)

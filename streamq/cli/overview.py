"""A queue at a glance, looked at again and again without weighing on the server.

Owns what is asked how often, and the shape of the answer. What a look costs the server: for each task type
and shard one script of about 0.05 ms that reads a few lengths and heads; every five seconds another of
0.03 ms that reads five small hashes. Ten types over four shards take 2.3 ms (by INFO commandstats): with a
look every two seconds a thousandth of the server's time, and nothing waits longer than for one script. Of
thousands of types it looks at some, and says how many it leaves out.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict
from typing import Any, Final

from streamq.calls import question as question_calls
from streamq.cli.target import Target
from streamq.control.action_log import Pause
from streamq.control.heartbeats import WorkerInfo
from streamq.control.inspector import Inspector
from streamq.control.overview import STATES, TypeStats, shown, totals
from streamq.control.partial_outage import PartialView, unless_unreachable
from streamq.control.rollups import Activity, activity
from streamq.stored import count

RECENT: Final = 5
"""Minutes that waiting and running times and success are taken of, and rates where nothing else is known."""
SLOW: Final = 5.0
"""Seconds between two looks at what changes slowly or costs more."""
WINDOW: Final = 10.0
"""Seconds over which rates are taken of the counters, in a view that is looked at again."""

_Counted = dict[str, tuple[int, int]]


class Watch:
    """Looks at one app. The answers are objects as JSON shows them."""

    def __init__(self, found: Target) -> None:
        self._found = found
        self._partial = PartialView(lambda: found.inspector)
        self._missing: tuple[int, ...] = ()
        self._slow_at = -SLOW
        self._paused: dict[str, Pause] = {}
        self._activities: dict[str, Activity] = {}
        self._server: dict[str, object] = {}
        self._daemons: list[WorkerInfo] | None = []
        self._counted: deque[tuple[float, _Counted]] = deque()

    def look(self) -> dict[str, Any]:
        """The queue as it is. Where a master of a cluster is away: what can be reached, and which shards are
        missing. Raises RedisErrors."""
        seen, missing = self._partial.look(self._look)
        if missing != self._missing:  # the counters are of other shards than before
            self._missing = missing
            self._counted.clear()
            seen, missing = self._partial.look(self._look)
        return {**seen, "missing_shards": list(missing)}

    def _look(self, inspector: Inspector) -> dict[str, object]:
        now = time.monotonic()
        types, more = inspector.glance()
        stats = inspector.stats(types)
        if now - self._slow_at >= SLOW or any(one.type not in self._activities for one in stats):
            self._look_slowly(inspector, [one.type for one in stats])
            self._slow_at = now
        self._count(now, stats)
        rows = [self._row(one) for one in stats]
        return {
            "app": self._found.app,
            "at_ms": inspector.now_ms(),
            "server": self._server,
            "totals": totals(rows, (*STATES, "rate_in", "rate_out")),
            "types": rows,
            "more_types": more,
            "workers": _listed(unless_unreachable(inspector.workers)),
            "daemons": _listed(self._daemons),
            "faults": inspector.faults,
        }

    def _look_slowly(self, inspector: Inspector, types: list[str]) -> None:
        self._paused = inspector.paused()
        pinned, now_ms = inspector.within(inspector.each()), inspector.now_ms()
        since_ms = now_ms - RECENT * 60_000
        self._activities = {
            name: activity(pinned.rollups(name, since_ms=since_ms, now_ms=now_ms)) for name in types
        }
        self._daemons = unless_unreachable(inspector.daemons)
        self._server = self._about_server()

    def _about_server(self) -> dict[str, object]:
        """Memory in bytes and clients: of a cluster those of all masters together."""
        nodes = list(self._found.transport.run_on_reachable_nodes(question_calls.info()).values())
        names = ("used_memory", "maxmemory", "connected_clients")
        used, most, clients = (sum(count(said.get(name)) for said in nodes) for name in names)
        return {
            "address": str(self._found.transport.address),
            "name": nodes[0].get("server_name", "redis"),
            "version": nodes[0].get("valkey_version") or nodes[0].get("redis_version", "?"),
            "nodes": len(nodes),
            "used_memory": used,
            "max_memory": most or None,
            "clients": clients,
        }

    def _count(self, now: float, stats: list[TypeStats]) -> None:
        counted = {
            one.type: (one.counters.get("accepted", 0), one.counters.get("completed", 0)) for one in stats
        }
        self._counted.append((now, counted))
        while len(self._counted) > 2 and now - self._counted[0][0] > WINDOW:
            self._counted.popleft()

    def _row(self, one: TypeStats) -> dict[str, object]:
        pause, recent = self._paused.get(one.type), self._activities[one.type]
        return {**shown(one, recent, pause), **self._rates(one.type)}

    def _rates(self, task_type: str) -> dict[str, float]:
        """By the counters; nothing where there is only one look yet."""
        (began, first), (ended, last) = self._counted[0], self._counted[-1]
        if ended - began < 0.5 or task_type not in first:
            return {}
        pairs = zip(first[task_type], last[task_type], strict=True)
        entered, left = (max(0, after - before) / (ended - began) for before, after in pairs)
        return {"rate_in": entered, "rate_out": left}


def _listed(processes: list[WorkerInfo] | None) -> list[dict[str, object]] | None:
    """None where nobody can tell."""
    return None if processes is None else [asdict(one) for one in processes]

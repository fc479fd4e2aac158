"""A million tasks through two worker processes and a daemon on one server.

Proves that none is lost, that each is settled once, that the server's memory comes back to where it was,
that no key has grown, and that the audit of a full queue, idle and busy, holds the server up for no 5 ms.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from streamq import StreamQ, scripts
from streamq.audit import Audit
from streamq.audit.walks import STEP
from tests.endurance import figures, tasks
from tests.endurance.stage import Stage, said
from tests.running import until

TYPE: Final = "work"
WARM: Final = 2000
"""Tasks before the first figures: what a process allocates once is no growth."""
CHUNK: Final = 500
SLOW_US: Final = 5000
ROOM_BYTES: Final = 256 * 1024
"""What the server may use more at the end: scripts that it was sent in between (all are 111 KB), counters,
rollups, and the memory of writers, which expires."""
TRIES: Final = 4
"""Audits of a full queue. On a crowded machine the server is put aside for some ms now and then, but no step
is met by that every time, or more than once in a thousand."""


@dataclass
class Load:
    """What came of it. `slow_*`: commands over 5 ms, by script, with how many and the longest in us."""

    tasks: int = 0
    accepted: int = 0
    completed: int = 0
    lost: int = 0
    run_twice: int = 0
    settled_twice: int = 0
    reclaimed: int = 0
    fill_seconds: float = 0.0
    drain_seconds: float = 0.0
    audits: list[dict[str, Any]] = field(default_factory=list)
    always_slow: list[str] = field(default_factory=list)
    slow_while_draining: dict[str, dict[str, int]] = field(default_factory=dict)
    server_before: dict[str, int] = field(default_factory=dict)
    server_full: dict[str, int] = field(default_factory=dict)
    server_after: dict[str, int] = field(default_factory=dict)
    keys_before: dict[str, dict[str, int]] = field(default_factory=dict)
    keys_after: dict[str, dict[str, int]] = field(default_factory=dict)
    workers_before: list[dict[str, int]] = field(default_factory=list)
    workers_after: list[dict[str, int]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


class Run:
    """One run over `number` tasks."""

    def __init__(self, stage: Stage, number: int) -> None:
        self._stage, self._number = stage, number
        self._app = StreamQ("endurance", stage.url)
        self._group = stage.group("workers", 2)
        self._daemon = stage.daemon()
        self.load = Load(tasks=number)

    async def go(self) -> Load:
        load = self.load
        self._daemon.start()
        self._group.start()
        self._send(0, WARM)
        await until(self._drained, 60)
        load.server_before, load.keys_before = figures.server(self._stage.client), self._keys()
        load.workers_before = self._workers()
        self._app.admin.pause(TYPE)
        began = time.monotonic()
        self._send(WARM, self._number)
        load.fill_seconds = round(time.monotonic() - began, 1)
        load.server_full = figures.server(self._stage.client)
        said(f"filled in {load.fill_seconds} s: {self._stats().ready:,} ready")
        idle = self._audits("idle", TRIES)
        self._app.admin.resume(TYPE)
        began = time.monotonic()
        busy = self._audits("busy", TRIES)
        self._watch()
        await until(self._drained, 1800)
        load.drain_seconds = round(time.monotonic() - began, 1)
        load.slow_while_draining = self._slow()
        load.always_slow = sorted(idle | busy)
        await self._end()
        return load

    def _send(self, first: int, number: int) -> None:
        for start in range(first, first + number, CHUNK):
            several = range(start, min(start + CHUNK, first + number))
            self._app.enqueue_many([tasks.work.bind(n=n) for n in several])

    def _stats(self) -> Any:
        return self._app.inspector.type_stats(TYPE)

    def _drained(self) -> bool:
        stats = self._stats()
        return bool(stats.ready + stats.running + stats.scheduled == 0)

    def _keys(self) -> dict[str, dict[str, int]]:
        return figures.keys(self._stage.client)

    def _workers(self) -> list[dict[str, int]]:
        return [figures.process(pid) for pid in self._group.workers()]

    # -- what holds the server up ------------------------------------------------------------------------

    def _audits(self, label: str, most: int) -> set[str]:
        """Audit the queue; again where a step was slow. Answers the steps that were slow every time."""
        always: set[str] | None = None
        for _ in range(most):
            slow = self._audit(label, self._app.inspector.audit)
            always = slow if always is None else always & slow
            if not always or self._drained():
                break
        return always or set()

    def _audit(self, label: str, audit: Callable[[], Audit]) -> set[str]:
        """Answers the steps that were slow more often than once in a thousand."""
        self._watch()
        before, began = self._stats(), time.monotonic()
        found = audit()
        seconds, slow = time.monotonic() - began, self._slow()
        self.load.findings += [f"audit while {label}: {problem}" for problem in found.problems[:20]]
        about: dict[str, Any] = {
            "queue": label, "ready": before.ready, "checked": found.checked, "seconds": round(seconds, 1),
            "problems": len(found.problems), "slow": slow,
        }  # fmt: skip
        self.load.audits.append(about)
        said(f"{label}: {about}")
        few = found.checked / STEP / 1000
        return {name for name, how in slow.items() if name.startswith("audit") and how["times"] > few}

    def _watch(self) -> None:
        self._stage.client.config_set("slowlog-log-slower-than", SLOW_US)
        self._stage.client.config_set("slowlog-max-len", 10_000)
        self._stage.client.slowlog_reset()

    def _slow(self) -> dict[str, dict[str, int]]:
        """The commands over 5 ms since the last look."""
        found: dict[str, dict[str, int]] = {}
        rows: Any = self._stage.client.execute_command("SLOWLOG", "GET", -1)  # type: ignore[no-untyped-call]
        for _, _, us, words, *_ in rows:
            first, second = [*(word.decode("utf-8", "replace") for word in words[:2]), ""][:2]
            known = found.setdefault(_NAMES.get(second, first), {"times": 0, "longest_us": 0})
            known["times"] += 1
            known["longest_us"] = max(known["longest_us"], int(us))
        return found

    # -- the verdict ---------------------------------------------------------------------------------------

    async def _end(self) -> None:
        load, counters = self.load, self._stats().counters
        load.accepted, load.completed = counters["accepted"] - WARM, counters["completed"] - WARM
        load.reclaimed = counters.get("reclaimed", 0)
        load.workers_after = self._workers()
        self._stage.client.slowlog_reset()
        load.server_after, load.keys_after = figures.server(self._stage.client), self._keys()
        load.findings += [f"audit: {problem}" for problem in self._app.inspector.audit().problems]
        self._app.close()
        load.findings += await self._stage.end()
        runs = tasks.runs(self._stage.ledger)
        load.lost = sum(runs[n] == 0 for n in range(WARM + self._number))
        load.run_twice = sum(times > 1 for times in runs.values())
        load.settled_twice = max(0, load.completed - self._number)
        load.findings += list(_judged(load))


def _judged(load: Load) -> list[str]:
    grown = load.server_after["used_memory"] - load.server_before["used_memory"]
    again = Counter({kind: about["bytes"] for kind, about in load.keys_after.items()})
    again.subtract({kind: about["bytes"] for kind, about in load.keys_before.items()})
    passing = ("writer", "minute", "quarter", "counters", "sampled", "heartbeats")
    checks = {
        f"{load.lost} tasks were never run": load.lost == 0,
        f"accepted {load.accepted}, completed {load.completed}": load.accepted
        == load.completed
        == load.tasks,
        f"{load.run_twice} run twice, {load.reclaimed} reclaimed": load.run_twice <= load.reclaimed,
        f"the server uses {grown:,} bytes more": grown <= ROOM_BYTES,
        f"steps of the audit that are slow every time: {load.always_slow}": not load.always_slow,
    }
    checks |= {
        f"{kind} has grown by {more:,} bytes": more <= 4096 or kind in passing for kind, more in again.items()
    }
    return [finding for finding, good in checks.items() if not good]


_NAMES: Final = {scripts.load(name).sha: name for name in scripts.names()}

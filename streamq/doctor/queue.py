"""Check the queue: workers, daemons, releases, deliveries without a live worker, dead letters.

Owns how an app is judged. Asks through the inspector and a few calls of its own; all bounded. Writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from streamq.calls import audit as audit_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls.call import Call, R, all_streams
from streamq.control import lane_homes
from streamq.control.inspector import Inspector
from streamq.control.overview import TypeStats
from streamq.control.schedules import Schedules
from streamq.control.standstill import late_by
from streamq.control.unreadable import Unreadable
from streamq.doctor import flows, rules
from streamq.doctor.check import Check, fault, ok, warning
from streamq.flow import drive
from streamq.heartbeat import WorkerInfo
from streamq.keys import TypeKeys, type_keys
from streamq.stored import count
from streamq.transport.sync_transport import SyncTransport

LATE_MS: Final = 60_000
"""Idle time after which an unrenewed delivery is a fault: leases may be long."""
FAULTS_SHOWN: Final = 10
OVERDUE: Final = 5.0
"""Seconds by which a task may be overdue: a daemon that keeps up is late by milliseconds."""
RECENT_MS: Final = 3_600_000
NO_DAEMON: Final = "no daemon is alive: nothing is promoted, reclaimed or expired (start `streamq daemon`)"
_START_WORKER: Final = "streamq worker MODULE:app"


def daemons(found: Sequence[WorkerInfo], app: str | None) -> Iterator[Check]:
    """Check that a daemon serves the app; with None, any app."""
    alive = [one for one in found if one.alive and one.details.get("only") in (None, app)]
    if alive:
        yield ok("daemon", f"{len(alive)} alive: {_named(alive)}")
        yield from _faults(alive)
        return
    whom = f" for app {app}" if app else ""
    finding = f"none is alive{whom}: delayed tasks, retries and the tasks of dead workers wait"
    yield fault("daemon", finding, "streamq daemon --url <this server>, two of them for safety")


def _faults(alive: Sequence[WorkerInfo]) -> Iterator[Check]:
    """Report the problems that daemons have with single apps, shards and types."""
    reported = {str(problem) for one in alive for problem in one.details.get("problems") or ()}
    for problem in sorted(reported)[:FAULTS_SHOWN]:
        yield warning(
            "daemon",
            f"it reports: {problem}",
            "find the key that holds the wrong kind of value: streamq audit",
        )


def releases(found: Sequence[WorkerInfo]) -> Iterator[Check]:
    """Check that all processes run the same release."""
    seen: dict[str, int] = {}
    for one in found:
        if one.alive:
            version = str(one.details.get("version", "unknown"))
            seen[version] = seen.get(version, 0) + 1
    if len(seen) > 1:
        listed = ", ".join(f"{count} with {version}" for version, count in sorted(seen.items()))
        fix = "finish the roll-out: restart those that are behind (streamq workers --json lists them)"
        yield warning("releases", f"several releases of streamq are running: {listed}", fix)
    elif seen:
        yield ok("releases", f"streamq {next(iter(seen))} everywhere")


def features(found: Sequence[WorkerInfo]) -> Iterator[Check]:
    """Check that all workers support the features that any of them supports: a task may need one."""
    finding = {one.name: set(map(str, one.details.get("speaks") or ())) for one in found if one.alive}
    known = set[str]().union(*finding.values())
    lacking = {name: sorted(known - speaks) for name, speaks in finding.items() if known - speaks}
    if lacking:
        listed = [
            f"{name} ({', '.join(names[:5])})" for name, names in sorted(lacking.items())[:FAULTS_SHOWN]
        ]
        more = f" and {len(lacking) - len(listed)} more" if len(lacking) > len(listed) else ""
        yield warning(
            "features",
            f"{len(lacking)} of {len(finding)} workers lack what others can do: {', '.join(listed)}{more}",
            "restart them with the newer release; until then they hand such tasks back, for others to run",
        )


def unreadable(name: str, faults: Sequence[str]) -> Iterator[Check]:
    """Report data that could not be read and that no other check covers."""
    for one in faults[:FAULTS_SHOWN]:
        yield fault(
            name, one, "find the keys that hold the wrong kind of value with streamq audit, and RENAME them"
        )


class AppChecks:
    """Run the checks of one app."""

    def __init__(self, transport: SyncTransport, app: str, shards: int) -> None:
        self._transport = transport
        self._app, self._shards = app, shards
        self._inspector = Inspector(transport, app, shards)
        self._look = Unreadable()

    def run(self, workers: Sequence[WorkerInfo]) -> Iterator[Check]:
        stats = self._inspector.stats()
        self._inspector.workers()  # asked only for its faults
        alive = [one for one in workers if one.alive]
        yield self._served(stats, alive)
        yield self._silent(stats, {one.name for one in alive})
        yield self._due(stats)
        yield from self._recurring()
        yield from flows.checks(self._transport, self._app, self._shards, self._ask)
        yield from flows.waiting(self._transport, self._keys(one.type for one in stats))
        yield from self._strayed(one.type for one in stats)
        yield from rules.checks(self._transport, self._app, self._keys(one.type for one in stats), self._look)
        yield self._dying(stats)
        yield from self._too_new(alive)
        self._look.note(*self._inspector.faults)
        yield from unreadable(f"stored data of {self._app}", self._look.faults)

    def _served(self, stats: Sequence[TypeStats], alive: Sequence[WorkerInfo]) -> Check:
        name = f"workers of {self._app}"
        served = {str(kind) for one in alive for kind in one.details.get("types") or ()}
        waiting = [
            f"{one.type} ({one.ready:,} ready)" for one in stats if one.ready and one.type not in served
        ]
        if not alive:
            judged = fault if waiting else warning
            return judged(name, f"none is alive{_list('; ', waiting)}", _START_WORKER)
        if waiting:
            return warning(name, f"{len(alive)} alive, but none serves {', '.join(waiting)}", _START_WORKER)
        return ok(name, f"{len(alive)} alive: {_named(alive)}")

    def _silent(self, stats: Sequence[TypeStats], alive: set[str]) -> Check:
        """Find consumers that hold deliveries although their worker is gone: the daemon takes these back."""
        name, held, late = f"deliveries of {self._app}", 0, 0
        names: set[str] = set()
        for keys in self._keys(one.type for one in stats if one.running):
            for letter, _ in all_streams(keys):
                for consumer, pending, idle in self._ask(audit_calls.consumers(keys, letter), list):
                    if pending and consumer not in alive:
                        held += pending
                        late = max(late, idle)
                        names.add(consumer)
        if not held:
            return ok(
                name, f"{sum(one.running for one in stats)} running, all held by workers that are alive"
            )
        finding = f"{held} held by workers that are gone: {', '.join(sorted(names)[:5])}"
        if late > LATE_MS:
            fix = "the daemon gives them to others when their lease has run out: is one running?"
            return fault(name, f"{finding}; silent for {late // 1000} s", fix)
        return warning(name, finding, "the daemon gives them to others when their lease has run out")

    def _due(self, stats: Sequence[TypeStats]) -> Check:
        name = f"schedule of {self._app}"
        overdue = [-one.next_due_in for one in stats if one.next_due_in is not None and one.next_due_in < 0]
        if overdue and max(overdue) > OVERDUE:
            fix = "the daemon promotes them: is one running, and does it keep up?"
            return fault(name, f"tasks are overdue by up to {max(overdue):.0f} s", fix)
        return ok(name, f"{sum(one.scheduled for one in stats)} scheduled, none overdue")

    def _recurring(self) -> Iterator[Check]:
        """Schedules that make no runs, or too late; nothing where there are none."""
        name = f"recurring tasks of {self._app}"
        schedules = Schedules(self._transport, self._app, self._shards)
        listed = schedules.all(outcomes=False)
        for unreadable in schedules.faults[:FAULTS_SHOWN]:
            yield fault(name, unreadable, "streamq audit shows what the key holds")
        now = self._transport.run(question_calls.now()) if listed else 0
        late = {one.name: by for one in listed if (by := late_by(one, now))}
        broken = [one for one in listed if one.fault]
        for one in broken[:FAULTS_SHOWN]:
            fix = "put it anew, or remove it: streamq schedules remove " + one.name
            yield fault(name, f"{one.name} makes no runs: {one.fault}", fix)
        if late:
            said = f"{_list('', list(late)[:3])}: runs are late by up to {max(late.values()) // 1000} s"
            yield fault(name, said, "the daemon makes them: is one running, and does it keep up?")
        elif listed and not broken:
            orphans = [one.name for one in listed if one.standing == "orphan"]
            said = f"{len(listed)} schedules, none late"
            if orphans:
                fix = "nothing, if they were removed from the code; else start its workers"
                yield warning(name, f"{said}; no live worker declares {_list('', orphans[:5])}", fix)
            else:
                yield ok(name, said)

    def _too_new(self, alive: Sequence[WorkerInfo]) -> Iterator[Check]:
        """Report tasks that workers hand back because a newer release wrote them."""
        counts: Counter[str] = Counter()
        names, kinds = set[str](), set[tuple[str, str]]()
        for worker in alive:
            for row in worker.details.get("too_new") or ():
                if isinstance(row, dict):
                    counts[f"{row.get('type')} (needs {row.get('needs')})"] += count(row.get("count"))
                    kinds.add((str(row.get("type")), str(row.get("needs"))))
                    names.add(worker.name)
        if counts:
            listed = [f"{kind} {times} times" for kind, times in sorted(counts.items())[:FAULTS_SHOWN]]
            yield warning(
                f"newer tasks of {self._app}",
                f"handed back by workers that are too old for them ({', '.join(sorted(names)[:5])}): "
                + ", ".join(listed)
                + _newest(kinds, alive),
                "restart them with the release that enqueues these tasks, and with its keys; after a "
                "roll-back, run a worker of the newer release until none is left",
            )

    def _dying(self, stats: Sequence[TypeStats]) -> Check:
        name, since = f"dead letters of {self._app}", self._transport.run(question_calls.now()) - RECENT_MS
        kept, suspects = sum(one.dead for one in stats), sum(one.suspect for one in stats)
        types = [one.type for one in stats if one.dead]
        recent = sum(self._ask(question_calls.died_since(keys, since), int) for keys in self._keys(types))
        finding = f"{recent} of {kept} in the last hour"
        if suspects:
            finding += f"; {suspects} suspects, which were in hand when workers died"
        if recent or suspects:
            return warning(name, finding, f"streamq dead list --app {self._app}")
        return ok(name, f"{kept}, none in the last hour" if kept else "none")

    def _strayed(self, types: Iterable[str]) -> Iterator[Check]:
        """Find lanes whose older tasks are in a shard that is no longer theirs."""
        record = self._ask(producer_calls.app_record(self._app), lambda: None)
        if record is None or record.known == 1:
            return
        for task_type in types:
            call = lane_homes.strayed(self._app, task_type, record.shards, record.known)
            if shards := drive(self._transport, call):
                finding = (
                    f"{task_type}: {lane_homes.said(shards)} has tasks of lanes that are in another one now"
                )
                yield warning(f"lanes of {self._app}", f"{finding}: {lane_homes.CONSEQUENCE}", lane_homes.FIX)

    def _ask(self, call: Call[R], instead: Callable[[], R]) -> R:
        return drive(self._transport, self._look.ask(call, instead))

    def _keys(self, types: Sequence[str] | Iterator[str]) -> Iterator[TypeKeys]:
        for name in types:
            for shard in range(self._shards):
                yield type_keys(self._app, shard, name)


def _named(found: Sequence[WorkerInfo]) -> str:
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(one.name for one in found[:3]) + more


def _list(before: str, words: Sequence[str]) -> str:
    return before + ", ".join(words) if words else ""


def _newest(kinds: Iterable[tuple[str, str]], alive: Sequence[WorkerInfo]) -> str:
    """Return which types have tasks of a version that no live worker has; '' if none has."""
    known: dict[str, int] = {}
    for worker in alive:
        for name in worker.details.get("types") or ():
            versions = worker.details.get("versions") or {}
            version = versions.get(name, 1) if isinstance(versions, dict) else 1
            known[str(name)] = max(known.get(str(name), 1), count(version))
    found = [
        f"{name} version {version} (workers have {known.get(name, 1)})"
        for name, needs in sorted(kinds)
        if (version := count(needs.partition("version:")[2])) > known.get(name, 1)
    ]
    return f"; newer than any worker: {', '.join(found)}" if found else ""

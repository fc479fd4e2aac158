"""What is wrong with a queue, the worst first, for the top of the overview.

Owns what counts as wrong and how it is told. Judges what was read; reads nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

from streamq.control.action_log import Pause
from streamq.control.formatting import age
from streamq.control.overview import TypeStats
from streamq.control.standstill import StandingLanes
from streamq.doctor.check import Check
from streamq.doctor.queue import OVERDUE
from streamq.heartbeat import WorkerInfo

BEHIND: Final = 300.0
"""Seconds for which a task of a served type may wait before the type counts as behind."""
NAMED: Final = 3
"""Types or workers that are named; of more only the number is told."""
_ORDER: Final = {"fault": 0, "warning": 1}
_PLACES: Final = {
    "recurring tasks": "/schedules",
    "flows": "/flows",
    "dead letters": "/dead",
    "halted lanes": "/types/{}/lanes",
    "rules": "/types/{}",
    "newer tasks": "/workers",
    "features": "/workers",
    "releases": "/workers",
}
"""Where what the doctor found can be mended, by the name of its check without the app or the type; {} is the
type. Everything else is on the server's page."""


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that is wrong. title: what; text: what follows from it; fix: a command, or ''; path: the page
    that shows more, or ''."""

    level: Literal["fault", "warning"]
    title: str
    text: str = ""
    fix: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is judged. workers, daemons: None if unreadable; findings: of the doctor, if it ran; lanes: those
    that stand still."""

    app: str
    stats: Sequence[TypeStats]
    paused: Mapping[str, Pause]
    workers: Sequence[WorkerInfo] | None
    daemons: int | None
    findings: Sequence[Check] = ()
    lanes: Sequence[StandingLanes] = ()


def concerns(seen: Seen) -> list[Concern]:
    """Return everything that is wrong, faults first."""
    found = [*_daemon(seen), *_workers(seen), *_unserved(seen), *_overdue(seen), *_behind(seen)]
    found += [*_paused(seen), *_paused_lanes(seen), *_doctor(seen)]
    return sorted(found, key=lambda one: _ORDER[one.level])


def served_types(workers: Iterable[WorkerInfo]) -> set[str]:
    """Return the types that living workers serve."""
    return {str(kind) for one in workers if one.alive for kind in one.details.get("types") or ()}


def _daemon(seen: Seen) -> Iterator[Concern]:
    if seen.daemons == 0:
        text = "Delayed tasks, retries and the tasks of dead workers wait."
        yield Concern("fault", "No daemon is alive", text, "streamq daemon", "/workers")


def _workers(seen: Seen) -> Iterator[Concern]:
    silent = [one for one in seen.workers or () if not one.alive]
    if not silent:
        return
    held = sum(int(one.details.get("running_count", 0)) for one in silent)
    title = f"{len(silent)} workers are silent" if len(silent) > 1 else "A worker is silent"
    ran = f"ran {held} tasks, which others get when the lease ends" if held else "ran nothing"
    text = f"{_named([one.name for one in silent])} {ran}."
    yield Concern("fault" if held else "warning", title, text, "", "/workers")


def _unserved(seen: Seen) -> Iterator[Concern]:
    """Types with ready tasks that no living worker takes; those that are paused have a line of their own."""
    if seen.workers is None:
        return
    cared_for = served_types(seen.workers) | seen.paused.keys()
    alone = [one for one in seen.stats if one.ready and one.type not in cared_for]
    if not alone:
        return
    number = sum(one.ready for one in alone)
    wait = f"{number:,} tasks wait: " + _named([one.type for one in alone])
    if not any(one.alive for one in seen.workers):
        yield Concern("fault", "No worker is alive", f"{wait}.", "streamq worker MODULE:app", "/workers")
        return
    title = "Nobody serves a type" if len(alone) == 1 else f"Nobody serves {len(alone)} types"
    path = f"/types/{alone[0].type}" if len(alone) == 1 else "/?show=unserved"
    yield Concern("fault", title, f"{wait}.", "streamq worker MODULE:app", path)


def _overdue(seen: Seen) -> Iterator[Concern]:
    late = [one for one in seen.stats if one.next_due_in is not None and one.next_due_in < -OVERDUE]
    if late:
        worst = min(late, key=lambda one: one.next_due_in or 0.0)
        by = age(-(worst.next_due_in or 0.0), " ")
        text = f"Tasks of {_named([one.type for one in late])} are overdue by up to {by}."
        yield Concern("fault", "Scheduled tasks are late", text, "", "/schedule")


def _behind(seen: Seen) -> Iterator[Concern]:
    served = served_types(seen.workers or ())
    slow = [
        one for one in seen.stats
        if one.type in served and one.type not in seen.paused and (one.oldest_ready_age or 0) > BEHIND
    ]  # fmt: skip
    if slow:
        worst = max(slow, key=lambda one: one.oldest_ready_age or 0)
        text = f"The oldest ready task of {worst.type} has waited for {age(worst.oldest_ready_age, ' ')}."
        yield Concern("warning", "Workers do not keep up", text, "", "/?sort=-oldest")


def _paused(seen: Seen) -> Iterator[Concern]:
    ready = {one.type: one.ready for one in seen.stats}
    for name, one in sorted(seen.paused.items()):
        waiting = f" {ready[name]:,} wait." if ready.get(name) else ""
        why = f"{one.reason.rstrip('.')}." if one.reason else "No reason was given."
        yield Concern("warning", f"{name} is paused by {one.by}", why + waiting, "", f"/types/{name}")


def _paused_lanes(seen: Seen) -> Iterator[Concern]:
    """Those that dead letters halt are told by the doctor."""
    parked = {one.type: one.parked for one in seen.stats}
    for one in seen.lanes:
        if one.paused:
            what = "A lane" if one.paused == 1 else f"{one.paused:,} lanes"
            title = f"{what} of {one.type} {'is' if one.paused == 1 else 'are'} paused"
            text = f"{parked.get(one.type, 0):,} tasks wait in all lanes of the type."
            yield Concern("warning", title, text, "", f"/types/{quote(one.type, safe='')}/lanes")


def _doctor(seen: Seen) -> Iterator[Concern]:
    """What the doctor finds besides: it judges the queue too, but up to a minute ago."""
    own = {"daemon", *(f"{what} of {seen.app}" for what in ("workers", "deliveries", "schedule"))}
    for one in seen.findings:
        if one.status in ("fault", "warning") and one.name not in own:
            level: Literal["fault", "warning"] = "fault" if one.status == "fault" else "warning"
            what, _, of = one.name.partition(" of ")
            path = _PLACES.get(what, "/server").format(quote(of, safe=""))
            title = what if of == seen.app else one.name
            yield Concern(level, title[:1].upper() + title[1:], f"{one.finding}.", one.fix, path)


def _named(names: Sequence[str]) -> str:
    """Return a few names, and how many more there are."""
    more = len(names) - NAMED
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {more} more" if more > 0 else shown

"""Show what is ready, running, scheduled and dead, by task type, and what has been counted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter

from streamq.cli import target
from streamq.cli.layout import Table, fitted
from streamq.cli.output import columns, write_json, write_message, write_note, write_table
from streamq.control.action_log import Pause
from streamq.control.formatting import age, moment
from streamq.control.inspector import Inspector
from streamq.control.overview import TypeStats
from streamq.control.partial_outage import PartialView, unless_unreachable
from streamq.control.standstill import Standstill
from streamq.doctor.queue import NO_DAEMON, OVERDUE
from streamq.exit_codes import OK
from streamq.shards import AppRecord

_COUNTED = ("accepted", "completed", "retried", "dead", "reclaimed", "cancelled", "expired")
_DROPPED = ("expired", "cancelled", "reclaimed", "retried", "dead", "accepted", "completed")
"""The counters that a narrow terminal does without, in this order; --json has all."""


def arguments(parser: argparse.ArgumentParser) -> None:
    target.types_option(parser, "only these task types (all)")
    parser.add_argument("--all", action="store_true", help="all, however many there are")
    target.options(parser)


_Look = tuple[list[TypeStats], int, dict[str, Pause], int | None, Standstill, list[str]]


def run(args: argparse.Namespace) -> int:
    found = target.find(args, partly=True)
    wanted = target.types(args)

    def look(inspector: Inspector) -> _Look:
        types, more = inspector.glance(sys.maxsize) if wanted or args.all else inspector.glance()
        types = sorted(target.among(types, found.app, wanted)) if wanted else types
        stats, paused = inspector.stats(types), inspector.paused()
        still = inspector.standstill(stats)
        return stats, more, paused, unless_unreachable(inspector.daemons_alive), still, inspector.faults

    (stats, more, paused, daemons, still, unread), missing = PartialView(lambda: found.inspector).look(look)
    if wanted:
        paused = {name: one for name, one in paused.items() if name in wanted}
    faults = list(dict.fromkeys([*(one.fault for one in stats if one.fault), *unread]))
    if args.json:
        record = found.record or AppRecord()
        shards = {"shards": record.shards, "known_shards": record.known}
        types = [{**asdict(one), "paused": _pause_object(paused.get(one.type))} for one in stats]
        write_json(
            {
                "app": found.app,
                **shards,
                "missing_shards": list(missing),
                "daemons": daemons,
                "types": types,
                "more_types": more,
                "standstill": asdict(still),
                "faults": faults,
            }
        )
        return OK
    _write(found.app, stats, more, faults)
    if missing:
        write_message(f"{target.missing(missing)}")
    _write_notes(stats, paused, daemons, still)
    return OK


def _write(app: str, stats: Sequence[TypeStats], more: int, faults: Sequence[str]) -> None:
    """Print the table, how many types it leaves out, and what could not be read."""
    head = ["TYPE", "READY", "RUNNING", "SCHEDULED", "DEAD", "OLDEST", *(f"Σ {name}" for name in _COUNTED)]
    rows, none = [_row(one) for one in stats], f"app {app!r} has no task types yet"
    dropped = [f"Σ {name}" for name in _DROPPED]
    table = fitted(Table(head, rows), columns(sys.stdout), dropped) if rows else Table(head, rows)
    write_table(table.head, table.rows, empty=none)
    if more:
        write_message(target.more_types(more))
    target.report_faults(faults)


def _write_notes(
    stats: Sequence[TypeStats], paused: Mapping[str, Pause], daemons: int | None, still: Standstill
) -> None:
    """Print what is missing, late or stands still, and why tasks wait."""
    for line in (NO_DAEMON if daemons == 0 else "", _overdue(stats), *still.told()):
        if line:
            write_message(line)
    for line in (*map(_parked, filter(attrgetter("parked"), stats)), *map(describe_pause, paused.values())):
        write_note(line)


def _parked(one: TypeStats) -> str:
    parked = f"1 task of {one.type} is" if one.parked == 1 else f"{one.parked:,} tasks of {one.type} are"
    return f"{parked} parked: `streamq lanes {one.type}` shows why"


def _overdue(stats: Sequence[TypeStats]) -> str:
    late = [one for one in stats if one.next_due_in is not None and one.next_due_in < -OVERDUE]
    if not late:
        return ""
    worst = min(late, key=lambda one: one.next_due_in or 0.0)
    return f"tasks of {worst.type} are overdue by {age(-(worst.next_due_in or 0.0))}"


def describe_pause(pause: Pause) -> str:
    """Return, for example, email is paused by ada since 2026-01-01T12:00:00Z: the relay is down."""
    why = f": {pause.reason}" if pause.reason else ""
    return f"{pause.type} is paused by {pause.by} since {moment(pause.since_ms)}{why}"


def _pause_object(pause: Pause | None) -> dict[str, object] | None:
    return None if pause is None else asdict(pause)


def _row(one: TypeStats) -> list[object]:
    counted = [one.counters.get(name, 0) for name in _COUNTED]
    if one.fault:  # in at least one shard: a partial count would be taken for the whole
        return [one.type, *["?"] * 5, *["?" for _ in counted]]
    return [one.type, one.ready, one.running, one.scheduled, one.dead, age(one.oldest_ready_age), *counted]

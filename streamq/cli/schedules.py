"""List recurring tasks and act on them: show, pause, resume, remove, run now, backfill.

`streamq schedules` alone lists, `streamq schedules NAME` shows one with its next five runs. Times are those
of the schedule's own zone. A schedule that code declares comes back when a worker starts: pause it instead of
removing it. `backfill` makes the runs of a time that is over; called again, only those that are missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

from streamq.cli import target
from streamq.cli.output import confirmed, write_json, write_lines, write_message, write_pairs, write_table
from streamq.control.formatting import age
from streamq.control.schedule_info import ScheduleInfo
from streamq.errors import InvalidOption, UsageError
from streamq.exit_codes import FAILED, NOT_FOUND, OK
from streamq.options.schedule import zone

_VERBS: Final = ("list", "show", "pause", "resume", "remove", "run-now", "backfill")
_ABOUT: Final = {
    "show": "one schedule with its next five runs",
    "pause": "make no more runs until it is resumed",
    "resume": "go on; the runs of the pause are not made",
    "remove": "delete a schedule; runs that exist go on",
    "run-now": "make a run at once, beside those that are due",
    "backfill": "make the runs of a time that is over",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="|".join(_VERBS))
    target.options(verbs.add_parser("list", help="all of them", description="List the schedules."))
    for verb, about in _ABOUT.items():
        one = verbs.add_parser(verb, help=about, description=f"{about.capitalize()}.")
        one.add_argument("name", metavar="SCHEDULE")
        if verb == "pause":
            one.add_argument("--reason", default="", help="the reason, shown wherever the pause is shown")
        if verb == "remove":
            one.add_argument("--yes", action="store_true", help="do not ask for confirmation")
        if verb == "backfill":
            for option, word in (("--from", "the first"), ("--to", "the end, which is left out")):
                one.add_argument(
                    option,
                    dest=option.strip("-") + "_",
                    required=True,
                    metavar="TIME",
                    help=f"{word}: 2027-01-31T09:00Z",
                )
        target.options(one)


def shorthand(args: list[str]) -> list[str]:
    """Complete `streamq schedules` to list, and `streamq schedules NAME` to show."""
    if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
        return ["list", *args]
    return args if args[0] in (*_VERBS, "-h", "--help") else ["show", *args]


def run(args: argparse.Namespace) -> int:
    if args.verb == "backfill":
        span = _moment(args.from_, "--from"), _moment(args.to_, "--to")
        return _backfill(target.find(args), args, *span)
    found = target.find(args)
    return {"list": _list, "show": _show, "remove": _remove}.get(args.verb, _act)(found, args)


def _list(found: target.Target, args: argparse.Namespace) -> int:
    schedules = found.schedules
    listed = schedules.all()
    target.report_faults(schedules.faults)
    if args.json:
        rows = [asdict(one) for one in listed]
        write_json({"app": found.app, "schedules": rows, "faults": schedules.faults})
        return OK
    head = ["SCHEDULE", "STATE", "TYPE", "WHEN", "ZONE", "NEXT", "LAST", "OUTCOME", "RUNS", "SKIPPED"]
    now = found.inspector.now_ms() if listed else 0
    empty = f"app {found.app!r} has no schedules{' that can be read' if schedules.faults else ''}"
    write_table(head, [_row(one, now) for one in listed], empty=empty)
    for one in listed:
        if one.fault:
            write_message(f"schedule {one.name}: {one.fault}")
    return OK


def _row(one: ScheduleInfo, now_ms: int) -> list[object]:
    return [
        one.name, one.standing, one.type or "-", one.when or "-", one.tz if one.when else "-",
        _ahead(one.next_ms, now_ms), _ago(one.last_made_ms, now_ms), one.last_state or "-", one.runs,
        sum((one.skipped or {}).values()),
    ]  # fmt: skip


def _ahead(ms: int | None, now_ms: int) -> str:
    if ms is None:
        return "-"
    return f"in {age((ms - now_ms) / 1000)}" if ms >= now_ms else f"late by {age((now_ms - ms) / 1000)}"


def _ago(ms: int | None, now_ms: int) -> str:
    return "-" if ms is None else f"{age(max(0, now_ms - ms) / 1000)} ago"


def _show(found: target.Target, args: argparse.Namespace) -> int:
    one = found.schedules.get(args.name)
    if args.json:
        write_json({"app": found.app, **asdict(one)})
        return OK
    write_pairs([(name, value) for name, value in _pairs(one) if value not in ("", None)])
    return OK


def _pairs(one: ScheduleInfo) -> list[tuple[str, object]]:
    paused = f"by {one.paused_by} since {_at(one.paused_ms, one)}"
    return [
        ("schedule", one.name), ("state", one.standing), ("fault", one.fault),
        ("paused", f"{paused}: {one.paused_reason}".rstrip(": ") if one.paused_ms else ""),
        ("type", one.type), ("when", one.when), ("zone", one.tz if one.when else ""),
        ("from", "code" if one.origin == "code" else "a call"),
        ("misfire", one.misfire), ("overlap", one.overlap),
        ("jitter", age(one.jitter) if one.jitter else ""), ("grace", age(one.grace)),
        ("starts", _at(one.start_ms, one)), ("ends", _at(one.end_ms, one)), ("left", one.left),
        *(("next", _at(ms, one)) for ms in one.upcoming),
        ("waiting", _at(one.waiting_ms, one)),
        ("last run", one.last_task), ("for", _at(one.last_for_ms, one)), ("outcome", one.last_state),
        ("late by", age(one.last_late) if one.last_late is not None else ""),
        ("runs", one.runs), ("skipped", _counts(one.skipped or {})),
    ]  # fmt: skip


def _counts(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {reason}" for reason, number in sorted(skipped.items()))


def _at(ms: int | None, one: ScheduleInfo) -> str:
    """A moment in the zone of a schedule."""
    if ms is None:
        return ""
    try:
        return datetime.fromtimestamp(ms / 1000, zone(one.tz)).strftime("%Y-%m-%d %H:%M:%S %Z")
    except (OverflowError, ValueError, OSError, InvalidOption):
        return str(ms)


def _act(found: target.Target, args: argparse.Namespace) -> int:
    name, schedules = args.name, found.schedules.acting_for("")
    match args.verb:
        case "pause":
            done = schedules.pause(name, args.reason)
            said = f"paused {name}" if done else f"{name} was paused already"
        case "resume":
            done = schedules.resume(name)
            said = f"resumed {name}" if done else f"{name} was not paused"
        case _:
            task = schedules.run_now(name)
            return _said(args, {"app": found.app, "schedule": name, "task": task}, task)
    return _said(args, {"app": found.app, "schedule": name, "changed": done}, said)


def _backfill(found: target.Target, args: argparse.Namespace, start: datetime, end: datetime) -> int:
    made = found.schedules.acting_for("").backfill(args.name, start, end)
    said = {"app": found.app, "schedule": args.name, "made": made}
    return _said(args, said, f"{made:,} new runs")


def _remove(found: target.Target, args: argparse.Namespace) -> int:
    if not confirmed(f"Remove schedule {args.name}?", yes=args.yes):
        return FAILED
    done = found.schedules.acting_for("").remove(args.name)
    said = f"removed {args.name}" if done else f"there is no schedule {args.name}"
    _said(args, {"app": found.app, "schedule": args.name, "changed": done}, said)
    return OK if done else NOT_FOUND


def _said(args: argparse.Namespace, told: Mapping[str, object], text: str) -> int:
    if args.json:
        write_json(told)
    else:
        write_lines(text)
    return OK


def _moment(text: str, option: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text[:80]!r} is not a time: write 2027-01-31T09:00Z") from None
    if found.tzinfo is None:
        raise UsageError(f"{option} {text[:80]!r} has no time zone: write 2027-01-31T09:00Z")
    return found.astimezone(UTC)

"""List the lanes of a task type with what waits in each and why; pause, resume, limit or purge one lane.

A lane is all tasks of the type with the same value of an argument. Exit code 3 if the type is unknown.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from streamq.cli import target
from streamq.cli.output import confirmed, write_json, write_lines, write_message, write_table
from streamq.control.formatting import age
from streamq.errors import UsageError
from streamq.exit_codes import FAILED, OK
from streamq.options.names import check_name

if TYPE_CHECKING:
    from streamq.control.lanes import LaneInfo

_ACTIONS = ("pause", "resume", "limit", "purge")
_DONE: Final = {"pause": "paused", "resume": "resumed", "limit": "limited"}
_NONE = "(none)"
"""How the lane of tasks that name none is shown."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", metavar="TYPE", help="the task type")
    parser.add_argument("action", nargs="?", choices=_ACTIONS, help="what to do with --lane; nothing: list")
    parser.add_argument("--lane", help="one lane; '' is that of tasks that name none")
    parser.add_argument("--running", type=int, metavar="NUMBER", help="limit: the most that run at once")
    parser.add_argument("--rate", help="limit: starts in a time, as 5/s")
    parser.add_argument(
        "--burst", type=int, metavar="NUMBER", help="limit: as many of these may come at once"
    )
    parser.add_argument("--weight", type=float, metavar="NUMBER", help="limit: its share among lanes")
    parser.add_argument("--most", type=int, default=50, metavar="NUMBER", help="lanes to list (default 50)")
    parser.add_argument("--yes", action="store_true", help="purge: do not ask")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    check_name(args.type)
    [name] = target.known(found, [args.type])
    _check_limits(args, name)
    if args.action is None:
        return _list(args, found, name)
    if args.action != "limit" and args.lane is None:
        raise UsageError(f"name the lane: streamq lanes {name} {args.action} --lane LANE")
    return _act(args, found, name)


def _check_limits(args: argparse.Namespace, name: str) -> None:
    for option in ("running", "rate", "burst", "weight"):
        if args.action != "limit" and getattr(args, option) is not None:
            raise UsageError(f"--{option} sets a limit: streamq lanes {name} limit --{option} ...")


def _list(args: argparse.Namespace, found: target.Target, name: str) -> int:
    inspector = found.inspector
    lanes = inspector.lanes(name, args.lane)
    target.report_faults(inspector.faults)
    if args.json:
        write_json({"app": found.app, "type": name, "lanes": [asdict(one) for one in lanes[: args.most]]})
        return OK
    head = ["LANE", "WAITING", "HELD", "MOST", "OLDEST", "SHARE", "WAITS FOR"]
    write_table(head, [_row(one) for one in lanes[: args.most]], empty="no lane has tasks that wait")
    if len(lanes) > args.most:
        write_message(f"and {len(lanes) - args.most:,} more lanes: --most")
    return OK


def _row(one: LaneInfo) -> list[object]:
    return [
        one.lane or _NONE, one.parked, one.held, "-" if one.running is None else one.running,
        age(one.oldest_seconds), f"{one.share:.0%}", _why(one),
    ]  # fmt: skip


def _why(one: LaneInfo) -> str:
    if one.halted:
        return f"order (halted by {one.halted})"
    if one.held_seconds:
        return f"rate (held back for {age(one.held_seconds)})"
    return "limit (paused)" if one.running == 0 else one.why or "-"


def _act(args: argparse.Namespace, found: target.Target, name: str) -> int:
    lane: str | None = args.lane
    what = name if lane is None else f"lane {lane or _NONE} of {name}"
    if args.action == "purge" and not confirmed(f"Cancel all parked tasks of {what}?", yes=args.yes):
        return FAILED
    tasks = _change(args, found, name, lane)
    if args.json:
        write_json({"app": found.app, "type": name, "lane": lane, "done": args.action, "tasks": tasks})
        return OK
    write_lines(
        f"cancelled {tasks:,} tasks of {what}" if args.action == "purge" else f"{_DONE[args.action]} {what}"
    )
    return OK


def _change(args: argparse.Namespace, found: target.Target, name: str, lane: str | None) -> int | None:
    """Do what was asked; return how many tasks a purge cancelled."""
    admin = found.admin
    if args.action == "limit" or lane is None:
        admin.limit(
            name, lane=lane, running=args.running, rate=args.rate, burst=args.burst, weight=args.weight
        )
    elif args.action == "pause":
        admin.pause_lane(name, lane)
    elif args.action == "resume":
        admin.resume_lane(name, lane)
    else:
        return admin.purge_lane(name, lane)
    return None

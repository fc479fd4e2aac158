"""List, show, requeue, edit or purge dead letters, one by one or by fault.

`streamq dead` alone lists, `streamq dead ID` shows one. A group has the same exception at the same place in
your code. `requeue` and `purge` take ids, or filters, or --all. They print the number before they begin (with
--dry-run, only that), and `purge` asks for confirmation. Both work in bounded batches: after an interruption,
finished batches stay done and nothing is lost.
"""

from __future__ import annotations

import argparse
from typing import Any

from streamq.cli import dead_filters, target
from streamq.cli.dead_actions import edit, move
from streamq.cli.output import write_json, write_message, write_table
from streamq.cli.task import as_object, write_task
from streamq.control.dead_letters import DeadGroup
from streamq.control.formatting import age, moment
from streamq.control.task_list import MOST_ROWS
from streamq.control.task_rows import TaskFilter, TaskRow
from streamq.exit_codes import NOT_FOUND, OK
from streamq.options.checks import whole


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="groups|list|show|requeue|edit|purge")
    _reading(verbs)
    for verb, about in (("requeue", "back to the stream, with fresh attempts"), ("purge", "delete for good")):
        one = verbs.add_parser(verb, help=about, description=f"{verb.capitalize()} dead letters: {about}.")
        one.add_argument("id", nargs="*", metavar="ID", help="by id")
        dead_filters.options(one)
        one.add_argument("--all", action="store_true", help="all, or with filters all that match")
        one.add_argument("--dry-run", action="store_true", help="only print how many")
        one.add_argument("--yes", action="store_true", help="do not ask for confirmation")
        if verb == "requeue":
            one.add_argument(
                "--force", action="store_true", help="with ids: also if another task holds the unique key"
            )
            one.add_argument(
                "--fresh", action="store_true", help="from the beginning, without what their steps stored"
            )
        target.options(one)
    about = "requeue one with another payload, as a new task"
    one = verbs.add_parser("edit", help=about, description=f"{about.capitalize()}. {edit.__doc__}")
    one.add_argument("id", metavar="ID")
    one.add_argument(
        "payload", nargs="?", metavar="JSON", help="the arguments by name, or - for standard input"
    )
    target.options(one)


def shorthand(args: list[str]) -> list[str]:
    """Complete `streamq dead` to list, and `streamq dead ID` to show."""
    if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
        return ["list", *args]
    return ["show", *args] if target.is_task_id(args[0]) else args


def _reading(verbs: Any) -> None:
    one = verbs.add_parser("groups", help="by fault, most first", description="List the groups, most first.")
    one.add_argument("only", nargs="?", metavar="TYPE", help="only this task type, as --type")
    dead_filters.options(one)
    target.options(one)
    one = verbs.add_parser("list", help="one by one", description="List dead letters, newest first.")
    one.add_argument("only", nargs="?", metavar="TYPE", help="only this task type, as --type")
    dead_filters.options(one)
    one.add_argument("--limit", type=int, default=50, help="the most to list (50)")
    target.options(one)
    one = verbs.add_parser(
        "show", help="payload and every attempt's error", description="Show a dead letter."
    )
    one.add_argument("id", metavar="ID")
    target.options(one)


def run(args: argparse.Namespace) -> int:
    if args.verb in ("list", "groups"):
        args.type = target.one_type(args)
    if args.verb in ("groups", "list", "requeue", "purge"):
        dead_filters.check(args)
    found = target.find(args)
    match args.verb:
        case "groups":
            return _groups(found, args)
        case "list":
            return _list(found, args)
        case "show":
            return _show(found, args)
        case "edit":
            return edit(found, args)
        case _:
            return move(found, args)


def _groups(found: target.Target, args: argparse.Namespace) -> int:
    groups, complete = dead_filters.groups(found, args)
    if args.json:
        shown = [_group_object(group) for group in groups]
        write_json({"app": found.app, "groups": shown, "complete": complete})
        return OK
    now_ms = found.inspector.now_ms() if groups else 0
    head = ["GROUP", "TYPE", "COUNT", "LAST", "FIRST", "ERROR", "PLACE"]
    write_table(head, [_group_row(group, now_ms) for group in groups], empty="no dead letters")
    if not complete:
        dead_filters.report_incomplete()
    return OK


def _group_object(group: DeadGroup) -> dict[str, object]:
    return {
        "group": group.fingerprint, "type": group.type, "count": group.count, "error": group.error,
        "message": group.message, "place": group.place, "reason": group.reason, "first_ms": group.first_ms,
        "last_ms": group.last_ms, "sample": group.sample, "per_hour": list(group.per_hour),
    }  # fmt: skip


def _group_row(group: DeadGroup, now_ms: int) -> list[object]:
    last, first = (f"{age(max(0, now_ms - ms) / 1000)} ago" for ms in (group.last_ms, group.first_ms))
    error = f"{group.error}: {group.message}" if group.message else group.error
    short = error.replace("\n", " ")[:80]
    return [group.fingerprint, group.type, group.count, last, first, short, group.place or "-"]


def _list(found: target.Target, args: argparse.Namespace) -> int:
    limit = whole(args.limit, "--limit", least=1)
    rows = sorted(_rows(found, args, limit), key=lambda row: -row.at_ms)[:limit]
    if args.json:
        write_json({"app": found.app, "dead": [_object(row) for row in rows]})
        return OK
    head = ["ID", "GROUP", "REASON", "DIED", "ATTEMPTS", "LAST ERROR"]
    write_table(head, [_row(row) for row in rows], empty="no dead letters")
    return OK


def _rows(found: target.Target, args: argparse.Namespace, limit: int) -> list[TaskRow]:
    """Return the dead letters that `requeue` would select."""
    span = target.span(args)
    chosen = {one.type: one for one in dead_filters.selections(found, args)}
    filters = [(name, one.fingerprint) for name, one in chosen.items()]
    if args.error:
        filters = [(group.type, group.fingerprint) for group in dead_filters.groups(found, args)[0]]
    rows = list[TaskRow]()
    for name, fingerprint in filters:
        wanted = TaskFilter(older_than=span.older_than, newer_than=span.newer_than, fingerprint=fingerprint)
        rows += _pages(found, name, wanted, limit)
    return rows


def _pages(found: target.Target, name: str, wanted: TaskFilter, limit: int) -> list[TaskRow]:
    rows, cursor = list[TaskRow](), ""
    while len(rows) < limit:
        page = found.inspector.tasks(
            "dead", name, cursor=cursor, limit=min(limit - len(rows), MOST_ROWS), filter=wanted
        )
        if not cursor:
            target.report_faults(page.faults)
        rows += page.rows
        cursor = page.cursor
        if not cursor:
            break
    return rows


def _object(row: TaskRow) -> dict[str, object]:
    """Return a dead letter for JSON; `payload` is text, truncated to 600 bytes."""
    return {
        "id": row.id, "type": row.type, "group": row.fingerprint, "reason": row.reason, "died_ms": row.at_ms,
        "priority": row.priority, "payload": row.payload, "payload_size": row.payload_size,
        "attempts": row.attempts_failed, "last_error": row.last_error,
    }  # fmt: skip


def _row(row: TaskRow) -> list[object]:
    last = row.last_error or {}
    short = f"{last.get('error', '-')}: {last.get('message', '')}".replace("\n", " ")[:80]
    died = moment(row.at_ms)
    return [row.id, row.fingerprint or "-", row.reason, died, row.attempts_failed, short]


def _show(found: target.Target, args: argparse.Namespace) -> int:
    info = found.inspector.task(args.id)
    if info.state != "dead":
        write_message(f"task {args.id} is not a dead letter: it is {info.state}")
        return NOT_FOUND
    if args.json:
        write_json(as_object(info))
    else:
        write_task(info)
    return OK

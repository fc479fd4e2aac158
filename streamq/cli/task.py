"""Show one task by its id, or list the tasks in a state: `streamq task ID`, `streamq task STATE`.

A list is read in bounded steps: with a filter it may take a while on a long queue. Types come one after the
other. Ready, running and scheduled tasks come in the order in which they are run, shard by shard; dead,
cancelled and expired ones newest first over all shards, completed ones newest first over all types too.
`streamq cancel` and `streamq run-now` act on them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import Final

from streamq.app.app import StreamQ
from streamq.cli import target, task_signal
from streamq.cli.output import (
    write_indented,
    write_json,
    write_lines,
    write_message,
    write_over,
    write_pairs,
    write_table,
)
from streamq.client.task_event import TaskEvent
from streamq.control.formatting import age, bar, duration, moment
from streamq.control.task_info import TaskInfo
from streamq.control.task_list import MOST_ROWS
from streamq.control.task_rows import TaskFilter, TaskRow
from streamq.errors import UsageError
from streamq.exit_codes import NOT_FOUND, OK
from streamq.keys import SUCCESSOR_DUE_MS
from streamq.model.delivery import Success
from streamq.model.task import LETTER, STATES, SUSPECT
from streamq.options.checks import whole
from streamq.payloads.reading import shown
from streamq.stored import count

_LISTED: Final = [state for state in STATES if state != "unknown"]
_PRIORITIES: Final = {**{letter: name for name, letter in LETTER.items()}, SUSPECT: "alone, as a suspect"}


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="show|list|signal")
    one = verbs.add_parser("show", help="state, payload, errors, result", description="Show one task.")
    one.add_argument("id", metavar="ID", help="the task's id, as enqueue printed it")
    one.add_argument("--follow", action="store_true", help="then what its handler tells, until it has ended")
    target.options(one)
    one = verbs.add_parser("list", help="the tasks in a state", description="List the tasks in a state.")
    one.add_argument("state", nargs="?", metavar="STATE", choices=_LISTED, help=", ".join(_LISTED))
    target.type_option(one)
    one.add_argument("--error", default="", metavar="TEXT", help="in the last error or the reason")
    target.span_options(one, "the task came into its state (a scheduled one: until it is due)")
    one.add_argument("--limit", type=int, default=50, help="the most to list (50)")
    target.options(one)
    task_signal.arguments(verbs)


def shorthand(args: list[str]) -> list[str]:
    """Complete `streamq task ID` to show, and `streamq task STATE` to list."""
    if args and target.is_task_id(args[0]):
        return ["show", *args]
    return ["list", *args] if not args or args[0] in _LISTED else args


def run(args: argparse.Namespace) -> int:
    if args.verb == "signal":
        return task_signal.run(args)
    if args.verb == "list":
        if args.state is None:
            raise UsageError(f"task list: the state is missing: use {', '.join(_LISTED)}")
        args.type = target.one_type(args)
    found = target.find(args)
    if args.verb == "list":
        return _list(found, args)
    shown_ = _show(found, args)
    return _follow(found, args) if args.follow and shown_ == OK else shown_


def _list(found: target.Target, args: argparse.Namespace) -> int:
    if args.type:
        target.known(found, [args.type])
    span = target.span(args)
    wanted = TaskFilter(error=args.error, older_than=span.older_than, newer_than=span.newer_than)
    inspector = found.inspector
    rows, cursor, left = list[TaskRow](), "", whole(args.limit, "--limit", least=1)
    while left:
        page = inspector.tasks(
            args.state, args.type, cursor=cursor, limit=min(left, MOST_ROWS), filter=wanted
        )
        rows += page.rows
        cursor, left = page.cursor, left - len(page.rows)
        if not cursor:
            break
    now_ms = inspector.now_ms()
    target.report_faults(inspector.faults)
    if args.json:
        write_json({"app": found.app, "state": args.state, "tasks": [_row_object(row) for row in rows]})
        return OK
    when = "DUE IN" if args.state == "scheduled" else "AGE"
    last = "RESULT" if args.state == "completed" else "PAYLOAD"
    head = ["ID", "PRIORITY", when, "FAILED", "WORKER", last]
    write_table(head, [_row(row, now_ms) for row in rows], empty=f"no {args.state} tasks")
    return OK


def _row(row: TaskRow, now_ms: int) -> list[object]:
    since = max(0, row.at_ms - now_ms if row.state == "scheduled" else now_ms - row.at_ms) / 1000
    last = row.result if row.state == "completed" else row.payload
    when = "after another" if row.at_ms == SUCCESSOR_DUE_MS else age(since)
    return [row.id, row.priority, when, row.attempts_failed, row.worker or "-", shown(last, 60)]


def _row_object(row: TaskRow) -> dict[str, object]:
    """Return a task for JSON. `payload` and `result` are text: the first 600 bytes of `payload_size`."""
    return {
        "id": row.id, "type": row.type, "state": row.state, "priority": row.priority, "at_ms": row.at_ms,
        "attempts_failed": row.attempts_failed, "lost": row.lost, "worker": row.worker or None,
        "reason": row.reason or None, "payload": shown(row.payload) if row.payload is not None else None,
        "payload_size": row.payload_size, "last_error": row.last_error,
        "result": shown(row.result, 600) if row.result is not None else None,
    }  # fmt: skip


def _show(found: target.Target, args: argparse.Namespace) -> int:
    info = found.inspector.task(args.id)
    if args.json:
        write_json(as_object(info))
    elif info.state != "unknown":
        write_task(info)
    if info.state == "unknown":
        write_message(f"unknown task {args.id}: it never existed, or its retention is over")
        return NOT_FOUND
    return OK


def _follow(found: target.Target, args: argparse.Namespace) -> int:
    """Write what the task tells, an event a line, and its end."""
    shards = found.record.shards if found.record else 1
    app = StreamQ(
        found.app, found.url, shards=shards, patience=target.PATIENCE, prefix=found.transport.address.prefix
    )
    try:
        for event in app.handle(args.id).events():
            if args.json:
                write_json(asdict(event))
            else:
                write_event(event)
    finally:
        write_over("")
        app.close()
    return OK


def write_event(event: TaskEvent) -> None:
    """Write an event of a task for people."""
    text = progress_text(event) if event.kind == "progress" else f"{event.value}"
    if event.kind == "log":
        text = f"{event.level:<7}  {event.logger}: {event.text}"
    attempt = f"attempt {event.attempt}  " if event.attempt else ""
    line = f"{attempt}{event.kind}  {text}"
    if event.kind == "progress" and sys.stdout.isatty():
        write_over(line)  # a bar that grows in its place
        return
    write_over("")
    write_lines(line)


def progress_text(event: TaskEvent) -> str:
    """Return how far a task is, as in `[##########..........] 30 of 60 (50 %) resizing`."""
    drawn = bar(event.done, event.total)
    of = "" if event.total is None else f" of {event.total:g}"
    share = f" ({event.done / event.total:.0%})" if event.total else ""
    return f"{drawn}{' ' if drawn else ''}{event.done:g}{of}{share}{' ' if event.text else ''}{event.text}"


def as_object(info: TaskInfo) -> dict[str, object]:
    """Return a task for JSON."""
    return {
        "id": info.id, "type": info.type, "state": info.state, "payload": info.payload,
        "attempts_failed": info.attempts_failed, "lost": info.lost, "failures": info.failures,
        "detail": info.detail, "result": _result(info),
        "success": info.success._asdict() if info.success else None,
        "progress": asdict(info.progress) if info.progress else None,
        "suspended": info.suspended._asdict() if info.suspended else None,
        "memos": info.memos, "mailbox": info.mailbox,
        "flows": [{"id": one.id, "state": one.state} for one in info.flows],
    }  # fmt: skip


def _result(info: TaskInfo) -> bytes | None:
    # A result of None is stored as an empty string.
    return (info.result or b"null") if info.result is not None else None


def write_task(info: TaskInfo) -> None:
    """Write a task for people."""
    pairs: list[tuple[str, object]] = [("id", info.id), ("type", info.type), ("state", info.state)]
    pairs += [_detail(name, value, info.lost) for name, value in info.detail.items() if name != "entry"]
    if info.payload is not None:
        pairs += [
            ("payload", shown(info.payload)),
            ("failed attempts", info.attempts_failed),
            ("deliveries lost", info.lost),
        ]
    pairs += [("suspended", suspension_text(info))] if info.suspended else []
    pairs += [("runs flow", f"{one.id} ({one.state})") for one in info.flows]
    pairs += [(f"memo {name!r}", shown(memo, 200)) for name, memo in info.memos.items()]
    pairs += [(f"signal {name!r}", f"{number} not taken") for name, number in info.mailbox.items()]
    if info.progress is not None:
        pairs.append(("progress", progress_text(info.progress)))
    if info.result is not None:
        pairs.append(("result", shown(_result(info))))
    elif info.state == "completed":
        pairs.append(("result", "not kept"))
    write_pairs(pairs)
    for failure in info.failures:
        _write_failure(failure)
    if info.failures:
        write_lines("")
    if info.success:
        write_lines("", _success(info.success))


def suspension_text(info: TaskInfo) -> str:
    """Return what a task waits for, as in `waits for the signal 'approved' until 2026-01-02 03:04:05`."""
    found = info.suspended
    if found is None:
        return ""
    return found.words if found.until_ms is None else f"{found.words} until {moment(found.until_ms)}"


def _success(one: Success) -> str:
    head = f"attempt {one.attempt} completed at {moment(one.at_ms)} on {one.worker}"
    return f"{head}, {_spent(one.wait_ms, one.run_ms)}"


def _spent(wait_ms: int, run_ms: int) -> str:
    return f"waited {duration(wait_ms / 1000)}, ran {duration(run_ms / 1000)}"


def _write_failure(failure: dict[str, object]) -> None:
    when = failure.get("at_ms")
    at = moment(when) if isinstance(when, int) else "?"
    head = f"attempt {failure.get('attempt')} at {at} on {failure.get('worker')}"
    wait_ms, run_ms = failure.get("wait_ms"), failure.get("run_ms")
    if isinstance(wait_ms, int) and isinstance(run_ms, int):
        head += f", {_spent(wait_ms, run_ms)}"
    error = failure.get("class") or failure.get("error")
    write_lines("", f"{head}: {error}: {failure.get('message')}")
    write_indented(str(failure.get("traceback")))


def _detail(name: str, value: str, lost: int) -> tuple[str, object]:
    """Return the name and value of a detail for people."""
    if name == "stream" and value == SUSPECT and not lost:
        return "priority", "before all others: it was handed back"
    if name == "stream":
        return "priority", _PRIORITIES.get(value, value)
    if name == "lease_idle_ms" and value.isdigit():
        return "lease renewed", f"{age(count(value) / 1000)} ago"
    words = name.removesuffix("_ms").replace("_", " ")
    dated = name.endswith("_ms") and value.isascii() and value.isdigit()
    return words, moment(count(value)) if dated else value

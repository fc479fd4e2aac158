"""Show or cancel one task by its id."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from streamq.cli import FAILED, NOT_FOUND, OK, target
from streamq.cli.output import clean, moment, shown, write_json, write_pairs
from streamq.inspector import TaskInfo


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="show|cancel")
    for verb, about in (
        ("show", "state, payload, errors, result"),
        ("cancel", "end a task that has not ended"),
    ):
        one = verbs.add_parser(verb, help=about, description=about)
        one.add_argument("id", help="the task's id, as enqueue printed it")
        target.options(one)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    return _show(found, args) if args.verb == "show" else _cancel(found, args)


def _show(found: target.Target, args: argparse.Namespace) -> int:
    info = found.inspector.task(args.id)
    if args.json:
        write_json(as_object(info))
    elif info.state != "unknown":
        write_task(info)
    if info.state == "unknown":
        sys.stderr.write(f"streamq: there is no task {args.id}, or it ended longer ago than its retention\n")
        return NOT_FOUND
    return OK


def as_object(info: TaskInfo) -> dict[str, Any]:
    """A task as JSON shows it."""
    return {
        "id": info.id, "type": info.type, "state": info.state, "payload": info.payload,
        "attempts_failed": info.attempts_failed, "lost": info.lost, "failures": info.failures,
        "detail": info.detail, "result": _result(info),
    }  # fmt: skip


def _result(info: TaskInfo) -> bytes | None:
    # A result that is None is stored as nothing at all.
    return (info.result or b"null") if info.result is not None else None


def write_task(info: TaskInfo) -> None:
    """A task for people."""
    pairs: list[tuple[str, object]] = [("id", info.id), ("type", info.type), ("state", info.state)]
    pairs += [(name, _detail(name, value)) for name, value in info.detail.items()]
    if info.payload is not None:
        pairs += [
            ("payload", shown(info.payload)),
            ("failed attempts", info.attempts_failed),
            ("lost", info.lost),
        ]
    if info.result is not None:
        pairs.append(("result", shown(_result(info))))
    write_pairs(pairs)
    for failure in info.failures:
        sys.stdout.write(clean(_failure(failure)))
    if info.failures:
        sys.stdout.write("\n")


def _failure(failure: dict[str, Any]) -> str:
    when = failure.get("at_ms")
    at = moment(when) if isinstance(when, int) else "?"
    head = f"attempt {failure.get('attempt')} at {at} on {failure.get('worker')}"
    return f"\n{head}: {failure.get('error')}: {failure.get('message')}\n{failure.get('traceback')}"


def _detail(name: str, value: str) -> str:
    return moment(int(value)) if name in ("due_ms", "died_ms", "ended_ms") and value.isdigit() else value


def _cancel(found: target.Target, args: argparse.Namespace) -> int:
    answer = found.admin.cancel(args.id)
    state = found.inspector.task(args.id).state
    if args.json:
        write_json({"id": args.id, "answer": answer, "state": state})
    if answer in ("cancelled", "requested"):
        if not args.json:
            sys.stdout.write("cancelled\n" if answer == "cancelled" else "its worker was asked to stop it\n")
        return OK
    if state == "unknown":
        sys.stderr.write(f"streamq: there is no task {args.id}\n")
        return NOT_FOUND
    sys.stderr.write(f"streamq: too late: task {args.id} is {state}\n")
    return FAILED

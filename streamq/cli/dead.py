"""List, show, requeue or purge dead letters.

`requeue` and `purge` work in bounded batches: when they are interrupted, what is done is done and
nothing is lost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from streamq import codec
from streamq.app import check_name
from streamq.cli import FAILED, NOT_FOUND, OK, target
from streamq.cli.output import Progress, confirmed, moment, write_json, write_table
from streamq.cli.task import as_object, write_task
from streamq.errors import UsageError
from streamq.model import DeadLetter


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|show|requeue|purge")
    one = verbs.add_parser("list", help="newest first")
    one.add_argument("type", nargs="?", help="only this task type")
    one.add_argument("--limit", type=int, default=50, help="the most to list (default 50)")
    target.options(one)
    one = verbs.add_parser("show", help="payload and every attempt's error")
    one.add_argument("id")
    target.options(one)
    for verb, about in (("requeue", "back to the stream, with fresh attempts"), ("purge", "delete for good")):
        one = verbs.add_parser(verb, help=about, description=about)
        one.add_argument("id", nargs="*", help="by id")
        one.add_argument("--type", help="all of a task type")
        one.add_argument("--all", action="store_true", help="all of the app")
        one.add_argument("--yes", action="store_true", help="do not ask")
        target.options(one)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    if getattr(args, "type", None):
        check_name(args.type)
    if args.verb == "list":
        return _list(found, args)
    if args.verb == "show":
        return _show(found, args)
    return _move(found, args)


def _list(found: target.Target, args: argparse.Namespace) -> int:
    types = [args.type] if args.type else found.inspector.types()
    letters: list[DeadLetter] = []
    for name in types:
        if len(letters) < args.limit:
            letters += found.inspector.dead(name, limit=args.limit - len(letters))
    if args.json:
        write_json({"app": found.app, "dead": [_object(letter) for letter in letters]})
        return OK
    rows = [
        [str(o["id"]), o["reason"], moment(o["died_ms"]), o["attempts"], _short(o)]
        for o in map(_object, letters)
    ]
    write_table(["ID", "REASON", "DIED", "ERRORS", "LAST ERROR"], rows, empty="no dead letters")
    return OK


def _object(letter: DeadLetter) -> dict[str, Any]:
    have = codec.fields_dict(letter.fields)
    failures = codec.failures(have.get("f", b""))
    return {
        "id": str(letter.id), "type": letter.id.type, "reason": letter.reason, "died_ms": letter.died_ms,
        "priority": letter.priority, "payload": have.get("p"), "attempts": len(failures),
        "last_error": failures[-1] if failures else None,
    }  # fmt: skip


def _short(letter: dict[str, Any]) -> str:
    last = letter["last_error"] or {}
    return f"{last.get('error', '-')}: {last.get('message', '')}".replace("\n", " ")[:80]


def _show(found: target.Target, args: argparse.Namespace) -> int:
    info = found.inspector.task(args.id)
    if info.state != "dead":
        sys.stderr.write(f"streamq: task {args.id} is no dead letter, it is {info.state}\n")
        return NOT_FOUND
    if args.json:
        write_json(as_object(info))
    else:
        write_task(info)
    return OK


def _move(found: target.Target, args: argparse.Namespace) -> int:
    if bool(args.id) + bool(args.type) + args.all != 1:
        raise UsageError(f"dead {args.verb}: say which: ids, --type TYPE or --all")
    total = len(args.id) or sum(found.inspector.type_stats(name).dead for name in _types(found, args))
    if args.verb == "purge" and not confirmed(f"Delete {total} dead letters for good?", yes=args.yes):
        return FAILED
    done = 0
    with Progress(args.verb, total) as progress, suppress(KeyboardInterrupt):
        for moved in _steps(found, args):
            done += moved
            progress.add(moved)
    past = {"requeue": "requeued", "purge": "purged"}[args.verb]
    if args.json:
        write_json({past: done, "asked": total})
    else:
        sys.stdout.write(f"{past} {done} of {total}\n")
    return OK if done >= total else (NOT_FOUND if args.id else FAILED)


def _types(found: target.Target, args: argparse.Namespace) -> list[str]:
    return [args.type] if args.type else found.inspector.types()


def _steps(found: target.Target, args: argparse.Namespace) -> Iterator[int]:
    admin = found.admin
    if args.id:
        yield admin.requeue(args.id) if args.verb == "requeue" else admin.purge(args.id)
        return
    for name in _types(found, args):
        yield from admin.requeue_type(name) if args.verb == "requeue" else admin.purge_type(name)

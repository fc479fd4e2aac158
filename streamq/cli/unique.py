"""List the locks of a task type's unique keys: the holder of each, its state, and the task that follows it.

With KEY shows one lock; exit code 3 if no task holds it. `streamq unlock` frees one whose task no longer
exists.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from streamq.cli import target
from streamq.cli.output import write_json, write_message, write_pairs, write_table
from streamq.control.formatting import age
from streamq.exit_codes import NOT_FOUND, OK
from streamq.options.checks import whole


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", metavar="TYPE", help="the task type")
    parser.add_argument("key", metavar="KEY", nargs="?", help="one key: its digest, or its text")
    parser.add_argument("--limit", type=int, default=50, help="how many to list (default: 50)")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    limit, found = whole(args.limit, "--limit", least=1), target.find(args)
    target.known(found, [args.type])
    return _list(found, args, limit) if args.key is None else _show(found, args)


def _list(found: target.Target, args: argparse.Namespace, limit: int) -> int:
    inspector = found.inspector
    locks = inspector.locks(args.type, limit=limit)
    target.report_faults(inspector.faults)
    if args.json:
        write_json({"app": found.app, "type": args.type, "locks": [asdict(one) for one in locks]})
        return OK
    now = inspector.now_ms() if locks else 0
    rows = [[one.key, one.holder, one.state, _held(one.since_ms, now), one.follows or "-"] for one in locks]
    write_table(["KEY", "HOLDER", "STATE", "HELD", "THEN"], rows, empty="no unique key is held")
    return OK


def _show(found: target.Target, args: argparse.Namespace) -> int:
    one = found.inspector.lock(args.type, args.key)
    if args.json:
        told = None if one is None else asdict(one)
        write_json({"app": found.app, "type": args.type, "lock": told})
    if one is None:
        write_message(f"no task holds the key {args.key[:64]!r} of {args.type}")
        return NOT_FOUND
    if not args.json:
        pairs: list[tuple[str, object]] = [
            ("key", one.key), ("type", one.type), ("holder", one.holder), ("state", one.state),
            ("held for", _held(one.since_ms, found.inspector.now_ms())), ("then", one.follows or "-"),
        ]  # fmt: skip
        write_pairs(pairs)
    return OK


def _held(since_ms: int, now_ms: int) -> str:
    return age(max(0, now_ms - since_ms) / 1000) if since_ms else "-"

"""Free the lock of a unique key whose task no longer exists; with --force also if the task lives.

With --force the next task of the key may run beside the one that held it. The task that followed the holder
becomes ready. Exit code 3 if no task holds the key, 1 if its task lives.
"""

from __future__ import annotations

import argparse

from streamq.cli import target
from streamq.cli.output import write_json, write_lines, write_message
from streamq.exit_codes import FAILED, NOT_FOUND, OK


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", metavar="TYPE", help="the task type")
    parser.add_argument("key", metavar="KEY", help="its digest (see `streamq unique TYPE`), or its text")
    parser.add_argument("--force", action="store_true", help="also if the task that holds it lives")
    parser.add_argument("--reason", default="", help="the reason, for the log of actions")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    target.known(found, [args.type])
    answer = found.admin.unlock(args.type, args.key, force=args.force, reason=args.reason)
    if args.json:
        write_json({"app": found.app, "type": args.type, "key": args.key, **answer._asdict()})
    if answer.result == "held":
        write_message(
            f"task {answer.holder} holds this key and lives: it frees the key when it ends. --force frees it "
            "now, and both may run"
        )
        return FAILED
    if answer.result == "free":
        write_message(
            f"no task holds the key {args.key[:64]!r} of {args.type}: `streamq unique TYPE` lists the keys"
        )
        return NOT_FOUND
    if not args.json:
        write_lines(f"freed {args.key}, which {answer.holder} held")
    return OK

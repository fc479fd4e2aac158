"""Forget task types that nobody uses any more: their names, policies, counters and history.

Refused while a worker serves one, and while tasks or dead letters of it are there; while results are kept,
unless --results says that they are to go. A type that is enqueued again is there again, with counters from 0.
"""

from __future__ import annotations

import argparse

from streamq.cli import target
from streamq.cli.output import confirmed, say, write_json
from streamq.cli.pause import named
from streamq.exit_codes import FAILED, OK


def arguments(parser: argparse.ArgumentParser) -> None:
    target.types_option(parser, "the task types")
    parser.add_argument("--results", action="store_true", help="also where results are kept: these go too")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    types, found = named(args), target.find(args)
    names = target.known(found, types)
    if not confirmed(f"Forget {', '.join(names)} for good?", yes=args.yes):
        return FAILED
    for name in names:
        found.admin.forget(name, results=args.results)
        if not args.json:
            say(f"forgot {name}")
    if args.json:
        write_json({"app": found.app, "forgotten": names})
    return OK

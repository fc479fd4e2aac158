"""Remove task types that are no longer used: their names, policies, counters and history.

Refused while a worker serves a type, or it has tasks, dead letters or kept results; --results deletes the
results. If the type is enqueued again, it exists again, with counters from 0.
"""

from __future__ import annotations

import argparse

from streamq.cli import target
from streamq.cli.output import confirmed, write_json, write_lines
from streamq.exit_codes import FAILED, OK


def arguments(parser: argparse.ArgumentParser) -> None:
    target.types_option(parser, "the task types")
    parser.add_argument("--results", action="store_true", help="delete kept results too")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    types, found = target.some_types(args), target.find(args)
    names = target.known(found, types)
    return forget(args, found, names, question="Forget", said="forgot", key="forgotten")


def forget(
    args: argparse.Namespace, found: target.Target, names: list[str], *, question: str, said: str, key: str
) -> int:
    """Ask, forget the types, and tell each; return the exit code. key: of the names in the JSON."""
    if not confirmed(f"{question} {', '.join(names)} for good?", yes=args.yes):
        return FAILED
    for name in names:
        found.admin.forget(name, results=args.results)
        if not args.json:
            write_lines(f"{said} {name}")
    if args.json:
        write_json({"app": found.app, key: names})
    return OK

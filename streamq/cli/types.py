"""List task types with the versions of their arguments and what is left in each; retire a former name.

`retire NAME` is for an alias: it says what is left under the old name, or which worker still serves it, and
removes the name when there is nothing left. Take the alias out of the code first. Exit code 3 if the name
is unknown.
"""

from __future__ import annotations

import argparse

from streamq.cli import target
from streamq.cli.forget import forget
from streamq.cli.output import write_json, write_table
from streamq.errors import UsageError
from streamq.exit_codes import OK
from streamq.stored import count


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "retire"), default="list", help="what to do")
    target.types_option(parser, "the task types (list: default all)")
    parser.add_argument("--results", action="store_true", help="retire: delete kept results too")
    parser.add_argument("--yes", action="store_true", help="retire: do not ask for confirmation")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    named = target.types(args)
    if args.action == "retire":
        if not named:
            raise UsageError("name the former name of a task type: streamq types retire NAME")
        names = target.known(found, named)
        return forget(args, found, names, question="Remove the names", said="retired", key="retired")
    return _list(args, found, target.known(found, named) if named else found.inspector.types())


def _list(args: argparse.Namespace, found: target.Target, names: list[str]) -> int:
    inspector = found.inspector
    rows = [
        {
            "type": one.type, "version": count(policy.get("version", "1")),
            "alias_of": policy.get("alias_of"), "waiting": one.ready + one.scheduled + one.parked,
            "running": one.running, "dead": one.dead,
        }
        for one in inspector.stats(names)
        for policy in [inspector.policy(one.type)]
    ]  # fmt: skip
    target.report_faults(inspector.faults)
    if args.json:
        write_json({"app": found.app, "types": rows})
        return OK
    write_table(
        ["TYPE", "VERSION", "ALIAS OF", "WAITING", "RUNNING", "DEAD"],
        [[value if value is not None else "-" for value in row.values()] for row in rows],
        empty="no task types",
    )
    return OK

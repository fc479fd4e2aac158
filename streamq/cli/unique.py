"""List the locks of a task type's unique keys: the holder of each, its state, and the task that follows it.

`streamq unlock` frees one whose task no longer exists.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from streamq.cli import target
from streamq.cli.output import write_json, write_table
from streamq.exit_codes import OK
from streamq.options.checks import whole


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", metavar="TYPE", help="the task type")
    parser.add_argument("--limit", type=int, default=50, help="how many to list (default: 50)")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    target.known(found, [args.type])
    inspector = found.inspector
    locks = inspector.locks(args.type, limit=whole(args.limit, "--limit", least=1))
    target.report_faults(inspector.faults)
    if args.json:
        write_json({"app": found.app, "type": args.type, "locks": [asdict(one) for one in locks]})
        return OK
    rows = [[one.key, one.holder, one.state, one.follows or "-"] for one in locks]
    write_table(["KEY", "HOLDER", "STATE", "THEN"], rows, empty="no unique key is held")
    return OK

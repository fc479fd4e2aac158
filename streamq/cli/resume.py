"""Have the workers take paused task types up again, within a second."""

from __future__ import annotations

import argparse
import sys

from streamq.cli import OK, target
from streamq.cli.output import write_json


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", nargs="+", metavar="TYPE", help="the task types")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    names = target.known(found, args.type)
    changed = {name: found.admin.resume(name) for name in names}
    if args.json:
        write_json({"app": found.app, "resumed": names, "changed": [n for n in names if changed[n]]})
        return OK
    for name in names:
        sys.stdout.write(f"resumed {name}\n" if changed[name] else f"{name} was not paused\n")
    return OK

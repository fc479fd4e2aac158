"""Have all workers leave task types alone, within a second.

Tasks that run go on, and enqueue goes on accepting: what comes waits. `streamq stats` and `streamq top` say
what is paused, by whom and why.
"""

from __future__ import annotations

import argparse
import sys

from streamq.cli import OK, target
from streamq.cli.output import write_json


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", nargs="+", metavar="TYPE", help="the task types")
    parser.add_argument("--reason", default="", help="why, for those who will find them paused")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    names = target.known(found, args.type)
    changed = {name: found.admin.pause(name, args.reason) for name in names}
    if args.json:
        write_json({"app": found.app, "paused": names, "changed": [n for n in names if changed[n]]})
        return OK
    for name in names:
        sys.stdout.write(f"paused {name}\n" if changed[name] else f"{name} was paused already\n")
    return OK

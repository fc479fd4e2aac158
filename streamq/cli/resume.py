"""Have the workers take paused task types up again, within a second."""

from __future__ import annotations

import argparse

from streamq.cli import target
from streamq.cli.pause import tell


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", nargs="+", metavar="TYPE", help="the task types")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    changed = {name: found.admin.resume(name) for name in target.known(found, args.type)}
    return tell(args, found.app, changed, done="resumed", before="was not paused")

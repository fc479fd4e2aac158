"""Let workers run paused task types again, within a second."""

from __future__ import annotations

import argparse

from streamq.cli import target
from streamq.cli.pause import named, tell


def arguments(parser: argparse.ArgumentParser) -> None:
    target.types_option(parser, "the task types")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    types, found = named(args), target.find(args)
    changed = {name: found.admin.resume(name) for name in target.known(found, types)}
    return tell(args, found.app, changed, done="resumed", before="was not paused")

"""Stop all workers from running task types, within a second.

Running tasks finish, and enqueue still accepts: new tasks wait. `streamq stats` and `streamq top` show what
is paused, by whom and why.
"""

from __future__ import annotations

import argparse

from streamq.cli import target
from streamq.cli.output import say, write_json
from streamq.errors import UsageError
from streamq.exit_codes import OK


def arguments(parser: argparse.ArgumentParser) -> None:
    target.types_option(parser, "the task types")
    parser.add_argument("--reason", default="", help="the reason, shown wherever the pause is shown")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    types, found = named(args), target.find(args)
    names = target.known(found, types)
    changed = {name: found.admin.pause(name, args.reason) for name in names}
    return tell(args, found.app, changed, done="paused", before="was paused already")


def named(args: argparse.Namespace) -> list[str]:
    """Return the task types; raise UsageError if none is named: all at once would be a mistake."""
    found = target.types(args)
    if not found:
        raise UsageError("name the task types: `streamq stats` lists them")
    return found


def tell(args: argparse.Namespace, app: str, changed: dict[str, bool], *, done: str, before: str) -> int:
    """Write for each type what was done, or its state if nothing changed."""
    if args.json:
        write_json({"app": app, done: list(changed), "changed": [n for n in changed if changed[n]]})
        return OK
    for name, now in changed.items():
        say(f"{done} {name}" if now else f"{name} {before}")
    return OK

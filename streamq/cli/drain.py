"""Have workers take no more tasks, finish those in hand and end, as after SIGTERM.

The names are those of `streamq workers`. What has not finished within the worker's --drain-timeout is handed
back. Its supervisor starts no other in its place. Exit code 3 where there is no worker of a name.
"""

from __future__ import annotations

import argparse

from streamq.cli import target
from streamq.cli.output import say, tell, write_json
from streamq.exit_codes import NOT_FOUND, OK


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("worker", nargs="+", metavar="WORKER", help="the workers, by name")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    names: list[str] = list(dict.fromkeys(args.worker))
    asked = {name: found.admin.drain(name) for name in names}
    missing = [name for name in names if not asked[name]]
    if args.json:
        write_json({"app": found.app, "asked": [n for n in names if asked[n]], "not_found": missing})
    for name in names:
        if not args.json and asked[name]:
            say(f"{name} was asked to drain")
    for name in missing:
        tell(f"there is no worker {name[:120]!r}: see `streamq workers`")
    return NOT_FOUND if missing else OK

"""Let workers finish their tasks and end, as after SIGTERM.

`streamq workers` lists the names. Tasks that have not finished within the worker's --drain-timeout are handed
back. The supervisor does not replace a drained worker. Exit code 3 if there is no worker of a name.
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
        tell(f"unknown worker {name[:120]!r}: `streamq workers` lists the names")
    return NOT_FOUND if missing else OK

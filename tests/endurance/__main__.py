"""`python -m tests.endurance load|day|recovery`: what a test has no time for, measured.

Prints one JSON object. Exit code 0 where nothing was found, 1 where something was: it is in `findings`.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from tests.endurance import day, load, recovery
from tests.endurance.stage import Stage, staged


def main(arguments: list[str]) -> int:
    args = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    folder = Path(args.keep or tempfile.mkdtemp(prefix="streamq-endurance-")).resolve()
    with staged(folder) as stage:
        found = asyncio.run(_measured(args, stage))
    sys.stdout.write(orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2).decode() + "\n")
    if found.findings:
        sys.stderr.write(f"{len(found.findings)} findings; logs: {folder}\n")
    elif not args.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if found.findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.endurance", description=__doc__)
    parser.add_argument("--keep", metavar="DIR", help="keep the logs and ledgers here")
    verbs = parser.add_subparsers(dest="verb", required=True)
    million = verbs.add_parser("load", help=str(load.__doc__).splitlines()[0])
    million.add_argument("--tasks", type=int, default=1_000_000, help="how many (1000000)")
    long = verbs.add_parser("day", help=str(day.__doc__).splitlines()[0])
    long.add_argument(
        "--seconds", type=float, default=960.0, help="how long (960: more than a day's rounds of all)"
    )
    killed = verbs.add_parser("recovery", help=str(recovery.__doc__).splitlines()[0])
    killed.add_argument("--apps", type=int, default=20, help="kills in each round (20)")
    killed.add_argument("--rounds", type=int, default=2, help="rounds (2)")
    for verb in (million, long, killed):
        verb.add_argument("--json", action="store_true", help="as always: one object on standard output")
    return parser


async def _measured(args: argparse.Namespace, stage: Stage) -> Any:
    if args.verb == "load":
        return await load.Run(stage, args.tasks).go()
    if args.verb == "day":
        return await day.measure(stage, args.seconds)
    return await recovery.measure(stage, args.apps, args.rounds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

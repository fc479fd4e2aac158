"""Print the version of streamq."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import version

from streamq.exit_codes import OK


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    found = {"streamq": version("streamq"), "redis": version("redis"), "python": platform.python_version()}
    if args.json:
        from streamq.cli.output import write_json

        write_json(found)
    else:
        from streamq.cli.output import write_lines

        write_lines(f"streamq {found['streamq']} (redis-py {found['redis']}, Python {found['python']})")
    return OK

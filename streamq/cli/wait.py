"""Wait until no work is left: nothing is ready, running or due.

Tasks that are scheduled for later, retries included, do not count unless --scheduled is given. Exit code 1 if
the timeout ends first.
"""

from __future__ import annotations

import argparse

from streamq.app.app import StreamQ
from streamq.cli import target
from streamq.cli.output import write_json, write_message
from streamq.exit_codes import FAILED, OK
from streamq.options.checks import seconds


def arguments(parser: argparse.ArgumentParser) -> None:
    target.types_option(parser, "only these task types (all)")
    parser.add_argument("--timeout", metavar="DURATION", help="limit: 90s, 5m (default: none; 0: check once)")
    parser.add_argument("--scheduled", action="store_true", help="also until nothing is due later")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    limit = None if args.timeout is None else seconds(args.timeout, "--timeout")
    types = target.types(args) or None
    found = target.find(args)
    if types:
        target.known(found, types)
    app = StreamQ(
        found.app,
        found.url,
        shards=found.record.shards if found.record else 1,
        patience=target.PATIENCE,
        prefix=found.transport.address.prefix,
    )
    try:
        idle = app.wait_idle(limit, types=types, scheduled=args.scheduled)
    finally:
        app.close()
    if args.json:
        write_json({"app": found.app, "idle": idle})
    elif not idle:
        write_message(f"app {found.app!r} is not idle: `streamq stats` shows the remaining work")
    return OK if idle else FAILED

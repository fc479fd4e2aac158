"""Send the tasks that an outbox holds, or look at it.

OUTBOX is module:attribute, such as shop.tasks:outbox. `relay` sends rows until SIGTERM or Ctrl-C (a second
one ends it at once); any number may run. `status` shows what waits and what is parked, with exit code 6 if a
row is parked. `retry` lets parked rows be sent again.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from streamq.cli import signals
from streamq.cli.output import write_json, write_lines, write_message
from streamq.errors import UsageError
from streamq.exit_codes import OK, UNHEALTHY
from streamq.options.checks import seconds
from streamq.outbox.relay import OutboxStatus, Relay
from streamq.telemetry import logs
from streamq.worker.loading import import_modules


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("relay", "status", "retry"))
    parser.add_argument("outbox", metavar="OUTBOX", help="the outbox: module:attribute")
    parser.add_argument("--interval", default="1s", help="relay: time between two looks (1s)")
    parser.add_argument("--once", action="store_true", help="relay: end when no row is due")
    parser.add_argument("--json", action="store_true", help="status: print one JSON object")
    parser.add_argument("--log-level", choices=logs.LEVELS, default="info", help="least level to log (info)")
    parser.add_argument("--log-format", choices=logs.FORMATS, default="auto", help="auto, console or JSON")


def run(args: argparse.Namespace) -> int:
    logs.configure(args.log_level, args.log_format)
    outbox = _load(args.outbox)
    match args.action:
        case "relay":
            return _relay(outbox, seconds(args.interval, "--interval", least=0.01), once=args.once)
        case "retry":
            count = asyncio.run(outbox.aretry()) if outbox.is_async else outbox.retry()
            write_lines(f"{count} rows are sent again")
            return OK
        case _:
            found = asyncio.run(outbox.astatus()) if outbox.is_async else outbox.status()
            return _show(found, as_json=args.json)


def _load(reference: str) -> Relay:
    module, _, attribute = reference.partition(":")
    if not module:
        raise UsageError(f"{reference!r} does not name an outbox: write module:attribute")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    import_modules([module])
    found: object = importlib.import_module(module)
    for part in (attribute or "outbox").split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Relay):
        raise UsageError(f"{module!r} has no outbox called {attribute or 'outbox'!r}")
    return found


def _relay(outbox: Relay, interval: float, *, once: bool) -> int:
    if outbox.is_async:
        count = asyncio.run(_arelay(outbox, interval, once=once))
    else:
        with signals.as_event() as stop:
            count = outbox.run(stop, interval=interval, once=once)
        outbox.app.close()
    write_message(f"{count:,} rows were sent or put off")
    return OK


async def _arelay(outbox: Relay, interval: float, *, once: bool) -> int:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        return await outbox.arun(stop, interval=interval, once=once)
    finally:
        await outbox.app.aclose()


def _show(found: OutboxStatus, *, as_json: bool) -> int:
    if as_json:
        write_json(asdict(found))
    else:
        write_lines(
            f"waiting  {found.waiting:,}, the oldest for {found.oldest:.0f} s",
            f"refused  up to {found.tries} times",
            f"parked   {found.parked:,}",
            *(f"  {row}  {error}" for row, error in found.errors.items()),
        )
    return UNHEALTHY if found.parked else OK

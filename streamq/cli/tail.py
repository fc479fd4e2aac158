"""Print what happens to tasks, as it happens; Ctrl-C ends it.

Times are those of this terminal's time zone; with --json they are ms since the epoch.

Workers send events only while a client listens. A very busy worker leaves events out and reports how many
(`skipped`). With --json each event is one line. A broken connection is opened again; the events in between
are missing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Final, get_args

from streamq.cli import target
from streamq.cli.output import write_json, write_lines, write_message
from streamq.control.event_tail import Event, EventName
from streamq.control.formatting import duration, utc
from streamq.errors import OutcomeUnknown, RedisUnavailable
from streamq.exit_codes import OK
from streamq.options.checks import whole

AGAIN: Final = 0.5
"""Seconds between two attempts to reach an unreachable server."""


def arguments(parser: argparse.ArgumentParser) -> None:
    target.types_option(parser, "only these task types (all)")
    parser.add_argument(
        "--event",
        action="append",
        default=[],
        choices=get_args(EventName),
        help="only this event (may be repeated)",
    )
    parser.add_argument("--limit", type=int, help="end after this many events")
    target.options(parser, json="print one JSON object a line")


def run(args: argparse.Namespace) -> int:
    args.type = target.types(args)
    left = None if args.limit is None else whole(args.limit, "--limit", least=1)
    found = target.find(args)
    for event in _events(found):
        if _matches(event, args):
            _write(event, as_json=args.json)
            sys.stdout.flush()
            left = left if left is None else left - 1
        if left == 0:
            break
    return OK


def _events(found: target.Target) -> Iterator[Event]:
    """Yield events forever. Raise RedisErrors if it cannot begin."""
    began = False
    while True:
        try:
            with found.inspector.tail() as events:
                again = "again" if began else f"to {found.app}"
                write_message(f"listening {again}")
                began = True
                yield from events
        except (RedisUnavailable, OutcomeUnknown) as error:
            if not began:
                raise
            write_message(f"{str(error).rstrip('.')}. Retrying")
            _wait(found)


def _wait(found: target.Target) -> None:
    """Wait until the server responds again."""
    while True:
        time.sleep(AGAIN)
        try:
            found.inspector.now_ms()
        except RedisUnavailable:
            continue
        return


def _matches(event: Event, args: argparse.Namespace) -> bool:
    # The events that were left out may be of any type.
    of_type = not args.type or event.event == "skipped" or event.type in args.type
    return of_type and (not args.event or event.event in args.event)


def _write(event: Event, *, as_json: bool) -> None:
    if as_json:
        write_json(_object(event), one_line=True)
    else:
        write_lines(_line(event))


def _object(event: Event) -> dict[str, object]:
    return {
        "event": event.event, "at_ms": event.at_ms or None, "type": event.type or None,
        "id": event.id or None, "attempt": event.attempt or None, "seconds": event.seconds,
        "worker": event.worker, "number": event.number, "error": event.error or None,
    }  # fmt: skip


def _line(event: Event) -> str:
    if event.event == "skipped":
        return f"{'':<12}  skipped      {event.number:,} events: {event.worker} is busy"
    at = utc(event.at_ms)
    clock = at.astimezone().strftime("%H:%M:%S.%f")[:12] if at else f"{event.at_ms:<12}"
    took = "" if event.seconds is None else duration(event.seconds)
    attempt = f"attempt {event.attempt}" if event.attempt else ""
    if event.event == "run_skipped":
        attempt = f"{event.number:,} runs" if event.number > 1 else ""
    text = f"{event.event:<11}  {event.id:<40}  {attempt:<10}  {took:>7}"
    error = f"  {event.error}" if event.error else ""
    return f"{clock}  {text}  {event.worker}{error}"

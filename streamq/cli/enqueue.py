"""Enqueue tasks by the name of their type, without the handler's code.

JSON is an object of the arguments by name. `-` or --file reads any number of JSON lines, one task a line.
Prints the ids.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import orjson

from streamq.app.app import StreamQ
from streamq.app.bound_task import Bound
from streamq.app.handle import TaskHandle
from streamq.cli import target
from streamq.cli.output import progress, write_json, write_lines, write_message
from streamq.errors import PayloadError, StreamQError, UsageError
from streamq.exit_codes import OK
from streamq.options.call import call_options
from streamq.options.table import PER_CALL
from streamq.wording import listed

CHUNK: Final = 500


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", metavar="TYPE", help="the task type")
    parser.add_argument(
        "arguments", nargs="?", metavar="JSON", help="the arguments by name, or - for JSON lines"
    )
    parser.add_argument("--file", metavar="FILE", help="a file of JSON lines")
    for option in PER_CALL.values():
        name = f"--{option.name.replace('_', '-')}"
        if option.flag:
            parser.add_argument(name, action="store_true", default=None, help=option.doc)
            continue
        parser.add_argument(
            name,
            metavar=option.metavar,
            choices=option.choices,
            type=int if option.metavar == "NUMBER" else str,
            help=option.doc,
        )
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    options, found = _checked(args), target.find(args)
    shards = found.record.shards if found.record else 1
    app = StreamQ(
        found.app, found.url, shards=shards, patience=target.PATIENCE, prefix=found.transport.address.prefix
    )
    app.registry.record = found.record  # the server's: a command does not change it
    known = found.inspector.types()
    if args.type not in known:
        write_message(
            f"no worker has registered task type {args.type!r} yet: the tasks wait for one "
            f"(known types: {listed(known)})"
        )
    handles: list[TaskHandle[object]] = []
    try:
        with _source(args) as source, progress("enqueued", _total(args)) as bar:
            for chunk in _chunks(app, args.type, options, source):
                handles += _send(app, chunk, quiet=args.json)
                bar.set(len(handles))
    except StreamQError:
        if handles or args.file or args.arguments == "-":
            write_message(f"{len(handles)} tasks were enqueued before this error")
        raise
    finally:
        app.close()
    _report(handles, as_json=args.json)
    return OK


def _report(handles: list[TaskHandle[object]], *, as_json: bool) -> None:
    duplicates = sum(handle.duplicate for handle in handles)
    if as_json:
        ids = [handle.id for handle in handles]
        write_json({"accepted": len(ids) - duplicates, "duplicates": duplicates, "ids": ids})
    elif duplicates:
        write_message("a task with this key exists: the id is that task's")


def _checked(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of the call, before any request. Raise UsageError."""
    if bool(args.file) == bool(args.arguments):
        raise UsageError(
            "enqueue: pass the arguments as JSON ('{}' if there are none), - for standard input, "
            "or --file FILE"
        )
    if args.idempotency_key and (args.file or args.arguments == "-"):
        raise UsageError("--idempotency-key names one task: pass its arguments as JSON")
    given = {name: value for name in PER_CALL if (value := getattr(args, name)) is not None}
    options: dict[str, Any] = given | ({"at": _moment(args.at)} if args.at is not None else {})
    call_options(**options)
    return options


def _source(args: argparse.Namespace) -> Any:
    if args.file:
        try:
            return Path(args.file).open("rb")
        except (OSError, ValueError) as error:  # ValueError: the name has a zero byte
            why = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot read {args.file!r}: {why}") from None
    if args.arguments == "-":
        return nullcontext(sys.stdin.buffer)
    return nullcontext([args.arguments.encode("utf-8", "surrogateescape")])


def _total(args: argparse.Namespace) -> int | None:
    return 1 if args.arguments and args.arguments != "-" else None


def _chunks(
    app: StreamQ, task_type: str, options: dict[str, Any], source: IO[bytes] | list[bytes]
) -> Iterator[list[Bound[object]]]:
    lines = ((n, line) for n, line in enumerate(source, 1) if line.strip())
    while chunk := list(islice(lines, CHUNK)):
        yield [app.bound(task_type, _parsed(n, line), **options) for n, line in chunk]


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"--at {text[:120]!r} is not a time: write it as 2027-01-31T09:00Z") from None
    if found.tzinfo is None:
        here = found.astimezone().isoformat(timespec="minutes")
        raise UsageError(
            f"--at {text!r} has no time zone: write {found.isoformat(timespec='minutes')}Z for UTC, or "
            f"{here} for this host's time"
        )
    return found


def _parsed(number: int, line: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(line)
    except ValueError as error:
        raise PayloadError(f"line {number} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise PayloadError(f"line {number} is not a JSON object of the arguments by name")
    return value


def _send(app: StreamQ, chunk: list[Bound[object]], *, quiet: bool) -> list[TaskHandle[object]]:
    handles = app.enqueue_many(chunk)
    if not quiet:
        write_lines(*(one.id for one in handles))
    return handles

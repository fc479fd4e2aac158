"""Enqueue tasks by the name of their type, without the handler's code.

JSON is an object of the arguments by name; `-` or --file reads JSON lines, one task a line, any number.
Prints the ids.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import orjson

from streamq.cli import OK, target
from streamq.cli.output import Progress, write_json
from streamq.errors import PayloadError, StreamQError, UsageError
from streamq.queue import Bound, StreamQ

CHUNK: Final = 500


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", help="the task type")
    parser.add_argument(
        "arguments", nargs="?", metavar="JSON", help="the arguments by name, or - for JSON lines"
    )
    parser.add_argument("--file", help="a file of JSON lines")
    parser.add_argument("--delay", help="run it later: 90s, 5m, 1h30m")
    parser.add_argument("--priority", choices=("high", "normal", "low"))
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    app = StreamQ(found.app, found.url, shards=found.shards, patience=target.PATIENCE)
    known = found.inspector.types()
    if args.type not in known:
        sys.stderr.write(
            f"streamq: no worker has registered task type {args.type!r} yet: the tasks wait for one "
            f"(known are: {', '.join(known) or 'none'})\n"
        )
    ids: list[str] = []
    try:
        with _source(args) as source, Progress("enqueued", _total(args)) as progress:
            for chunk in _chunks(app, args, source):
                ids += _send(app, chunk, quiet=args.json)
                progress.set(len(ids))
    except StreamQError:
        sys.stderr.write(f"streamq: {len(ids)} tasks were enqueued before this error\n")
        raise
    finally:
        app.close()
    if args.json:
        write_json({"accepted": len(ids), "ids": ids})
    return OK


def _source(args: argparse.Namespace) -> Any:
    if bool(args.file) == bool(args.arguments):
        raise UsageError("enqueue: give the arguments as JSON, - for standard input, or --file FILE")
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
    app: StreamQ, args: argparse.Namespace, source: IO[bytes] | list[bytes]
) -> Iterator[list[Bound[Any]]]:
    options = {name: value for name in ("delay", "priority") if (value := getattr(args, name)) is not None}
    lines = ((n, line) for n, line in enumerate(source, 1) if line.strip())
    while chunk := list(islice(lines, CHUNK)):
        yield [app.bound(args.type, _parsed(n, line), **options) for n, line in chunk]


def _parsed(number: int, line: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
    except ValueError as error:
        raise PayloadError(f"line {number} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise PayloadError(f"line {number} is not a JSON object of the arguments by name")
    return value


def _send(app: StreamQ, chunk: list[Bound[Any]], *, quiet: bool) -> list[str]:
    ids = [handle.id for handle in app.enqueue_many(chunk)]
    if not quiet:
        sys.stdout.write("".join(f"{one}\n" for one in ids))
    return ids

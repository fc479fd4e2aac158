"""`streamq task signal ID NAME [JSON]`: give a task the signal that its handler waits for, or will.

Owns the command's options, and what it prints, for `streamq flow signal` too. Must not decide anything that
`admin` decides.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final

import orjson

from streamq.cli import target
from streamq.cli.output import write_json, write_lines, write_message
from streamq.errors import UsageError
from streamq.exit_codes import FAILED, NOT_FOUND, OK

_ANSWERS: Final = {
    "delivered": "{}: it waited for the signal {!r}, and is ready",
    "stored": "{}: the signal {!r} is kept until it waits for it",
}


def arguments(verbs: Any) -> None:
    """Add the verb to those of `streamq task`."""
    one = verbs.add_parser(
        "signal",
        help="give a task a signal",
        description="Give a task the signal that its handler waits for, or will: `await ctx.wait(NAME)`. "
        "Exit code 3 if the task is unknown, 1 if it has ended.",
    )
    one.add_argument("id", metavar="ID", help="the task's id, as enqueue printed it")
    signal_arguments(one)
    target.options(one)


def signal_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name and the value of a signal."""
    parser.add_argument("name", metavar="NAME", help="the signal's name")
    parser.add_argument("value", metavar="JSON", nargs="?", default="null", help="its value (null)")


def run(args: argparse.Namespace) -> int:
    """Give the signal; return the exit code."""
    value, found = json_value(args.value), target.find(args)
    answer = found.admin.signal(args.id, args.name, value)
    if args.json:
        write_json({"app": found.app, "id": args.id, "signal": args.name, "answer": answer})
    elif answer in _ANSWERS:
        write_lines(_ANSWERS[answer].format(args.id, args.name))
    return exit_code(answer, f"task {args.id}", lambda: found.inspector.task(args.id).state)


def exit_code(answer: str, receiver: str, state: Callable[[], str]) -> int:
    """Return the exit code of an answer to a signal, and say why it was not taken."""
    if answer == "unknown":
        write_message(f"unknown {receiver}")
        return NOT_FOUND
    if answer == "too late":
        write_message(f"too late: {receiver} is {state()}")
        return FAILED
    return OK


def json_value(text: str) -> object:
    """Return the value that a command was given as JSON. Raises UsageError."""
    try:
        found: object = orjson.loads(text)
    except ValueError as error:
        raise UsageError(f"the signal's value is not JSON: {error}. Text needs quotes: '\"yes\"'") from None
    return found

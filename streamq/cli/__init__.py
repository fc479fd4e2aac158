"""The command line: one command a module, loaded when it is called.

Owns the list of commands, the exit codes and the one-line errors. A command has `arguments`, which describes
its options, and `run`, which returns the exit code; `shorthand` may complete the words that were typed.
Commands that only act on names are together in `act`. Data goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn, Protocol, cast

from streamq import standard_streams
from streamq.exit_codes import (
    CONFIG,
    DENIED,
    FAILED,
    INTERRUPTED,
    NOT_FOUND,
    OK,
    UNHEALTHY,
    UNREACHABLE,
    USAGE,
)

COMMANDS: Final = {
    "dev": "run an app while you write it: server, worker with reload, daemon and dashboard",
    "worker": "run an app's tasks: a group of processes on this host",
    "daemon": "promote delayed tasks, reclaim those of dead workers, tidy up",
    "enqueue": "enqueue tasks by name, from an argument, a file or standard input",
    "apps": "list the apps of a server with their shards",
    "stats": "show what is ready, running, scheduled and dead, by task type",
    "top": "watch task types, workers and the server, live",
    "tail": "print what happens to tasks, as it happens",
    "wait": "wait until no work is left",
    "task": "show one task, or list those in a state",
    "cancel": "cancel tasks that have not ended",
    "run-now": "make scheduled tasks ready at once",
    "flow": "list flows; show, cancel, retry or signal one",
    "schedules": "list recurring tasks; pause, resume, remove or backfill them, or run one now",
    "unique": "list the locks of unique keys",
    "unlock": "free a unique key whose task no longer exists",
    "pause": "stop all workers from running a task type",
    "resume": "let workers run a paused task type again",
    "lanes": "list the lanes of a task type; pause, resume, limit or purge one",
    "outbox": "send the tasks that wait in a database, or look at them",
    "forget": "remove task types that are no longer used",
    "schema": "write the schemas of an app's handlers; check what a change of them breaks",
    "types": "list task types with their versions; retire a former name",
    "keys": "count what is sealed with which key; seal dead letters anew; make a key",
    "blobs": "compare the store of large arguments and results with the queue; remove what no task needs",
    "dead": "list, show, requeue, edit or purge dead letters",
    "workers": "list the workers and the tasks they run",
    "drain": "let a worker finish its tasks and end",
    "dismiss": "take dead workers off the lists",
    "dashboard": "serve web pages and JSON about a queue",
    "check": "check whether a worker group or a daemon is ready, for probes",
    "audit": "check the invariants of a live queue",
    "doctor": "check the server, the user's rights, workers and daemons",
    "acl": "print the Redis users of a queue as an ACL file",
    "bench": "measure streamq on your server, next to the bare loop",
    "migrate": "list what a code base uses of another task queue, and what it becomes here",
    "demo": "run the end-to-end demo on an embedded server",
    "config": "show the settings and where each comes from",
    "completion": "print the completion script of a shell",
    "version": "print the version",
}

_NOT_WRITTEN: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a full or broken disk under the output says."""
_ACTS: Final = ("cancel", "run-now", "pause", "resume", "drain", "dismiss")
"""Those in `act`: all others have a module each."""

EXIT_CODES: Final = f"""exit codes:
  {OK}    done
  {FAILED}    failed
  {USAGE}    wrong usage
  {NOT_FOUND}    not found
  {UNHEALTHY}    audit found a broken invariant, doctor a fault, check a process that is not ready,
       keys audit a key in use, or blobs status a missing blob
  {UNREACHABLE}   the server is unreachable, or too old
  {DENIED}   the server refused the login or the command
  {CONFIG}   wrong configuration, or the app cannot be imported
  {INTERRUPTED}  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code."""
    if "_ARGCOMPLETE" in os.environ:  # a shell completes a line
        importlib.import_module("streamq.cli.completion").offer()
    standard_streams.open_missing()
    try:
        return _written(list(sys.argv[1:] if argv is None else argv))
    finally:
        standard_streams.end()


def _written(args: list[str]) -> int:
    """Run a command line and write its output; return the exit code."""
    try:
        code = _main(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has gone (`| head`)
        standard_streams.discard(sys.stdout)
        return OK
    except OSError as error:
        if error.errno not in _NOT_WRITTEN:
            raise
        standard_streams.discard(sys.stdout)
        _output().write_message(f"cannot write the output: {error.strerror}")
        return FAILED
    except KeyboardInterrupt:
        _output().write_message("interrupted")
        return INTERRUPTED
    return code


def _main(args: list[str]) -> int:
    if len(args) > 1 and args[0] == "help":
        args = [args[1], "--help"]
    if not args or args[0] in ("-h", "--help", "help"):
        _output().write_text(_help())
        return OK if args else USAGE
    if args[0] in ("-V", "--version"):
        args[0] = "version"
    if args[0] not in COMMANDS:
        return _unknown(args[0])
    return _command(args[0], args[1:])


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allow_abbrev = False

    def parse_args(  # pyright: ignore[reportIncompatibleMethodOverride] - its overloads do not fit
        self, args: Any = None, namespace: object = None
    ) -> Any:
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(_without_values(rest))}")
        return found

    def error(self, message: str) -> NoReturn:
        message += self._nearest(message)
        _output().write_note(f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)")
        self.exit(USAGE)

    def _nearest(self, message: str) -> str:
        """Return the hint with the nearest option."""
        import difflib

        wrong = message.removeprefix("unrecognized arguments: ").split("=")[0].split(" ")[0]
        known = self._option_string_actions  # pyright: ignore[reportPrivateUsage] - there is no public way
        near = difflib.get_close_matches(wrong, known, 1) if wrong.startswith("--") else []
        return f": did you mean {near[0]}?" if near else ""


def _without_values(words: list[str]) -> list[str]:
    """Return the words without the values of unknown options: one may be a password."""
    behind = ["", *words]
    return [
        word.partition("=")[0] if word.startswith("-") else "…" if before.startswith("-") else word
        for before, word in zip(behind, words, strict=False)
    ]


def _output() -> Any:
    """Return the output module, loaded when there is something to write."""
    from streamq.cli import output

    return output


class Command(Protocol):
    """A command's module, or a value of `act.ACTS`. Its docstring is the text of --help."""

    def arguments(self, parser: argparse.ArgumentParser, /) -> None: ...
    def run(self, args: argparse.Namespace, /) -> int: ...


def load(name: str) -> Command:
    """Import a command."""
    if name in _ACTS:
        acts: dict[str, Command] = importlib.import_module("streamq.cli.act").ACTS
        return acts[name]
    return cast("Command", importlib.import_module(f"streamq.cli.{name}"))


def parser_of(name: str, command: Command) -> argparse.ArgumentParser:
    """Return the parser of a command."""
    parser = _Parser(
        prog=f"streamq {name}",
        description=(command.__doc__ or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.arguments(parser)
    return parser


def _command(name: str, args: list[str]) -> int:
    command = load(name)
    parser = parser_of(name, command)
    if shorthand := getattr(command, "shorthand", None):
        args = shorthand(args)
    try:
        parsed = parser.parse_args(args)
    except SystemExit as exit_:  # argparse has written the error
        return exit_.code if isinstance(exit_.code, int) else USAGE
    return _run(command, parsed)


def _run(command: Command, parsed: argparse.Namespace) -> int:
    from streamq.errors import StreamQError

    try:
        code = command.run(parsed)
    except StreamQError as error:
        sys.stdout.flush()
        _output().write_message(f"{error}")
        return code_of(error)
    return code


def code_of(error: Exception) -> int:
    """Return the exit code for an error."""
    from streamq import errors

    codes: list[tuple[type[Exception], int]] = [
        (errors.AuthenticationFailed, DENIED),
        (errors.ServerTooOld, UNREACHABLE),
        (errors.RedisUnavailable, UNREACHABLE),
        (errors.InvalidURL, CONFIG),
        (errors.UnknownTaskType, NOT_FOUND),
        (errors.UnknownSchedule, NOT_FOUND),
        (errors.UnknownFlow, NOT_FOUND),
        (errors.CannotListen, FAILED),
        (errors.UsageError, USAGE),
    ]
    return next((code for kind, code in codes if isinstance(error, kind)), FAILED)


def _unknown(name: str) -> int:
    import difflib

    from streamq import migration_hints

    near = difflib.get_close_matches(name, COMMANDS, 1)
    if name.startswith("-"):
        hint = "options come after the command, as in `streamq stats --url URL`"
    elif name in migration_hints.COMMANDS:
        hint = migration_hints.COMMANDS[name]
    else:
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(COMMANDS)}"
    _output().write_message(f"unknown command {name!r}: {hint}")
    return USAGE


def _help() -> str:
    rows = "\n".join(f"  {name:<10} {about}" for name, about in COMMANDS.items())
    return f"""usage: streamq COMMAND [options]

A distributed task queue on Redis Streams.

commands:
{rows}

The server is --url or STREAMQ_URL (default redis://localhost:6379/0).
`streamq COMMAND --help` shows the options of a command.

{EXIT_CODES}"""

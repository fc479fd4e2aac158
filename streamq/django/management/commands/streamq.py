"""`manage.py streamq COMMAND`: the command line of streamq, with the project's settings.

Owns what the project adds to it: the app and the server of TASKS, the queues of django.tasks, and the reload.
Every command and option of `streamq` passes through.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings

from streamq import cli, environment
from streamq.django import reload, worker
from streamq.django.home import Home
from streamq.django.names import task_backends
from streamq.errors import UsageError
from streamq.exit_codes import USAGE

if TYPE_CHECKING:

    class BaseCommand: ...  # Django has no types

else:
    from django.core.management.base import BaseCommand

_APP: Final = "streamq.django.worker"
_OUTBOX: Final = "streamq.django.outbox:outbox"
_CONCURRENCY: Final = "10"
"""Each attempt may hold a database connection: the default of a plain worker is 100."""
_OWN: Final = """
of manage.py streamq:
  --backend ALIAS       the backend of TASKS (default: default)
  --queues A,B          worker: serve the tasks of these queues only
  --reload, --no-reload worker: start again when a file changes (default: DEBUG)
  The server and the app are those of TASKS. worker: --concurrency is 10.
"""


class Command(BaseCommand):
    """Passes a command line on to streamq."""

    help: str = "Run a command of streamq with this project's settings: worker, daemon, dashboard, stats, ..."
    requires_system_checks: Any = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Run `manage.py streamq ...`, whose options argparse of Django must not read."""
        self._exit(_run(_without_django(argv[2:])))

    def handle(self, *args: str, **_options: object) -> None:
        """Run `call_command("streamq", "stats")`."""
        if code := _run(list(args)):
            raise SystemExit(code)

    def add_arguments(self, parser: Any) -> None:
        """Take any words."""
        parser.add_argument("args", nargs="*")

    def _exit(self, code: int) -> None:
        sys.stdout.flush()
        sys.exit(code)


def _without_django(words: Sequence[str]) -> list[str]:
    """Return the words without the options that manage.py has read itself."""
    found: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in ("--settings", "--pythonpath"):
            skip = True
        elif not word.startswith(("--settings=", "--pythonpath=")):
            found.append(word)
    return found


def _run(words: list[str]) -> int:
    reload.follow()
    if not words or words[0] in ("-h", "--help", "help"):
        code = cli.main(words)
        sys.stdout.write(_OWN)
        return code
    try:
        taken, words = _take(words)
        home = _home(taken)
        given = _completed(words, home, taken)
    except UsageError as error:
        sys.stderr.write(f"manage.py streamq: {error}\n")
        return USAGE
    if words[0] == "worker" and taken.get("reload", settings.DEBUG):
        return reload.run([*given, "--no-reload", "--backend", home.alias])
    return cli.main(given)


def _take(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the options that are ours, and the words without them. Raises UsageError."""
    taken: dict[str, Any] = {}
    rest: list[str] = []
    waiting = iter(words)
    for word in waiting:
        name, equals, value = word.partition("=")
        if name in ("--backend", "--queues"):
            taken[name[2:]] = value if equals else next(waiting, "")
            if not taken[name[2:]]:
                raise UsageError(f"{name} needs a value")
        elif word in ("--reload", "--no-reload"):
            taken["reload"] = word == "--reload"
        else:
            rest.append(word)
    if words[0] != "worker" and taken.keys() & {"queues", "reload"}:
        raise UsageError(f"--{min(taken.keys() & {'queues', 'reload'})} is for the command worker")
    return taken, rest


def _home(taken: dict[str, Any]) -> Home:
    known = worker.aliases()
    if not known:
        raise UsageError("TASKS has no backend 'streamq.django.StreamQBackend'")
    alias = taken.get("backend", known[0])
    if alias not in known:
        raise UsageError(f"TASKS has no backend of streamq called {alias!r}: it has {', '.join(known)}")
    backend: Any = task_backends[alias]
    home: Home = backend.home
    return home


def _completed(words: list[str], home: Home, taken: dict[str, Any]) -> list[str]:
    """Return the words with what the project says: its app, its server, the types of its queues."""
    command, rest = words[0], words[1:]
    _export(home)
    if command == "worker":
        more = [] if _has(rest, "--concurrency") else ["--concurrency", _CONCURRENCY]
        if "queues" in taken:
            names = [name.strip() for name in taken["queues"].split(",") if name.strip()]
            more += ["--types", ",".join(home.types_of(names))]
        return [command, f"{_APP}:{home.alias}", *more, *rest]
    if command == "dev":
        return [command, f"{_APP}:{home.alias}", *rest]
    if command == "outbox" and not any(":" in word for word in rest):
        return [command, *rest[:1], _OUTBOX, *rest[1:]]
    return words


def _has(words: Sequence[str], option: str) -> bool:
    return any(word == option or word.startswith(f"{option}=") for word in words)


def _export(home: Home) -> None:
    """Name the project's app and server where commands look for them."""
    if home.settings.url:
        os.environ[environment.URL.name] = home.settings.url
    if home.settings.prefix is not None:
        os.environ[environment.PREFIX.name] = home.settings.prefix
    os.environ[environment.APP.name] = home.settings.app

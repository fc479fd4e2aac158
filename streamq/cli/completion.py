"""Print the completion script of a shell.

bash: `source <(streamq completion bash)` in ~/.bashrc. zsh: `source <(streamq completion zsh)` in ~/.zshrc,
after compinit. fish: `streamq completion fish | source` in config.fish. Commands, options and their choices
are in the script. Task types, workers and apps are read from the server, if it responds within a third of a
second.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from streamq import environment
from streamq.cli import OK
from streamq.errors import StreamQError, UsageError

QUICK: Final = 0.3
"""Seconds that a server may take to connect, and to reply."""
_HARMLESS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
"""Any user may have stored a name on the server, and a shell expands the names it is offered."""
_SHELLS: Final = ("bash", "zsh", "fish")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", nargs="?", choices=_SHELLS, help="the shell")
    # For the scripts: the names of a kind that may stand at the end of a line.
    parser.add_argument("--names", choices=list(_NAMES), help=argparse.SUPPRESS)
    parser.add_argument("--line", default="", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    if args.names:
        _write_names(args.names, args.line.split())
        return OK
    if args.shell is None:
        raise UsageError(f"completion: name a shell: {', '.join(_SHELLS)}")
    from streamq.cli.describe import places
    from streamq.cli.output import say_text
    from streamq.cli.shells import SCRIPTS

    say_text(SCRIPTS[args.shell](places()))
    return OK


def _write_names(kind: str, words: list[str]) -> None:
    """Write the names on the server for these words; nothing if it does not respond."""
    try:
        prefix = _option(words, "--prefix")
        found = _NAMES[kind](lambda: _reach(_option(words, "--url"), prefix), _option(words, "--app"))
    except StreamQError:
        return
    from streamq.cli.output import say

    say(*(name for name in found if _HARMLESS.fullmatch(name)))


def _option(words: list[str], name: str) -> str | None:
    """Return the value of an option on a line that may be incomplete."""
    for n, word in enumerate(words):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and n + 1 < len(words):
            return words[n + 1]
    return None


def _reach(url: str | None, prefix: str | None) -> Any:
    """Return a transport with a short patience. Raise UsageError if a query would start a server."""
    from streamq.transport import Address, SyncTransport

    address = Address.parse(url or environment.URL.get(), prefix=prefix)
    if address.kind == "embedded":
        raise UsageError("pressing TAB does not start a server")
    quick = {"socket_connect_timeout": QUICK, "socket_timeout": QUICK}
    seeds = tuple(replace(one, arguments=one.arguments | quick) for one in address.seeds)
    return SyncTransport(replace(address, arguments=address.arguments | quick, seeds=seeds), patience=0)


_Reach = Callable[[], Any]


def _apps(reach: _Reach, _: str | None) -> list[str]:
    from streamq.inspector import apps

    return sorted(apps(reach()))


def _types(reach: _Reach, app: str | None) -> list[str]:
    return _of_app(reach, app, lambda inspector: inspector.types())


def _workers(reach: _Reach, app: str | None) -> list[str]:
    return _of_app(reach, app, lambda inspector: [one.name for one in inspector.workers()])


def _of_app(reach: _Reach, app: str | None, names: Callable[[Any], list[str]]) -> list[str]:
    """Return the names of the chosen app; none if the server has several and none is named."""
    from streamq.inspector import Inspector, apps

    transport = reach()
    known = (
        [app] if app else sorted(apps(transport)) if not environment.APP.given() else [environment.APP.get()]
    )
    return names(Inspector(transport, known[0])) if len(known) == 1 else []


_NAMES: Final[dict[str, Callable[[_Reach, str | None], list[str]]]] = {
    "TYPE": _types, "WORKER": _workers, "APP": _apps,
}  # fmt: skip

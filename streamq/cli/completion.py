"""Print the completion script of a shell. Needs the extra `cli`: pip install 'streamq[cli]'.

bash: `source <(streamq completion bash)` in ~/.bashrc. zsh: `source <(streamq completion zsh)` in ~/.zshrc,
after compinit. fish: `streamq completion fish | source` in config.fish. Task types, workers and apps come
from the server if it responds within a third of a second.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from streamq import environment
from streamq.cli import COMMANDS, load
from streamq.errors import StreamQError, UsageError
from streamq.exit_codes import OK

if TYPE_CHECKING:
    from streamq.control.inspector import Inspector
    from streamq.transport.sync_transport import SyncTransport

QUICK: Final = 0.3
"""Seconds for a server to connect, and to respond."""
_HARMLESS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
"""Names that are safe to offer: a shell expands them, and any client may have written them."""
_SHELLS: Final = ("bash", "zsh", "fish")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=_SHELLS, help="the shell")


def run(args: argparse.Namespace) -> int:
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        raise UsageError("completion needs argcomplete: pip install 'streamq[cli]'") from None
    from streamq.cli.output import write_text

    write_text(shellcode(["streamq"], False, args.shell))
    return OK


def offer() -> None:
    """Print the completions of the shell's line, and end the process. The shell's script calls it."""
    import argcomplete
    from argcomplete.completers import SuppressCompleter

    argcomplete.autocomplete(
        parser_of(os.environ.get("COMP_LINE", "").split()),
        always_complete_options=False,
        default_completer=SuppressCompleter(),
    )


def parser_of(words: list[str]) -> argparse.ArgumentParser:
    """Return a parser of all commands. Only the command on the line is imported, for its arguments."""
    parser = argparse.ArgumentParser(prog="streamq")
    parser.add_argument("--version", action="store_true")
    verbs = parser.add_subparsers()
    for name in COMMANDS:
        one = verbs.add_parser(name)
        if name in words[1:3]:
            load(name).arguments(one)
            _complete(one)
    return parser


def _complete(parser: argparse.ArgumentParser) -> None:
    """Set the completer of each value without choices."""
    for one in _actions(parser):
        if isinstance(one, argparse._SubParsersAction):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            for sub in one.choices.values():
                _complete(sub)
        elif one.choices is None and (completer := _completer(one)):
            one.completer = completer  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    yield from parser._actions  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - there is no public way


def _completer(action: argparse.Action) -> Any:
    from argcomplete.completers import DirectoriesCompleter, FilesCompleter

    name = str(action.metavar or action.dest.upper())
    if name in ("FILE", "PATH"):
        return FilesCompleter()
    if name == "FOLDER":
        return DirectoriesCompleter()
    if name == "APP" and not action.option_strings:
        return None  # a module of the user's, not a name on a server
    return _of_server(_NAMES[name]) if name in _NAMES else None


def _of_server(names: Callable[[_Reach, str | None], list[str]]) -> Callable[..., list[str]]:
    """Return a completer that queries the server on the line, and offers nothing if it does not respond."""

    def completer(parsed_args: argparse.Namespace, **_: object) -> list[str]:
        url, prefix, app = (getattr(parsed_args, name, None) for name in ("url", "prefix", "app"))
        try:
            found = names(lambda: _transport(url, prefix), app)
        except StreamQError:
            return []
        return [name for name in found if _HARMLESS.fullmatch(name)]

    return completer


def _transport(url: str | None, prefix: str | None) -> SyncTransport:
    """Return a transport with short timeouts. Raise UsageError if it would start a server."""
    from streamq.transport.address import Address
    from streamq.transport.sync_transport import SyncTransport

    address = Address.parse(url or environment.URL.get(), prefix=prefix)
    if address.kind == "embedded":
        raise UsageError("completion does not start an embedded server")
    quick = {"socket_connect_timeout": QUICK, "socket_timeout": QUICK}
    seeds = tuple(replace(one, arguments=one.arguments | quick) for one in address.seeds)
    return SyncTransport(replace(address, arguments=address.arguments | quick, seeds=seeds), patience=0)


_Reach = Callable[[], "SyncTransport"]


def _apps(connect: _Reach, _: str | None) -> list[str]:
    from streamq.control.inspector import apps

    return sorted(apps(connect()))


def _types(connect: _Reach, app: str | None) -> list[str]:
    return _of_app(connect, app, lambda inspector: inspector.types())


def _workers(connect: _Reach, app: str | None) -> list[str]:
    return _of_app(connect, app, lambda inspector: [one.name for one in inspector.workers()])


def _schedules(connect: _Reach, app: str | None) -> list[str]:
    from streamq.control.schedules import Schedules

    def names(inspector: Inspector) -> list[str]:
        listed = Schedules(inspector.transport, inspector.app).all(outcomes=False)
        return [one.name for one in listed]

    return _of_app(connect, app, names)


def _flows(connect: _Reach, app: str | None) -> list[str]:
    from streamq.control.flows import Flows

    return _of_app(
        connect, app, lambda found: [one.id for one in Flows(found.transport, found.app).all()[:100]]
    )


def _of_app(connect: _Reach, app: str | None, names: Callable[[Inspector], list[str]]) -> list[str]:
    """Return names of the app that is meant; none if the server has several and none is named."""
    from streamq.control.inspector import Inspector, apps

    transport = connect()
    known = (
        [app]
        if app
        else sorted(apps(transport))
        if not environment.APP.explicit()
        else [environment.APP.get()]
    )
    return names(Inspector(transport, known[0])) if len(known) == 1 else []


_NAMES: Final[dict[str, Callable[[_Reach, str | None], list[str]]]] = {
    "TYPE": _types, "WORKER": _workers, "APP": _apps, "SCHEDULE": _schedules,
    "FLOW": _flows,
}  # fmt: skip
"""Arguments that the server completes: the name in the help, and a function that reads the names."""

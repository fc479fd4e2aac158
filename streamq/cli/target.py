"""The server and the app of a command.

Owns the options that all commands share. Commands need no user code: an app is a name on a server.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamq import environment
from streamq.cli.output import write_message
from streamq.errors import InvalidTaskId, RedisUnavailable, UnknownTaskType, UsageError
from streamq.model.task import NAME_PATTERN, TaskId
from streamq.namespace import with_blobs, with_ring
from streamq.options.checks import seconds
from streamq.options.names import check_name
from streamq.payloads.blob_store import Blobs
from streamq.payloads.ring import Ring
from streamq.transport.address import Address
from streamq.wording import listed

if TYPE_CHECKING:
    from streamq.control.admin import Admin
    from streamq.control.flows import Flows
    from streamq.control.inspector import Inspector
    from streamq.control.schedules import Schedules
    from streamq.shards import AppRecord
    from streamq.transport.sync_transport import SyncTransport

PATIENCE = 2.0
AT_ONCE = 0.2
"""Seconds after which somebody at a terminal is told what a command waits for."""


class NoAppYet(UsageError):
    """No app has used the server."""


@dataclass(frozen=True, slots=True)
class Target:
    """An app on a server; `record` is None if the server does not know it."""

    transport: SyncTransport
    app: str
    record: AppRecord | None
    url: str

    @property
    def name(self) -> str:
        return self.app

    @property
    def inspector(self) -> Inspector:
        from streamq.control.inspector import Inspector

        return Inspector(self.transport, self.app)

    @property
    def admin(self) -> Admin:
        from streamq.control.admin import Admin

        return Admin(self.transport, self.app)

    @property
    def flows(self) -> Flows:
        from streamq.control.flows import Flows

        return Flows(self.transport, self.app)

    @property
    def schedules(self) -> Schedules:
        from streamq.control.schedules import Schedules

        return Schedules(self.transport, self.app)


def server_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", help=f"the server (default: {environment.URL.name}, else {environment.URL.default})"
    )
    parser.add_argument(
        "--prefix",
        help=f"prefix of all keys (default: {environment.PREFIX.name}, else {environment.PREFIX.default})",
    )


def address(args: argparse.Namespace) -> Address:
    """Return the server and the prefix of a command. Raise InvalidURL and InvalidOption."""
    source = "option" if args.url else environment.URL.source()
    return Address.parse(args.url or environment.URL.get(), source, prefix=args.prefix)


def options(parser: argparse.ArgumentParser, *, json: str = "print one JSON object") -> None:
    """Add the options of commands for an app."""
    server_option(parser)
    parser.add_argument(
        "--app", help=f"the app's name (default: {environment.APP.name}, else the only one on the server)"
    )
    parser.add_argument("--json", action="store_true", help=json)


def types_option(parser: argparse.ArgumentParser, about: str) -> None:
    """Add task types, positional or by option; `types` reads them."""
    parser.add_argument("type", nargs="*", metavar="TYPE", help=about)
    parser.add_argument(
        "--type",
        dest="type_too",
        action="append",
        default=[],
        metavar="TYPE",
        help="the task type, as an option",
    )


def types(args: argparse.Namespace) -> list[str]:
    """Return the named task types, each once. Raise InvalidOption."""
    named = list(dict.fromkeys([*args.type, *args.type_too]))
    for name in named:
        check_name(name)
    return named


def some_types(args: argparse.Namespace) -> list[str]:
    """Return the same; raise UsageError if none is named: acting on all types would be a mistake."""
    if found := types(args):
        return found
    raise UsageError("name the task types: `streamq stats` lists them")


def type_option(parser: argparse.ArgumentParser) -> None:
    """Add one optional task type, positional or by option; `one_type` reads it."""
    parser.add_argument("only", nargs="?", metavar="TYPE", help="only this task type")
    parser.add_argument("--type", metavar="TYPE", help="the task type, as an option")


def one_type(args: argparse.Namespace) -> str | None:
    """Return the named task type. Raise UsageError if two are named."""
    if args.only and args.type is not None and args.only != args.type:
        raise UsageError(f"the task type is given twice, {args.only!r} and {args.type!r}: leave one out")
    named: str | None = args.type if args.type is not None else args.only
    return named


def task_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands for tasks by id; `task_ids` reads them."""
    parser.add_argument("id", nargs="+", metavar="ID", help="the tasks, by id")
    options(parser)


def is_task_id(text: str) -> bool:
    """Return whether a text has the form of a task id."""
    try:
        TaskId.parse(text)
    except InvalidTaskId:
        return False
    return True


def task_ids(args: argparse.Namespace) -> list[str]:
    """Return the named tasks, each once. Raise InvalidTaskId."""
    return [str(TaskId.parse(one)) for one in dict.fromkeys(args.id)]


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds; None for no bound."""

    older_than: float | None
    newer_than: float | None


def span_options(parser: argparse.ArgumentParser, since: str) -> None:
    """Add options for the time since something happened."""
    parser.add_argument(
        "--older-than", metavar="DURATION", help=f"at least this long since {since}: 90s, 2h, 7d"
    )
    parser.add_argument("--newer-than", metavar="DURATION", help=f"at most this long since {since}")


def span(args: argparse.Namespace) -> Span:
    """Return the span of the options. Raise InvalidOption and UsageError."""
    older, newer = (
        None if text is None else seconds(text, name)
        for text, name in ((args.older_than, "--older-than"), (args.newer_than, "--newer-than"))
    )
    if older is not None and newer is not None and older > newer:
        raise UsageError(
            f"nothing is older than {args.older_than} and newer than {args.newer_than}: swap them"
        )
    return Span(older, newer)


def named(args: argparse.Namespace) -> list[str]:
    """Return the app that is named, if any."""
    name = args.app or environment.APP.explicit()
    return [name] if name else []


def names(args: argparse.Namespace) -> list[str]:
    """Return the apps of the server, sorted. Raise UsageError and RedisErrors."""
    from streamq.transport.sync_transport import SyncTransport

    transport = SyncTransport(address(args), patience=PATIENCE)
    try:
        return sorted(_listed(transport))
    finally:
        transport.close()


def find(args: argparse.Namespace, *, partly: bool = False) -> Target:
    """Connect, and choose the app. Raise UsageError and RedisErrors.

    partly: for a command that shows the reachable part of a cluster. Then the server need not know a named
    app.
    """
    from streamq.control.unreadable import Damaged
    from streamq.transport.sync_transport import SyncTransport

    url, named = args.url or environment.URL.get(), args.app or environment.APP.explicit()
    transport = SyncTransport(address(args), patience=PATIENCE)
    try:
        known = _listed(transport)
    except Damaged as error:
        if not named:
            raise Damaged(f"{error}. Name an app with --app") from None
        report_faults([str(error)])
        known = {}
    except RedisUnavailable as error:
        if not partly or transport.address.kind != "cluster":
            raise
        if not named:
            raise RedisUnavailable(
                f"{str(error).rstrip('.')}. It has the list of apps: name the app with --app"
            ) from None
        known = {}
    name = named or _only(known)
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(f"{name[:120]!r} is not an app name: use letters, digits, _ - . (at most 100)")
    app = with_blobs(with_ring(transport.address.namespace.app(name), _ring()), _blobs())
    return Target(transport, app, known.get(app), url)


def _listed(transport: SyncTransport) -> dict[str, AppRecord]:
    """Return the apps of the server. On a terminal a wait for the server is told before it begins."""
    from streamq.control.inspector import apps

    if sys.stderr.isatty():
        try:
            return apps(transport, patience=AT_ONCE)
        except RedisUnavailable:
            write_message(f"{transport.address} does not answer; trying for {PATIENCE:g} s more")
    return apps(transport)


def _ring() -> Ring | None:
    if environment.KEYS.explicit() is None:
        return None
    from streamq.payloads.keyring import KeyRing

    return KeyRing.from_environment()


def _blobs() -> Blobs | None:
    if environment.BLOBS.explicit() is None:
        return None
    from streamq.blobs.opening import blobs_from

    return blobs_from(None)


def report_faults(faults: Iterable[str]) -> None:
    """Write on stderr what could not be read and is missing from the output."""
    for fault in faults:
        write_message(f"{fault} (`streamq audit` shows more)")


def missing(shards: Sequence[int]) -> str:
    """Return the note that these shards are missing from the output."""
    which = f"shard {shards[0]} is" if len(shards) == 1 else f"shards {', '.join(map(str, shards))} are"
    return f"{which} missing here: the master is unreachable"


def more_types(number: int) -> str:
    """Return the note that this many task types are missing from the output."""
    return f"{number:,} more task types are not shown: `streamq stats TYPE…` and `stats --all` show them"


def known(found: Target, names: Sequence[str]) -> list[str]:
    """Return the task types of these names, each once; raise UnknownTaskType if the app has no such type."""
    return among(found.inspector.types(), found.app, names)


def among(existing: Sequence[str], app: str, names: Sequence[str]) -> list[str]:
    """Return the same as `known`, for task types that are already read."""
    for name in names:
        if name not in existing:
            near = difflib.get_close_matches(name, existing, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has: {listed(existing)}"
            raise UnknownTaskType(f"app {app!r} has no task type {name[:120]!r}; {hint}")
    return list(dict.fromkeys(names))


def _only(known: dict[str, AppRecord]) -> str:
    if len(known) == 1:
        return next(iter(known))
    if not known:
        raise NoAppYet(
            "no app has used this server yet: start a worker or enqueue a task, or name one with --app"
        )
    raise UsageError(f"the server has several apps: choose one with --app: {listed(known)}")

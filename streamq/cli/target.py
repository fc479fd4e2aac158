"""Which server and which app a command is about.

Owns the options that all commands share. Commands need no user code: an app is a name on a server.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamq.errors import UsageError
from streamq.model import NAME_PATTERN
from streamq.transport import Address
from streamq.transport.address import from_environment

if TYPE_CHECKING:
    from streamq.admin import Admin
    from streamq.inspector import Inspector
    from streamq.shards import AppRecord
    from streamq.transport import SyncTransport

PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """An app on a server; `record` is None where the server does not know it."""

    transport: SyncTransport
    app: str
    record: AppRecord | None
    url: str

    @property
    def name(self) -> str:
        return self.app

    @property
    def inspector(self) -> Inspector:
        from streamq.inspector import Inspector

        return Inspector(self.transport, self.app)

    @property
    def admin(self) -> Admin:
        from streamq.admin import Admin

        return Admin(self.transport, self.app)


def server_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="the server (default: STREAMQ_URL, else redis://localhost:6379/0)")


def options(parser: argparse.ArgumentParser) -> None:
    """The options of commands that ask about an app."""
    server_option(parser)
    parser.add_argument(
        "--app", help="the app's name (default: STREAMQ_APP, else the only one on the server)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def find(args: argparse.Namespace) -> Target:
    """Connect, and settle which app is meant. Raises UsageError and RedisErrors."""
    from streamq.inspector import apps
    from streamq.transport import SyncTransport

    url = args.url or from_environment()
    transport = SyncTransport(Address.parse(url), patience=PATIENCE)
    known = apps(transport)
    name = args.app or os.environ.get("STREAMQ_APP") or _only(known)
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(f"{name[:120]!r} is no name for an app: letters, digits, _ - . (at most 100)")
    return Target(transport, name, known.get(name), url)


def _only(known: dict[str, AppRecord]) -> str:
    if len(known) == 1:
        return next(iter(known))
    if not known:
        raise UsageError(
            "no app has used this server yet: start a worker or enqueue a task, or name one with --app"
        )
    raise UsageError(f"the server has several apps, say which with --app: {', '.join(sorted(known))}")

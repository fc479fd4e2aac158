"""Print the Redis users of a queue as an ACL file, each with the least rights.

For a server that only the queue uses, `streamq acl > users.acl` writes ops/redis/users.acl. On a shared
server, name the roles that you need, a prefix for the keys, and one for the names of the users:

  streamq acl producer worker daemon --prefix team1: --names team1-

All users are off and have no password. Set each password by its digest (printf %s "$PASSWORD" | sha256sum):

  ACL SETUSER team1-producer on '#<digest>'

Does not connect to a server.
"""

from __future__ import annotations

import argparse
import re
from typing import Final

from streamq import environment
from streamq.cli.output import write_text
from streamq.doctor import users
from streamq.errors import UsageError
from streamq.exit_codes import OK
from streamq.namespace import check_prefix

_NAMES: Final = re.compile(r"[A-Za-z0-9_.:-]{0,100}")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "roles", nargs="*", metavar="ROLE", help=f"{', '.join(users.QUEUE + users.SERVER)} (default: all)"
    )
    parser.add_argument(
        "--prefix",
        help=f"prefix of all keys (default: {environment.PREFIX.name}, else {environment.PREFIX.default})",
    )
    parser.add_argument("--names", default="", metavar="TEXT", help="prefix of the users' names")


def run(args: argparse.Namespace) -> int:
    if not _NAMES.fullmatch(args.names):
        raise UsageError(f"--names {args.names!r:.120}: use letters, digits, _ - . and : only")
    prefix = check_prefix(environment.PREFIX.get() if args.prefix is None else args.prefix)
    write_text(users.file(prefix, args.roles or users.QUEUE + users.SERVER, args.names))
    return OK

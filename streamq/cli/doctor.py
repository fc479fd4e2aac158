"""Check the set-up: the server, the user's rights, workers and daemons. Each fault comes with its fix.

Reads only. ✓ is good; ! works, but needs attention; ✗ may lose or delay tasks; ? this user may not see it.
Exit code 6 if there is a ✗.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from dataclasses import asdict
from typing import Final

from streamq import printable
from streamq.cli import code_of, target
from streamq.cli.output import columns, write_json, write_lines, write_note
from streamq.doctor.check import fault
from streamq.doctor.examination import Diagnosis, examine
from streamq.errors import AuthenticationFailed, RedisUnavailable, ServerTooOld, StreamQError
from streamq.exit_codes import OK, UNHEALTHY
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport

_MARKS: Final = {"ok": "✓", "warning": "!", "fault": "✗", "unknown": "?"}
_PLAIN: Final = {"ok": "ok", "warning": "!", "fault": "X", "unknown": "?"}
_LEAST: Final = 30
"""Columns that a text needs to be folded."""
_FIXES: Final[dict[type[StreamQError], str]] = {
    AuthenticationFailed: "check user and password in the URL; each user needs: "
    "redis-cli ACL SETUSER USER on '>PASSWORD' +client|setname +client|setinfo +time +eval +evalsha",
    ServerTooOld: "upgrade the server: Redis 7.0 or Valkey 7.2, or newer",
    RedisUnavailable: "start the server, or name another with --url or STREAMQ_URL",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    target.server_option(parser)
    parser.add_argument("--app", help="check this app only (default: all of the server)")
    parser.add_argument(
        "--as", dest="user", metavar="USER", help="whose rights to check (default: those of the URL's user)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    address = target.address(args)
    transport = SyncTransport(address, patience=target.PATIENCE)
    try:
        diagnosis = examine(transport, app=args.app, user=args.user)
    except (RedisUnavailable, ServerTooOld, AuthenticationFailed) as error:
        fix = next(fix for kind, fix in _FIXES.items() if isinstance(error, kind))
        _write(Diagnosis((fault("reach", str(error), fix),)), address, as_json=args.json)
        return code_of(error)
    finally:
        transport.close()
    _write(diagnosis, address, as_json=args.json)
    return OK if diagnosis.ok else UNHEALTHY


def _write(diagnosis: Diagnosis, address: Address, *, as_json: bool) -> None:
    if as_json:
        checks = [asdict(check) for check in diagnosis.checks]
        write_json({"server": str(address), "ok": diagnosis.ok, "checks": checks})
        return
    marks = _MARKS if _can_write(sys.stdout.encoding) else _PLAIN
    width = max(len(check.name) for check in diagnosis.checks)
    room = columns(sys.stdout) - 1
    for check in diagnosis.checks:
        _write_folded(f"{marks[check.status]} {check.name:<{width}}  ", check.finding, room)
        if check.fix:
            fix = f"fix: {check.fix}"
            write_lines((" " * (width + 4) if width + 4 + len(fix) <= room else "  ") + fix)
    wrong = [check for check in diagnosis.checks if check.status in ("fault", "warning")]
    if wrong and len(diagnosis.checks) > 1:
        faults = sum(check.status == "fault" for check in wrong)
        said = [_number(faults, "fault"), _number(len(wrong) - faults, "warning")]
        write_note(" and ".join(part for part in said if part))


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}" if count else ""


def _write_folded(head: str, text: str, room: int) -> None:
    """Write a text behind a head, folded below its own beginning; one line where that is no terminal. Fixes
    are not folded: they are copied."""
    text = printable.line(text)
    if len(head) + len(text) <= room or room - len(head) < _LEAST:
        write_lines(head + text)
        return
    indent = " " * len(head)
    folded = textwrap.TextWrapper(room, head, indent, break_on_hyphens=False, break_long_words=False)
    write_lines(*folded.wrap(text))


def _can_write(encoding: str | None) -> bool:
    try:
        "✓✗".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True

"""Serve the dashboard: web pages and JSON about a queue, and the actions on it.

On loopback it needs no login. On any other address it refuses to start without --auth, which may be given
several times: basic:USER:PASSWORD[:ROLE], bearer:TOKEN[:ROLE], header:NAME[:ROLE] (a proxy's) or
call:MODULE:NAME (a callable of yours). Roles are viewer, operator and admin. A password or token may be
@FILE or $NAME, so that it is not seen in the list of processes.
"""

from __future__ import annotations

import argparse
import ipaddress
import sys

from streamq.cli import CONFIG, OK, target
from streamq.dashboard import dashboard
from streamq.dashboard.access import Loopback, parse
from streamq.dashboard.serve import serve
from streamq.errors import UsageError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def arguments(parser: argparse.ArgumentParser) -> None:
    target.server_option(parser)
    parser.add_argument(
        "--app", help="the app's name (default: STREAMQ_APP, else the only one on the server)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8675, help="the port to listen on (8675; 0 for any)")
    parser.add_argument("--auth", action="append", default=[], metavar="HOW", help="who may come in")
    parser.add_argument("--read-only", action="store_true", help="nobody may do more than look")
    parser.add_argument(
        "--redact",
        action="append",
        default=[],
        metavar="FIELD",
        help="a payload field not to show, nor its value in errors",
    )
    parser.add_argument(
        "--hide-payloads", action="store_true", help="show no payload, result, message or traceback"
    )
    parser.add_argument(
        "--allowed-host", action="append", default=[], metavar="NAME", help="a name it may be asked for by"
    )
    parser.add_argument("--root-path", default="", help="the path under which a proxy publishes it")


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.port < 65536:
        raise UsageError(f"--port {args.port} is no port: give a number from 1 to 65535, or 0 for any")
    local = _loopback(args.host)
    if not local and not args.auth:
        sys.stderr.write(
            f"streamq: {args.host} can be reached from other hosts, and the dashboard can cancel and delete: "
            "give it --auth basic:NAME:@FILE (or bearer:, header:, call:), or leave --host out\n"
        )
        return CONFIG
    entries = [parse(text) for text in args.auth] or [Loopback()]
    hosts = [*LOOPBACK_NAMES, *args.allowed_host] if local else args.allowed_host or None
    found = target.find(args, partly=True)
    site = dashboard(
        found,
        auth=entries,
        read_only=args.read_only,
        redact=args.redact,
        hide_payloads=args.hide_payloads,
        hosts=hosts,
    )
    serve(site, args.host, args.port, _told, root_path=args.root_path)
    return OK


def _told(url: str) -> None:
    sys.stderr.write(f"streamq: the dashboard is at {url}\n")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

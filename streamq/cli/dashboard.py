"""Serve the dashboard: web pages and JSON about a queue, with actions.

On loopback it prints a login link, which works once, for one browser; then it prints a new one. On any other
address it refuses to start without --auth, which may be repeated: basic:USER:PASSWORD[:ROLE],
bearer:TOKEN[:ROLE], header:NAME[:ROLE] (set by a proxy that is named with --proxy), call:MODULE:NAME (your
callable) or none (every client is admin). Roles are viewer, operator and admin. A password or token may be
@FILE or $NAME, so that it does not appear in the list of processes.
"""

from __future__ import annotations

import argparse
import ipaddress
from contextlib import suppress
from functools import partial
from typing import Any

from streamq import environment
from streamq.cli import signals, target
from streamq.cli.output import write_message
from streamq.dashboard import dashboard, several, trace_links, waiting
from streamq.dashboard.auth import LoginLink, parse
from streamq.dashboard.login_texts import TOKEN
from streamq.dashboard.security import LOOPBACK_NAMES
from streamq.dashboard.server import serve
from streamq.errors import RedisError, RedisUnavailable, UsageError
from streamq.exit_codes import CONFIG, OK


def arguments(parser: argparse.ArgumentParser) -> None:
    target.server_option(parser)
    parser.add_argument(
        "--app", help="the app's name (default: STREAMQ_APP, else all on the server, with a switcher)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8675, help="the port to listen on (8675; 0 for any)")
    _security_options(parser)
    parser.add_argument(
        "--trace-url",
        metavar="URL",
        help="where traces are shown, with {trace_id} in it (default: STREAMQ_TRACE_URL)",
    )
    parser.add_argument("--root-path", default="", help="the path under which a proxy publishes it")


def _security_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--auth", action="append", default=[], metavar="HOW", help="a way to log in")
    parser.add_argument("--read-only", action="store_true", help="allow no actions, whatever the role")
    parser.add_argument(
        "--redact",
        action="append",
        default=[],
        metavar="FIELD",
        help="a payload field to hide, also its value in errors",
    )
    parser.add_argument(
        "--hide-payloads", action="store_true", help="show no payload, result, message or traceback"
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name to accept, besides localhost; * accepts any",
    )
    parser.add_argument(
        "--proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a proxy in front (address, network or unix) trusted for --auth header: and X-Forwarded-For",
    )
    parser.add_argument(
        "--secure-cookies", action="store_true", help="browsers use TLS to reach it, through a proxy"
    )


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.port < 65536:
        raise UsageError(f"--port {args.port} is not a port: use a number from 1 to 65535, or 0 for any")
    local = _loopback(args.host)
    if not local and not args.auth:
        write_message(
            f"{args.host} is reachable from other hosts, and the dashboard can cancel and delete: "
            "add --auth basic:NAME:@FILE (or bearer:, header:, call:), or leave out --host"
        )
        return CONFIG
    announcer = _Announcer()
    entries = [parse(text, args.proxy) for text in args.auth] or [announcer.link]
    hosts = [*LOOPBACK_NAMES, *args.allowed_host] if local or args.allowed_host else None
    ready = announcer.ready if args.auth else announcer.ready_by_link
    with signals.as_success():
        site = _site(args, entries, hosts)
        serve(site, args.host, args.port, ready, root_path=args.root_path)
    return OK


def _site(args: argparse.Namespace, entries: list[Any], hosts: list[str] | None) -> Any:
    """Return the site, with a waiting page if there is no queue yet."""
    shown: dict[str, Any] = {
        "read_only": args.read_only,
        "redact": tuple(args.redact),
        "hide_payloads": args.hide_payloads,
        "trace_url": trace_links.check(args.trace_url or environment.TRACE_URL.get()),
    }
    security: dict[str, Any] = {
        "auth": entries,
        "hosts": hosts,
        "secure_cookies": args.secure_cookies,
        "proxies": args.proxy,
    }
    try:
        if len(_apps(args)) > 1:
            find = partial(_one_of, args)
            return several(lambda: target.names(args), find, **shown, **security)
        return dashboard(target.find(args, partly=True), **shown, **security)
    except (RedisUnavailable, target.NoAppYet) as error:
        write_message(str(error))
        write_message("the dashboard waits for it")
        name = args.app or environment.APP.get() or "streamq"
        return waiting(lambda: target.find(args, partly=True), error, name=name, **shown, **security)


def _apps(args: argparse.Namespace) -> list[str]:
    """Return the apps to choose from; none where one is named, or where `find` says what is wrong."""
    if not target.named(args):
        with suppress(RedisError):
            return target.names(args)
    return []


def _one_of(args: argparse.Namespace, name: str) -> target.Target:
    """Return an app as if the arguments named it."""
    return target.find(argparse.Namespace(**{**vars(args), "app": name}))


class _Announcer:
    """Prints the server's URL and its login links."""

    def __init__(self) -> None:
        self._url = ""
        self.link = LoginLink(self._used)

    def ready(self, url: str) -> None:
        write_message(f"the dashboard is at {url}")

    def ready_by_link(self, url: str) -> None:
        self._url = url
        self.ready(f"{url}?{TOKEN}={self.link.link_token} (this link works once)")

    def _used(self, token: str) -> None:
        write_message(f"a browser has logged in; for another one: {self._url}?{TOKEN}={token}")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

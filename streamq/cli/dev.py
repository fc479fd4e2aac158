"""Run an app while you write it: a server, a worker, a daemon and the dashboard in one terminal.

APP is module:attribute. The server starts on localhost:6379 if that port is free, so that programs find it
without configuration. It keeps no data unless --data names a folder; STREAMQ_URL is ignored. Saving a Python
file restarts the worker: running tasks may finish within --drain-timeout, the rest is handed back. If code
cannot be imported, the error is shown and the next save is waited for. Ctrl-C ends everything.
`pip install 'streamq[dev-server]'` installs all that it uses. Not for production.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from streamq.cli.worker import import_option, imports
from streamq.errors import UsageError
from streamq.exit_codes import OK
from streamq.options.checks import seconds, whole
from streamq.telemetry import logs
from streamq.transport.address import Address


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", metavar="APP", help="the app: module:attribute, such as tasks:app")
    import_option(parser)
    parser.add_argument("--sample", action="store_true", help="enqueue a few made-up tasks of each type")
    parser.add_argument("--data", metavar="FOLDER", help="keep the server's data here (default: not kept)")
    parser.add_argument("--url", help="use this running server")
    parser.add_argument(
        "--server-port", type=int, metavar="PORT", help="port of the server (6379, else a free one)"
    )
    parser.add_argument(
        "--port", type=int, metavar="PORT", help="port of the dashboard (8675, else a free one)"
    )
    parser.add_argument("--no-dashboard", action="store_true", help="without the dashboard")
    parser.add_argument("--concurrency", type=int, default=10, help="tasks at the same time (10)")
    parser.add_argument(
        "--drain-timeout", default="2s", metavar="DURATION", help="time for running tasks to finish (2s)"
    )
    parser.add_argument(
        "--watch",
        action="append",
        default=[],
        metavar="FOLDER",
        help="another folder to watch (this folder is watched)",
    )
    parser.add_argument("--log-level", choices=logs.LEVELS, default="info", help="least level to log (info)")


def run(args: argparse.Namespace) -> int:
    from streamq.dev.session import Session, SessionOptions

    if args.url and (args.data or args.server_port is not None):
        raise UsageError("dev: --url uses a running server: leave out --data and --server-port")
    options = SessionOptions(
        app=_reference(args.app),
        imports=imports(args),
        url=_server(args.url),
        data=Path(args.data) if args.data else None,
        server_port=_port(args.server_port, "--server-port"),
        dashboard=not args.no_dashboard,
        dashboard_port=_port(args.port, "--port"),
        sample=args.sample,
        concurrency=whole(args.concurrency, "--concurrency", least=1),
        drain_timeout=seconds(args.drain_timeout, "--drain-timeout"),
        log_level=args.log_level,
        folders=[_folder(text) for text in args.watch],
    )
    asyncio.run(_run(Session, options))
    return OK


async def _run(make: Any, options: Any) -> None:
    await make(options).run()


def _reference(app: str) -> str:
    module, _, _ = app.partition(":")
    if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
        raise UsageError(f"{app[:120]!r} is not an app: write it as module:attribute, such as tasks:app")
    return app


def _server(url: str | None) -> str | None:
    if url is not None and Address.parse(url).kind == "embedded":
        raise UsageError(
            "dev starts an embedded server itself: leave out --url, and name its folder with --data"
        )
    return url


def _port(number: int | None, option: str) -> int | None:
    if number is not None and not 0 < number < 65536:
        raise UsageError(f"{option} {number} is not a port: use a number from 1 to 65535")
    return number


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise UsageError(f"--watch {text[:200]!r} is not a folder")
    return Path(text)

"""Run the daemon, for every app of the server: promote delayed tasks, reclaim those of dead workers, tidy up.

Needs no user code. Run two on different hosts: they share the work, and either can do it alone.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from streamq.cli import listen, target
from streamq.cli.worker import log_options
from streamq.daemon.daemon import Daemon
from streamq.exit_codes import OK
from streamq.options.checks import seconds
from streamq.options.names import check_name
from streamq.options.service import DaemonOptions
from streamq.probes.http_server import WebServer, unlink
from streamq.probes.listen import Listen
from streamq.probes.routes import routes
from streamq.probes.systemd_notifier import SystemdNotifier
from streamq.telemetry import logs
from streamq.transport.address import Address


def arguments(parser: argparse.ArgumentParser) -> None:
    target.server_option(parser)
    parser.add_argument("--app", help="serve this app only (default: all of the server)")
    parser.add_argument("--claim-interval", default="3s", help="interval of checks for silent workers (3s)")
    parser.add_argument("--tidy-interval", default="30s", help="interval of housekeeping (30s)")
    parser.add_argument("--expire-interval", default="10s", help="interval of checks for expired tasks (10s)")
    listen.options(parser)
    log_options(parser)


def run(args: argparse.Namespace) -> int:
    from streamq.worker.loading import refuse_embedded
    from streamq.worker.process_exit import run_loop

    address = target.address(args)
    refuse_embedded(address, "daemon")
    logs.configure(args.log_level, args.log_format)
    if args.app is not None:
        check_name(args.app, "an app")
    options = DaemonOptions(
        claim_interval=seconds(args.claim_interval, "--claim-interval"),
        tidy_interval=seconds(args.tidy_interval, "--tidy-interval"),
        expire_interval=seconds(args.expire_interval, "--expire-interval"),
    )
    run_loop(_serve(address, options, args.app, listen.listen(args)))
    return OK


async def _serve(address: Address, options: DaemonOptions, only: str | None, where: Listen) -> None:
    daemon = Daemon(address, options, only=only)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, daemon.stop)
    web = WebServer(routes(daemon, knows_queue=True), where.names)
    await web.start(where.sockets())
    sentry = SystemdNotifier(daemon)
    if SystemdNotifier.is_available():
        sentry.start()
    try:
        await daemon.run()
    finally:
        await asyncio.to_thread(sentry.stop)
        await web.aclose()
        unlink(where)

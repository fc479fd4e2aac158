"""Run an app's tasks: a group of processes on this host under one supervisor.

APP is module:attribute. SIGTERM or Ctrl-C: take no more tasks, let those that run finish within
--drain-timeout, hand the rest back, exit 0. A second signal ends at once and hands back.
"""

from __future__ import annotations

import argparse
import sys

from streamq import environment, telemetry
from streamq.cli import CONFIG, listen, target
from streamq.errors import CannotListen, StreamQError, UsageError
from streamq.options import WorkerOptions, seconds, whole
from streamq.transport import Address


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", metavar="APP", help="the app: module:attribute, such as shop.tasks:app")
    parser.add_argument("--processes", type=int, default=1, help="worker processes (1)")
    parser.add_argument(
        "--concurrency", type=int, default=100, help="tasks at the same time in a process (100)"
    )
    parser.add_argument("--types", metavar="TYPE", help="serve these task types only, separated by commas")
    parser.add_argument("--drain-timeout", default="30s", help="for running tasks to finish at the end (30s)")
    parser.add_argument(
        "--process-slots", type=int, help="processes for executor='process' handlers (one a core)"
    )
    parser.add_argument("--with-daemon", action="store_true", help="run the daemon too, for small set-ups")
    target.server_option(parser)
    listen.options(parser)
    log_options(parser)


def log_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-level", choices=telemetry.LEVELS, default="info", help="from which on (info)")
    parser.add_argument(
        "--log-format", choices=telemetry.FORMATS, default="auto", help="auto: console on a terminal"
    )


def run(args: argparse.Namespace) -> int:
    from streamq.worker import WorkerGroup

    options = worker_options(args)
    telemetry.configure(args.log_level, args.log_format)
    where = listen.listen(args)
    processes = whole(args.processes, "--processes", least=1)
    try:
        # An embedded server, for development, belongs to this process: it is needed before the workers are.
        url = _embedded(args, options) if environment.ENV.get() == "dev" else args.url
        group = WorkerGroup(
            args.app, options, processes=processes, url=url, prefix=args.prefix,
            with_daemon=args.with_daemon,
            log_level=args.log_level, log_format=args.log_format, listen=where,
        )  # fmt: skip
        return group.run(lambda: production(_checked(args, options), "worker"))
    except CannotListen:
        raise  # is no fault of the app
    except StreamQError as error:
        sys.stderr.write(f"streamq: {error}\n")
        return CONFIG


def _checked(args: argparse.Namespace, options: WorkerOptions) -> Address:
    """Where the app's queue is. Raises StreamQErrors where it cannot be served."""
    from streamq.worker.loading import located, served_types

    app = located(args.app, args.url, args.prefix)
    served_types(app.registry, options)
    return app.address


def _embedded(args: argparse.Namespace, options: WorkerOptions) -> str | None:
    address = _checked(args, options)
    url: str | None = address.socket_url if address.kind == "embedded" else args.url
    return url


def worker_options(args: argparse.Namespace) -> WorkerOptions:
    types = tuple(name.strip() for name in args.types.split(",") if name.strip()) if args.types else None
    return WorkerOptions(
        concurrency=args.concurrency,
        types=types,
        drain_timeout=seconds(args.drain_timeout, "--drain-timeout"),
        process_slots=args.process_slots,
    )


def production(address: Address, what: str) -> None:
    """Refuse the embedded server where it could be mistaken for a real one: it ends with this process."""
    if address.kind == "embedded" and environment.ENV.get() != "dev":
        raise UsageError(
            f"streamq {what} does not run on an embedded server, which ends with its process: "
            "name a server with --url or STREAMQ_URL, or set STREAMQ_ENV=dev if that is what you want"
        )

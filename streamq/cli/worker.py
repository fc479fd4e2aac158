"""Run an app's tasks: a group of processes on this host under one supervisor.

APP is module:attribute. On SIGTERM or Ctrl-C it fetches no more tasks, lets running tasks finish within
--drain-timeout, hands the rest back and exits with 0. A second signal ends it at once and hands back.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from streamq import environment
from streamq.cli import listen, target
from streamq.cli.output import write_message
from streamq.errors import CannotListen, StreamQError
from streamq.exit_codes import CONFIG
from streamq.options import placement
from streamq.options.checks import seconds, whole
from streamq.options.names import check_imports
from streamq.options.service import WorkerOptions
from streamq.telemetry import logs
from streamq.transport.address import Address


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", metavar="APP", help="the app: module:attribute, such as shop.tasks:app")
    import_option(parser)
    parser.add_argument("--processes", type=int, default=1, help="worker processes (1)")
    parser.add_argument(
        "--concurrency", type=int, default=100, help="tasks at the same time in a process (100)"
    )
    parser.add_argument("--types", metavar="TYPE", help="serve these task types only, separated by commas")
    parser.add_argument("--queues", metavar="QUEUE", help="serve only types of these queues: media,default")
    parser.add_argument(
        "--pools", metavar="POOL", default="default",
        help="serve tasks for these pools: eu,default, where default is those that name none (default)",
    )  # fmt: skip
    parser.add_argument(
        "--resources", metavar="NAME=NUMBER", action="append", default=[],
        help="what a process has for types that need it, such as gpu=2 (may be repeated)",
    )  # fmt: skip
    _process_options(parser)
    parser.add_argument(
        "--with-daemon", action="store_true", help="run the daemon too, for small deployments"
    )
    target.server_option(parser)
    listen.options(parser)
    log_options(parser)


def _process_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--drain-timeout", default="30s", help="time for running tasks to finish at the end (30s)"
    )
    parser.add_argument(
        "--lifespan-timeout", default="10s", help="time for the app's lifespan to end, after the drain (10s)"
    )
    parser.add_argument(
        "--process-slots",
        type=int,
        help="child processes for executor='process' handlers (one for each core)",
    )
    parser.add_argument(
        "--burst", action="store_true", help="end with 0 when no task is ready, running or due"
    )
    parser.add_argument(
        "--recycle-after", type=int, metavar="TASKS", help="replace a process after about this many tasks"
    )
    parser.add_argument(
        "--recycle-rss", metavar="SIZE", help="replace a process that has grown above this size, such as 1GB"
    )


def log_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-level", choices=logs.LEVELS, default="info", help="least level to log (info)")
    parser.add_argument(
        "--log-format",
        choices=logs.FORMATS,
        default="auto",
        help="auto: console on a terminal, else JSON",
    )


def run(args: argparse.Namespace) -> int:
    options = worker_options(args)
    if environment.ENV.get() == "dev":
        # An embedded server, for development, belongs to this process: it is needed before the workers are.
        logs.configure(args.log_level, args.log_format)
        return _supervise(args, options, _embedded)
    with logs.supervising(args.log_level, args.log_format):
        return _supervise(args, options, lambda args: args.url)


def _supervise(
    args: argparse.Namespace, options: WorkerOptions, url_of: Callable[[argparse.Namespace], str | None]
) -> int:
    from streamq.supervisor.group import WorkerGroup

    where = listen.listen(args)
    processes = whole(args.processes, "--processes", least=1)
    try:
        group = WorkerGroup(
            args.app, options, processes=processes, url=url_of(args), prefix=args.prefix,
            with_daemon=args.with_daemon,
            log_level=args.log_level, log_format=args.log_format, listen=where, imports=imports(args),
        )  # fmt: skip
        return group.run()
    except CannotListen:
        raise  # not a fault of the app
    except StreamQError as error:
        write_message(f"{error}")
        return CONFIG


def _embedded(args: argparse.Namespace) -> str | None:
    """Return the URL of the embedded server, if the app's code or the option names one."""
    from streamq.worker.loading import load_app_at

    if args.url:
        address = Address.parse(args.url, prefix=args.prefix)
    else:
        address = load_app_at(args.app, None, args.prefix, imports(args)).address
    url: str | None = address.start_embedded() if address.kind == "embedded" else args.url
    return url


def import_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for modules with task types; `imports` reads it."""
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE",
        help="a module with task types, such as shop.mails (may be repeated)",
    )  # fmt: skip


def imports(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the named modules, each option one or several with commas. Raise InvalidOption."""
    return check_imports(name.strip() for text in args.imports for name in text.split(",") if name.strip())


def worker_options(args: argparse.Namespace) -> WorkerOptions:
    types = tuple(name.strip() for name in args.types.split(",") if name.strip()) if args.types else None
    return WorkerOptions(
        concurrency=args.concurrency,
        types=types,
        drain_timeout=seconds(args.drain_timeout, "--drain-timeout"),
        lifespan_timeout=seconds(args.lifespan_timeout, "--lifespan-timeout"),
        process_slots=args.process_slots,
        burst=args.burst,
        recycle_after=args.recycle_after,
        recycle_rss=args.recycle_rss,
        queues=None if args.queues is None else placement.labels(args.queues, "--queues"),
        pools=placement.labels(args.pools, "--pools"),
        resources=placement.resources_of(args.resources, "--resources") if args.resources else (),
    )

"""The addresses at which worker and daemon serve probes and metrics.

Owns the options that both share.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from streamq import environment
from streamq.errors import UsageError
from streamq.probes.listen import Listen
from streamq.telemetry import logs


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics-port", metavar="PORT",
        help="serve /metrics, /live and /ready on this port "
        f"(default: {environment.METRICS_PORT.name}, else nowhere)",
    )  # fmt: skip
    parser.add_argument(
        "--metrics-host", metavar="HOST",
        help="listen on this address; 0.0.0.0 opens it to the network "
        f"(default: {environment.METRICS_HOST.name}, else {environment.METRICS_HOST.default})",
    )  # fmt: skip
    parser.add_argument(
        "--metrics-name", metavar="NAME", action="append", default=[],
        help="a host name to accept there, besides addresses and names of the local network "
        f"(default: {environment.METRICS_NAMES.name})",
    )  # fmt: skip
    parser.add_argument(
        "--health-socket", metavar="PATH",
        help="serve the same on a unix socket, for `streamq check` "
        f"(default: {environment.HEALTH_SOCKET.name}, else nowhere)",
    )  # fmt: skip


def listen(args: argparse.Namespace) -> Listen:
    """Return the values of the options; raise UsageError if a port is not a port."""
    given = args.metrics_port or environment.METRICS_PORT.explicit()
    host = args.metrics_host or environment.METRICS_HOST.get()
    path = args.health_socket or environment.HEALTH_SOCKET.explicit()
    names = tuple(args.metrics_name or environment.METRICS_NAMES.get().replace(",", " ").split())
    found = Listen(None if given is None else read_port(given), host, Path(path) if path else None, names)
    if found.port is not None:
        _warn_if_metrics_are_missing()
    return found


def read_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise UsageError(f"--metrics-port {text!r} is not a port: use a number from 1 to 65535")
    return int(text)


def _warn_if_metrics_are_missing() -> None:
    """Warn if the extra for metrics is missing. The probes work without it, so it is not an error."""
    from streamq.telemetry import exposition

    try:
        exposition.library()
    except UsageError as error:
        logs.get_logger().warning("metrics.unavailable", fix=str(error))

"""Check whether a worker group or a daemon is ready: for the probes of containers and units.

With --port or --health-socket the process on this host is queried directly, without Redis. Without them the
heartbeats of this host's workers or daemons are read from the server: at least one must be alive, and none of
those that are alive may have a problem.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
from typing import Any

from streamq import environment
from streamq.cli import listen, target
from streamq.cli.output import write_json, write_lines
from streamq.control.heartbeats import daemons
from streamq.exit_codes import OK, UNHEALTHY
from streamq.flow import drive
from streamq.heartbeat import WorkerInfo
from streamq.transport.sync_transport import SyncTransport

TIMEOUT = 3.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("role", nargs="?", choices=("worker", "daemon"), help="the kind of process (any)")
    parser.add_argument("--live", action="store_true", help="check only whether it is alive")
    parser.add_argument(
        "--port", help=f"query 127.0.0.1 on this port (default: {environment.METRICS_PORT.name})"
    )
    parser.add_argument(
        "--health-socket",
        metavar="PATH",
        help=f"query this unix socket (default: {environment.HEALTH_SOCKET.name})",
    )
    parser.add_argument("--group", help="by heartbeats: the workers of this group (see `streamq workers`)")
    parser.add_argument("--name", metavar="WORKER", help="by heartbeats: this worker or daemon")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    health = _health(args)
    if args.json:
        write_json(health)
    else:
        write_lines(*map(str, health["problems"] or ["ok"]))
    return OK if health["ok"] else UNHEALTHY


def _health(args: argparse.Namespace) -> dict[str, Any]:
    reported = None if args.group or args.name else _from_process(args)
    health = _from_heartbeats(args) if reported is None else reported
    if args.role and health.get("role", args.role) != args.role:
        return {"ok": False, "problems": [f"the process is a {health['role']}, not a {args.role}"]}
    return health


def _from_process(args: argparse.Namespace) -> dict[str, object] | None:
    """Return the health that the process reports; None without a port or socket."""
    path = args.health_socket or ("" if args.port else environment.HEALTH_SOCKET.get())
    port = args.port or environment.METRICS_PORT.get()
    if not path and not port:
        return None
    connection = (
        _Local(path) if path else http.client.HTTPConnection("127.0.0.1", listen.read_port(port), TIMEOUT)
    )
    try:
        connection.timeout = TIMEOUT
        connection.request("GET", "/live" if args.live else "/ready")
        health: dict[str, object] = json.loads(connection.getresponse().read(65536))
    except (OSError, http.client.HTTPException, ValueError) as error:
        where = path or f"127.0.0.1:{port}"
        return {"ok": False, "problems": [f"no streamq process responds at {where}: {error}"]}
    finally:
        connection.close()
    return health


class _Local(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


def _from_heartbeats(args: argparse.Namespace) -> dict[str, object]:
    role, host = args.role or "worker", socket.gethostname()
    found = [
        one
        for one in _processes(args, role)
        if (args.name or args.group or one.details.get("host") == host)
        and args.name in (None, one.name)
        and args.group in (None, one.details.get("group"))
    ]
    alive = [one for one in found if one.alive]
    problems = [] if alive else [_none_alive(args, role, host, len(found))]
    for one in [] if args.live else alive:
        if one.details.get("draining"):
            problems.append(f"{one.name}: is draining")
        reported = one.details.get("problems")
        problems += map(str, reported) if isinstance(reported, list) else []
    return {"ok": not problems, "problems": problems, "role": role, "alive": [one.name for one in alive]}


def _processes(args: argparse.Namespace, role: str) -> list[WorkerInfo]:
    if role == "worker":
        return target.find(args).inspector.workers()
    transport = SyncTransport(target.address(args), patience=target.PATIENCE)
    try:
        return drive(transport, daemons(transport.address.namespace))
    finally:
        transport.close()


def _none_alive(args: argparse.Namespace, role: str, host: str, silent: int) -> str:
    where = f"called {args.name}" if args.name else f"of group {args.group}" if args.group else f"on {host}"
    return f"no {role} {where} is alive" + (f"; {silent} sent no heartbeats lately" if silent else "")

"""Run a part in its process: `python -m streamq.dev.inside ROLE PLAN`.

Owns how each part is assembled. A part ends with the process that started it, however that ends: its standard
input is a pipe from there.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final, NoReturn, cast

import orjson

from streamq import exit_codes, printable
from streamq.control.inspector import Inspector
from streamq.daemon.daemon import Daemon
from streamq.dev import example
from streamq.dev.plan import Plan, Report
from streamq.errors import StreamQError, UsageError
from streamq.options.service import DaemonOptions, WorkerOptions
from streamq.supervisor import entry_points
from streamq.supervisor.member import run_service
from streamq.supervisor.spec import Launch
from streamq.telemetry import logs
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from streamq.worker.loading import load_app

if TYPE_CHECKING:
    from streamq.app.app import StreamQ
    from streamq.app.handle import TaskHandle
    from streamq.control.admin import Admin
    from streamq.control.flows import Flows
    from streamq.control.schedules import Schedules
    from streamq.registry.handler import Handler

DASHBOARD_HOST: Final = "127.0.0.1"
SAMPLES: Final = 3
GRACE: Final = 10.0
_QUICK: Final = DaemonOptions(discover_interval=1.0, claim_interval=1.0, sample_interval=5.0, heartbeat=2.0)
"""For one app on one host: new task types are found at once."""


def main() -> NoReturn:
    role, plan = sys.argv[1], Plan.parse(sys.argv[2])
    threading.Thread(target=_end_with_parent, name="streamq-parent", daemon=True).start()
    try:
        ROLES[role](plan)
    except StreamQError as error:
        _write(str(error))
        sys.exit(exit_codes.CONFIG)
    sys.exit(0)


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE)
    os._exit(1)


def _app(plan: Plan) -> StreamQ:
    """Return the app. Raise UsageError if it cannot be imported, or if its code names another server: what
    its handlers enqueue would not be visible here."""
    app = cast("StreamQ", load_app(plan.app, plan.imports))
    named = getattr(app, "url_from", "code") == "code"
    if named and _server_of(app.address) != _server_of(Address.parse(plan.url)):
        here = Address.parse(plan.url)
        raise UsageError(
            f"the app's code names the server {app.address}, but this session's is {here}: leave it out of "
            "the code (STREAMQ_URL then names the server), or give streamq dev the same with --url"
        )
    return app


def _server_of(address: Address) -> tuple[object, ...]:
    have = address.arguments
    host = {"localhost": "127.0.0.1"}.get(have.get("host", ""), have.get("host"))
    return address.kind, host, have.get("port"), have.get("path"), have.get("db", 0), str(address.data_dir)


def _worker(plan: Plan) -> None:
    app = _app(plan)
    types = {name: _json(handler) for name, handler in sorted(app.registry.handlers.items())}
    report: Report = {"name": app.registry.name, "prefix": app.address.prefix, "types": types}
    sys.stdout.write(plan.mark + orjson.dumps(report).decode() + "\n")
    sys.stdout.flush()
    options = WorkerOptions(concurrency=plan.concurrency, drain_timeout=plan.drain_timeout, heartbeat=2.0)
    entry_points.worker(
        Launch(plan.app, plan.url, options, "dev", plan.log_level, "console", imports=tuple(plan.imports)),
        None,
    )


def _json(handler: Handler) -> str | None:
    """Return sample arguments as an operator would type them."""
    given = example.arguments(handler.function)
    if given is None:
        return None
    try:
        return orjson.dumps(given, default=str).decode()
    except TypeError:
        return None


def _daemon(plan: Plan) -> None:
    launch = Launch(plan.app, plan.url, WorkerOptions(), "dev", plan.log_level, "console")
    run_service(
        lambda: Daemon(Address.parse(plan.url, prefix=plan.prefix), _QUICK, only=plan.name), launch, None
    )


class _Queue:
    """The part of an app that the dashboard needs."""

    def __init__(self, plan: Plan) -> None:
        address = Address.parse(plan.url, prefix=plan.prefix)
        self.name = address.namespace.app(plan.name)
        self._transport = SyncTransport(address, patience=2.0)

    @property
    def inspector(self) -> Inspector:
        return Inspector(self._transport, self.name)

    @property
    def admin(self) -> Admin:
        from streamq.control.admin import Admin  # noqa: PLC0415 - only here

        return Admin(self._transport, self.name)

    @property
    def schedules(self) -> Schedules:
        from streamq.control.schedules import Schedules  # noqa: PLC0415 - only here

        return Schedules(self._transport, self.name)

    @property
    def flows(self) -> Flows:
        from streamq.control.flows import Flows  # noqa: PLC0415 - only here

        return Flows(self._transport, self.name)


def _dashboard(plan: Plan) -> None:
    from streamq.dashboard import LoginLink, dashboard  # noqa: PLC0415 - needs an extra
    from streamq.dashboard.server import serve as serve_site  # noqa: PLC0415

    url = f"http://{DASHBOARD_HOST}:{plan.port}/"
    link = LoginLink(lambda token: _write(f"a browser has logged in; for another one: {url}?token={token}"))
    site = dashboard(_Queue(plan), auth=link)
    serve_site(site, DASHBOARD_HOST, plan.port, lambda url: _write(f"ready at {url}?token={link.link_token}"))


def _sample(plan: Plan) -> None:
    """Enqueue a few tasks of each type, and log how they end."""
    logs.configure("warning", "console")
    app = _app(plan)
    handles: list[TaskHandle[object]] = []
    for name, handler in sorted(app.registry.handlers.items()):
        given = example.arguments(handler.function)
        if given is None:
            _write(f"no sample arguments for {name}: enqueue one by hand")
            continue
        for _ in range(SAMPLES):
            handles.append(app.send(name, given))
            _write(f"enqueued {handles[-1].id} {_json(handler)}")
    for handle in handles:
        try:
            _write(f"{handle.id} returned {handle.result(timeout=30)!r}")
        except StreamQError as error:
            _write(f"{handle.id}: {type(error).__name__}: {error}")


def _write(text: str) -> None:
    sys.stderr.write(f"{printable.line(text)}\n")


ROLES: Final = {"worker": _worker, "daemon": _daemon, "dashboard": _dashboard, "sample": _sample}

if __name__ == "__main__":
    main()

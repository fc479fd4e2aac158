"""What runs in the process of a part: `python -m streamq.dev.inside ROLE PLAN`.

Owns the wiring of each. A part ends with the process that started it, however that ends: its standard input
is a pipe from there.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any, Final, NoReturn

import orjson

from streamq import exit_codes, printable
from streamq.control.inspector import Inspector
from streamq.daemon.daemon import Daemon
from streamq.dev import example
from streamq.dev.plan import Plan
from streamq.errors import StreamQError, UsageError
from streamq.options.service import DaemonOptions, WorkerOptions
from streamq.supervisor import entry_points
from streamq.supervisor.member import live
from streamq.supervisor.spec import Launch
from streamq.telemetry import logs
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from streamq.worker.loading import load_app

DASHBOARD_HOST: Final = "127.0.0.1"
SAMPLES: Final = 3
GRACE: Final = 10.0
_QUICK: Final = DaemonOptions(discover_interval=1.0, claim_interval=1.0, sample_interval=5.0, heartbeat=2.0)
"""One app on this host: its new task types are met at once."""


def main() -> NoReturn:
    role, plan = sys.argv[1], Plan.parse(sys.argv[2])
    threading.Thread(target=_end_with_parent, name="streamq-parent", daemon=True).start()
    try:
        ROLES[role](plan)
    except StreamQError as error:
        _say(str(error))
        sys.exit(exit_codes.CONFIG)
    sys.exit(0)


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE)
    os._exit(1)


def _app(plan: Plan) -> Any:
    """The app. UsageError where it cannot be imported, or where its code names another server: what its
    handlers enqueue would not be seen here."""
    app: Any = load_app(plan.app, plan.imports)
    named = getattr(app, "url_from", "code") == "code"
    if named and _place(app.address) != _place(Address.parse(plan.url)):
        here = Address.parse(plan.url)
        raise UsageError(
            f"the app's code names the server {app.address}, but this session's is {here}: leave it out of "
            "the code (STREAMQ_URL then names the server), or give streamq dev the same with --url"
        )
    return app


def _place(address: Address) -> tuple[object, ...]:
    have = address.arguments
    host = {"localhost": "127.0.0.1"}.get(have.get("host", ""), have.get("host"))
    return address.kind, host, have.get("port"), have.get("path"), have.get("db", 0), str(address.data_dir)


def _worker(plan: Plan) -> None:
    app = _app(plan)
    types = {name: _json(handler) for name, handler in sorted(app.registry.handlers.items())}
    said = {"name": app.registry.name, "prefix": app.address.prefix, "types": types}
    sys.stdout.write(plan.mark + orjson.dumps(said).decode() + "\n")
    sys.stdout.flush()
    options = WorkerOptions(concurrency=plan.concurrency, drain_timeout=plan.drain_timeout, heartbeat=2.0)
    entry_points.worker(
        Launch(plan.app, plan.url, options, "dev", plan.log_level, "console", imports=tuple(plan.imports)),
        None,
    )


def _json(handler: Any) -> str | None:
    """Sample arguments as an operator would type them."""
    given = example.arguments(handler.function)
    if given is None:
        return None
    try:
        return orjson.dumps(given, default=str).decode()
    except TypeError:
        return None


def _daemon(plan: Plan) -> None:
    told = Launch(plan.app, plan.url, WorkerOptions(), "dev", plan.log_level, "console")
    live(lambda: Daemon(Address.parse(plan.url, prefix=plan.prefix), _QUICK, only=plan.name), told, None)


class _Queue:
    """What the dashboard needs of an app."""

    def __init__(self, plan: Plan) -> None:
        address = Address.parse(plan.url, prefix=plan.prefix)
        self.name = address.namespace.app(plan.name)
        self._transport = SyncTransport(address, patience=2.0)

    @property
    def inspector(self) -> Inspector:
        return Inspector(self._transport, self.name)

    @property
    def admin(self) -> Any:
        from streamq.control.admin import Admin  # noqa: PLC0415 - only here

        return Admin(self._transport, self.name)

    @property
    def schedules(self) -> Any:
        from streamq.control.schedules import Schedules  # noqa: PLC0415 - only here

        return Schedules(self._transport, self.name)


def _dashboard(plan: Plan) -> None:
    from streamq.dashboard import LoginLink, dashboard  # noqa: PLC0415 - needs an extra
    from streamq.dashboard.server import serve as serve_site  # noqa: PLC0415

    url = f"http://{DASHBOARD_HOST}:{plan.port}/"
    link = LoginLink(lambda token: _say(f"a browser has logged in; for another one: {url}?token={token}"))
    site = dashboard(_Queue(plan), auth=link)
    serve_site(site, DASHBOARD_HOST, plan.port, lambda url: _say(f"ready at {url}?token={link.link_token}"))


def _sample(plan: Plan) -> None:
    """Enqueue a few tasks of each type, and say how they end."""
    logs.configure("warning", "console")
    app, handles = _app(plan), list[Any]()
    for name, handler in sorted(app.registry.handlers.items()):
        given = example.arguments(handler.function)
        if given is None:
            _say(f"nothing can be made up for the arguments of {name}: enqueue one by hand")
            continue
        for _ in range(SAMPLES):
            handles.append(app.send(name, given))
            _say(f"enqueued {handles[-1].id} {_json(handler)}")
    for handle in handles:
        try:
            _say(f"{handle.id} answered {handle.result(timeout=30)!r}")
        except StreamQError as error:
            _say(f"{handle.id}: {type(error).__name__}: {error}")


def _say(text: str) -> None:
    sys.stderr.write(f"{printable.line(text)}\n")


ROLES: Final = {"worker": _worker, "daemon": _daemon, "dashboard": _dashboard, "sample": _sample}

if __name__ == "__main__":
    main()

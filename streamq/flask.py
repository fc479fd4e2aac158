"""streamq in a Flask application: an application context around each attempt, and `flask streamq worker`.

Owns the extension and the command. A worker finds its queue as `streamq.flask:queue`: that of the Flask
application which `FLASK_APP` names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import click
from flask import Flask
from flask.cli import NoAppException, ScriptInfo, pass_script_info

from streamq import environment
from streamq.app.app import StreamQ
from streamq.context import Context
from streamq.errors import UsageError
from streamq.transport.address import Address

_EXTENSION: Final = "streamq"


class FlaskStreamQ:
    """The extension: `FlaskStreamQ(queue, app)`, or `init_app` in an application factory.

    Handlers run in an application context of their own, so `current_app`, `g` and extensions such as
    Flask-SQLAlchemy work in them, and their teardown functions run after each attempt. The setting
    `STREAMQ_URL` of the application names the server.
    """

    def __init__(self, queue: StreamQ, app: Flask | None = None) -> None:
        self.queue: StreamQ = queue
        self._app: Flask | None = None
        queue.around_attempt(self._in_context)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Bind the queue to an application; the last one counts. Raises InvalidURL."""
        self._app = app
        app.extensions[_EXTENSION] = self
        app.cli.add_command(command)
        if url := app.config.get(environment.URL.name):
            address = Address.parse(url, "code", prefix=self.queue.address.prefix)
            self.queue._move_to(address)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - before its first call

    def _in_context(self, _context: Context) -> Iterator[None]:
        if self._app is None:
            raise UsageError(
                "FlaskStreamQ has no application: call init_app(app), and start the worker with flask"
            )
        with self._app.app_context():
            yield


def __getattr__(name: str) -> Any:
    """Return the queue of the Flask application that FLASK_APP names, for `streamq.flask:queue`."""
    if name != "queue":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return _queue_of(ScriptInfo(os.environ.get("FLASK_APP")).load_app())
    except NoAppException as error:
        raise UsageError(f"streamq.flask:queue: {error.format_message()}") from None


def _queue_of(app: Flask) -> StreamQ:
    found = app.extensions.get(_EXTENSION)
    if not isinstance(found, FlaskStreamQ):
        raise UsageError(f"the Flask application {app.name!r} has no queue: add FlaskStreamQ(queue, app)")
    return found.queue


@click.command(
    "streamq",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    help="Run a command of streamq for this application: flask streamq worker --concurrency 4",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_script_info
def command(info: ScriptInfo, arguments: tuple[str, ...]) -> None:
    """Run `streamq COMMAND`, for the queue of the Flask application."""
    from streamq.cli import main  # noqa: PLC0415 - with this command only

    queue = _queue_of(info.load_app())
    if info.app_import_path:
        os.environ["FLASK_APP"] = info.app_import_path  # processes that the worker starts load it too
    app = info.load_app()
    if url := app.config.get(environment.URL.name):
        os.environ[environment.URL.name] = url
    os.environ.setdefault(environment.APP.name, str(queue.name))
    given = list(arguments)
    raise SystemExit(
        main([*given[:1], "streamq.flask:queue", *given[1:]] if given[:1] == ["worker"] else given)
    )

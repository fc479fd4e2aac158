"""From `module:attribute` to an app, and which of its task types a worker serves.

Owns the import of the user's module and what is wrong with it. Connects to nothing and loads no more than
that.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from streamq import environment
from streamq.app import Registry
from streamq.errors import StreamQError, UsageError
from streamq.fingerprint import place
from streamq.namespace import check_prefix
from streamq.options import WorkerOptions
from streamq.transport import Address


class App(Protocol):
    """What a worker needs of an app."""

    @property
    def registry(self) -> Registry: ...
    @property
    def address(self) -> Address: ...


def load_app(reference: str) -> App:
    """Import `module:attribute` (`module` alone means `module:app`). Raises UsageError."""
    module, _, attribute = reference.partition(":")
    if not module:
        raise UsageError(f"{reference!r} names no app: write it as module:attribute, such as shop.tasks:app")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _imported(module)
    for part in (attribute or "app").split("."):
        found = getattr(found, part, None)
    if not hasattr(found, "registry") or not hasattr(found, "address"):
        raise UsageError(f"{module!r} has no StreamQ app called {attribute or 'app'!r}")
    app: App = found
    return app


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except StreamQError:
        raise  # it says what is wrong with the app
    except ModuleNotFoundError as error:
        if error.name is not None and module.split(".", maxsplit=1)[0] == error.name.split(".")[0]:
            raise UsageError(
                f"there is no module {error.name!r} here: write the app as module:attribute"
            ) from None
        raise _broken(module, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(module, error) from error


def _broken(module: str, error: BaseException) -> UsageError:
    """What is wrong with a module, with the place in the user's code."""
    if isinstance(error, SyntaxError):
        where, said = f"{error.filename}:{error.lineno}", error.msg
    else:
        where = str(place("".join(traceback.format_exception(error))) or module)
        said = " ".join(str(error).split())
    return UsageError(f"{module} cannot be imported: {where}: {type(error).__name__}: {said}")


class _At:
    """An app at another address than its own."""

    def __init__(self, app: App, address: Address) -> None:
        self.registry = copy(app.registry)
        self.registry.name = address.namespace.app(app.registry.name)
        self.address = address


def located(reference: str, url: str | None, prefix: str | None = None) -> App:
    """The app, at another server or under another prefix where one is given. Raises UsageError."""
    app = load_app(reference)
    if url is None and prefix is None:
        return app
    prefix = app.address.prefix if prefix is None else prefix
    if url is None:
        return _At(app, replace(app.address, prefix=check_prefix(prefix)))
    return _At(app, Address.parse(url, "option", prefix=prefix))


def production(address: Address, what: str) -> None:
    """Refuse the embedded server where it could be mistaken for a real one: it ends with this process."""
    if address.kind == "embedded" and environment.ENV.get() != "dev":
        raise UsageError(
            f"streamq {what} does not run on an embedded server, which ends with its process: "
            "name a server with --url or STREAMQ_URL, or set STREAMQ_ENV=dev if that is what you want"
        )


def served_types(registry: Registry, options: WorkerOptions) -> list[str]:
    """The types to serve; UnknownTaskType or UsageError where that cannot be."""
    if options.types is not None:
        if not options.types:
            raise UsageError("types=() serves nothing: name some, or leave it out to serve all")
        return sorted({registry.get(name).name for name in options.types})
    if not registry.handlers:
        raise UsageError(f"app {registry.name!r} has no task types: decorate a function with @app.task")
    return sorted(registry.handlers)

"""Loads an app from `module:attribute`.

Owns the import of the user's modules and its errors. Must not connect to anything.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Protocol, TypeGuard

from streamq import environment
from streamq.errors import StreamQError, UsageError
from streamq.fingerprint import raised_at
from streamq.namespace import check_prefix
from streamq.options.names import check_imports
from streamq.registry.registry import Registry
from streamq.transport.address import Address


class App(Protocol):
    """The parts of an app that a worker uses."""

    @property
    def registry(self) -> Registry: ...
    @property
    def address(self) -> Address: ...


def load_app(reference: str, imports: Iterable[str] = ()) -> App:
    """Import `module:attribute` (`module` alone means `module:app`), and the modules that define its task
    types: those that the app names, and `imports`. Raise UsageError."""
    module, _, attribute = reference.partition(":")
    if not module:
        raise UsageError(
            f"{reference!r} does not name an app: write module:attribute, such as shop.tasks:app"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: object = _import(module)
    for part in (attribute or "app").split("."):
        found = getattr(found, part, None)
    if not _is_app(found):
        apps = [name for name, value in vars(sys.modules[module]).items() if _is_app(value)]
        hint = f": write {module}:{apps[0]}" if apps else ""
        raise UsageError(f"{module!r} has no StreamQ app called {attribute or 'app'!r}{hint}")
    import_modules((*getattr(found.registry, "imports", ()), *check_imports(imports)))
    return found


def _is_app(value: object) -> TypeGuard[App]:
    return hasattr(value, "registry") and hasattr(value, "address")


def import_modules(names: Iterable[str]) -> None:
    """Import the modules that define task types. Raise UsageError."""
    for name in names:
        _import(name, "check imports=[...] and --import")


def _import(module: str, fix: str = "write the app as module:attribute") -> ModuleType:
    try:
        return importlib.import_module(module)
    except StreamQError:
        raise  # describes what is wrong with the app
    except ModuleNotFoundError as error:
        if error.name is not None and module.split(".", maxsplit=1)[0] == error.name.split(".")[0]:
            raise UsageError(f"there is no module {error.name!r} here: {fix}") from None
        raise _import_error(module, error) from error
    except (Exception, SystemExit) as error:
        raise _import_error(module, error) from error


def _import_error(module: str, error: BaseException) -> UsageError:
    """Return the error of a module that cannot be imported, with the place in the user's code."""
    if isinstance(error, SyntaxError):
        where, message = f"{error.filename}:{error.lineno}", error.msg
    else:
        where = str(raised_at(error.__traceback__) or module)
        message = " ".join(str(error).split())
    return UsageError(f"{module} cannot be imported: {where}: {type(error).__name__}: {message}")


class _RelocatedApp:
    """An app with another address than its own."""

    def __init__(self, app: App, address: Address) -> None:
        self.registry = copy(app.registry)
        self.registry.name = address.namespace.app(app.registry.name)
        self.address = address
        if app.registry.home_of_contexts is not None:  # what handlers start goes where their worker is
            app.registry.home_of_contexts.move(address)


def load_app_at(
    reference: str, url: str | None, prefix: str | None = None, imports: Iterable[str] = ()
) -> App:
    """Load an app, with another server or prefix unless they are None. Raise UsageError."""
    app = load_app(reference, imports)
    if url is None and prefix is None:
        return app
    prefix = app.address.prefix if prefix is None else prefix
    if url is None:
        return _RelocatedApp(app, replace(app.address, prefix=check_prefix(prefix)))
    return _RelocatedApp(app, Address.parse(url, "option", prefix=prefix))


def refuse_embedded(address: Address, command: str) -> None:
    """Raise UsageError for the embedded server, unless STREAMQ_ENV=dev: it ends with this process."""
    if address.kind == "embedded" and environment.ENV.get() != "dev":
        raise UsageError(
            f"streamq {command} does not run on an embedded server: that server ends with this process. "
            "Name a server with --url or STREAMQ_URL, or set STREAMQ_ENV=dev to allow it."
        )

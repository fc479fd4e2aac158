"""From `module:attribute` to an app, and which of its task types a worker serves.

Owns the import of the user's module and what is wrong with it. Connects to nothing and loads no more than
that.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from streamq import environment
from streamq.errors import StreamQError, UnknownTaskType, UsageError
from streamq.fingerprint import raised_at
from streamq.namespace import check_prefix
from streamq.options.service import WorkerOptions
from streamq.registry.registry import Registry, check_imports
from streamq.transport.address import Address
from streamq.worker.undiscovered_modules import undiscovered


class App(Protocol):
    """What a worker needs of an app."""

    @property
    def registry(self) -> Registry: ...
    @property
    def address(self) -> Address: ...


def load_app(reference: str, imports: Iterable[str] = ()) -> App:
    """Import `module:attribute` (`module` alone means `module:app`), and the modules that have its task
    types: those that it names, and `imports`. Raises UsageError."""
    module, _, attribute = reference.partition(":")
    if not module:
        raise UsageError(f"{reference!r} names no app: write it as module:attribute, such as shop.tasks:app")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _imported(module)
    for part in (attribute or "app").split("."):
        found = getattr(found, part, None)
    if not _is_app(found):
        apps = [name for name, value in vars(sys.modules[module]).items() if _is_app(value)]
        hint = f": write {module}:{apps[0]}" if apps else ""
        raise UsageError(f"{module!r} has no StreamQ app called {attribute or 'app'!r}{hint}")
    app: App = found
    import_modules((*getattr(app.registry, "imports", ()), *check_imports(imports)))
    return app


def _is_app(value: Any) -> bool:
    return hasattr(value, "registry") and hasattr(value, "address")


def import_modules(names: Iterable[str]) -> None:
    """Import what has task types. Raises UsageError."""
    for name in names:
        _imported(name, "which imports=[...] or --import names")


def _imported(module: str, otherwise: str = "write the app as module:attribute") -> Any:
    try:
        return importlib.import_module(module)
    except StreamQError:
        raise  # it says what is wrong with the app
    except ModuleNotFoundError as error:
        if error.name is not None and module.split(".", maxsplit=1)[0] == error.name.split(".")[0]:
            raise UsageError(f"there is no module {error.name!r} here: {otherwise}") from None
        raise _broken(module, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(module, error) from error


def _broken(module: str, error: BaseException) -> UsageError:
    """What is wrong with a module, with the place in the user's code."""
    if isinstance(error, SyntaxError):
        where, said = f"{error.filename}:{error.lineno}", error.msg
    else:
        where = str(raised_at(error.__traceback__) or module)
        said = " ".join(str(error).split())
    return UsageError(f"{module} cannot be imported: {where}: {type(error).__name__}: {said}")


class _At:
    """An app at another address than its own."""

    def __init__(self, app: App, address: Address) -> None:
        self.registry = copy(app.registry)
        self.registry.name = address.namespace.app(app.registry.name)
        self.address = address


def located(reference: str, url: str | None, prefix: str | None = None, imports: Iterable[str] = ()) -> App:
    """The app, at another server or under another prefix where one is given. Raises UsageError."""
    app = load_app(reference, imports)
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
    import_modules(registry.imports)
    if options.types is not None:
        if not options.types:
            raise UsageError("types=() serves nothing: name some, or leave it out to serve all")
        return sorted({_known(registry, name) for name in options.types})
    if not registry.handlers:
        raise UsageError(f"app {registry.name!r} has no task types: {_how_to_find(registry)}")
    return sorted(registry.handlers)


def _known(registry: Registry, name: str) -> str:
    try:
        return registry.get(name).name
    except UnknownTaskType as error:
        raise UnknownTaskType(f"{error}: {_how_to_find(registry)}") from None


def _how_to_find(registry: Registry) -> str:
    """What to do where task types are missing."""
    found = undiscovered(registry.home)
    if not found:
        return (
            "decorate a function with @app.task, and name its module with StreamQ(..., imports=[...]) or "
            "--import MODULE where the app's own does not import it"
        )
    names = ", ".join(f"{name!r}" for name in found[:5])
    return (
        "modules that look as if they had some are not imported: name them with "
        f"StreamQ(..., imports=[{names}]) or --import {found[0]}"
    )

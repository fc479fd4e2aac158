"""The settings of a backend: `TASKS[alias]["OPTIONS"]`.

Owns their names, their checks and their defaults. Connects to nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.utils.module_loading import import_string

from streamq import environment
from streamq.errors import InvalidOption, UsageError
from streamq.hooks import Hook
from streamq.options.checks import Duration, seconds, whole
from streamq.options.names import check_imports, check_name
from streamq.options.task import task_options
from streamq.transport.address import Address

OURS: Final = frozenset({"name", "priority", "schedule", "queue", "batch", "aliases"})
"""Options of a policy that DEFAULTS cannot set: they are a task's own, or a word of django.tasks."""


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """The checked OPTIONS of one backend.

    app: the app's name on the server. on_commit: the database alias whose COMMIT an `enqueue` in a
    transaction waits for; None sends at once. defaults: the policy of tasks that state nothing else.
    outbox: what waits for a COMMIT is a row of the transaction. dashboard: where the admin's link leads to.
    """

    app: str
    url: str | None = None
    prefix: str | None = None
    shards: int = 1
    patience: Duration = 5.0
    imports: tuple[str, ...] = ()
    hooks: tuple[Hook, ...] = ()
    defaults: tuple[tuple[str, Any], ...] = ()
    on_commit: str | None = None
    outbox: bool = False
    dashboard: str = ""


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidOption(f"{name}={value!r:.80} must be a text")
    return value


def _url(value: object, name: str) -> str:
    Address.parse(_text(value, name), "code")
    return _text(value, name)


def _app(value: object, name: str) -> str:
    check_name(_text(value, name), "an app")
    return _text(value, name)


def _on_commit(value: object, name: str) -> str | None:
    if value is False or value is None:
        return None
    if value is True:
        return "default"
    if isinstance(value, str):
        return value
    raise InvalidOption(f"{name}={value!r:.80} must be False, True or the alias of a database")


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidOption(f"{name}={value!r:.80} must be True or False")
    return value


def _defaults(value: object, name: str) -> tuple[tuple[str, Any], ...]:
    if not isinstance(value, Mapping):
        raise InvalidOption(f"{name}={value!r:.80} must be a dictionary of options of a task type")
    if wrong := sorted(OURS & value.keys()):
        raise InvalidOption(f"{name}: {wrong[0]} is a task's own: set it in @task(...)")
    task_options(value)
    return tuple(value.items())


def _hooks(value: object, name: str) -> tuple[Hook, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidOption(f"{name}={value!r:.80} must be a list of dotted paths of hooks")
    return tuple(_hook(one, name) for one in value)


def _hook(path: object, name: str) -> Hook:
    try:
        found: Any = import_string(_text(path, name))
    except ImportError as error:
        raise InvalidOption(f"{name}: {path!r:.120} cannot be imported: {error}") from None
    made: Hook = found() if isinstance(found, type) else found
    return made


_CHECKS: Final[dict[str, tuple[str, Callable[[Any, str], Any]]]] = {
    "APP": ("app", _app),
    "URL": ("url", _url),
    "PREFIX": ("prefix", lambda value, name: value if value == "" else _text(value, name)),
    "SHARDS": ("shards", lambda value, name: whole(value, name, least=1)),
    "PATIENCE": ("patience", seconds),
    "IMPORTS": ("imports", lambda value, _name: check_imports(value)),
    "HOOKS": ("hooks", _hooks),
    "DEFAULTS": ("defaults", _defaults),
    "ENQUEUE_ON_COMMIT": ("on_commit", _on_commit),
    "OUTBOX": ("outbox", _flag),
    "DASHBOARD_URL": ("dashboard", _text),
}
"""Each option: its field, and the check that returns its value."""
NAMES: Final = tuple(_CHECKS)


def parse(alias: str, options: Mapping[str, object]) -> BackendSettings:
    """Return the settings of a backend. Raises the first of its faults: UsageError."""
    for fault in faults(options):
        raise fault
    found = {_CHECKS[name][0]: _CHECKS[name][1](value, name) for name, value in options.items()}
    fields: dict[str, Any] = {"app": environment.APP.get() or _named(alias), **found}
    return BackendSettings(**fields)


def faults(options: Mapping[str, object]) -> list[UsageError]:
    """Return what is wrong with these options, each fault as an error that says what to write."""
    found: list[UsageError] = []
    for name, value in options.items():
        if name not in _CHECKS:
            near = difflib.get_close_matches(name.upper(), _CHECKS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_CHECKS)}"
            found.append(InvalidOption(f"there is no option {name!r}: {hint}"))
            continue
        try:
            _CHECKS[name][1](value, name)
        except UsageError as error:
            found.append(error)
        except (TypeError, ValueError) as error:
            found.append(InvalidOption(f"{name}={value!r:.80}: {error}"))
    return found


def _named(alias: str) -> str:
    return "django" if alias == "default" else alias

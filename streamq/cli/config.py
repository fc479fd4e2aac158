"""Show the settings and where each comes from: option, app's code, environment or default.

Default values are left out; --all shows them too, and --json always has everything.

With APP (module:attribute) the app's code is imported: its server, its shards, and the policy of each task
type are shown. Passwords are hidden. Does not connect to a server. Exit code 78 if a value cannot be used.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, cast

from streamq import environment, printable
from streamq.cli import listen, load, parser_of, target
from streamq.cli.output import write_json, write_message, write_table
from streamq.cli.worker import import_option, imports
from streamq.environment import Source, Variable
from streamq.errors import InvalidOption, InvalidURL, StreamQError, UsageError
from streamq.exit_codes import CONFIG, OK
from streamq.namespace import DEFAULT_PREFIX, check_prefix
from streamq.options.service import DaemonOptions, WorkerOptions
from streamq.options.task import TaskOptions
from streamq.telemetry.traces import Tracer, Tracing
from streamq.transport.address import Address

HIDDEN: Final = "***"
_SHOWN: Final = {
    "option": "option", "code": "app's code", "environment": "environment", "default": "default",
}  # fmt: skip


_CONNECTION: Final = (environment.URL, environment.PREFIX, environment.APP)


@dataclass(frozen=True, slots=True)
class Setting:
    """A value in use. `fault`: what is wrong with it; `by`: the option or variable that sets it."""

    name: str
    value: object
    source: Source
    by: str = ""
    fault: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="show")
    one = verbs.add_parser("show", help="each value and where it comes from", description=__doc__)
    one.add_argument("--all", action="store_true", help="show default values too")
    one.add_argument("code", nargs="?", metavar="APP", help="an app to import: module:attribute")
    import_option(one)
    target.options(one)


def run(args: argparse.Namespace) -> int:
    found = [*_connection(args), *_variables(), *_processes()]
    if args.code:
        try:
            found = [*_of_code(args), *found]
        except StreamQError as error:
            write_message(f"{error}")
            return CONFIG
    faulty = any(one.fault for one in found)
    if args.json:
        write_json({"settings": [asdict(one) for one in found]})
    else:
        _write(found, everything=args.all)
    return CONFIG if faulty else OK


def shorthand(args: list[str]) -> list[str]:
    """Complete `streamq config` to `streamq config show`."""
    return args if args and args[0] in ("show", "-h", "--help") else ["show", *args]


def _write(found: list[Setting], *, everything: bool) -> None:
    """Write the values that differ from the defaults, and the server; the rest needs --all."""
    shown = [
        one for one in found if everything or one.fault or one.source != "default" or one.name == "server"
    ]
    write_table(["SETTING", "VALUE", "FROM", "SET BY"], [_row(one) for one in shown], empty="")
    if rest := len(found) - len(shown):
        write_message(f"{rest} more have their default: --all shows them")


def _row(one: Setting) -> list[object]:
    value = "-" if one.value in (None, "") else str(one.value)
    return [one.name, f"{value}  ({one.fault})" if one.fault else value, _SHOWN[one.source], one.by]


def _connection(args: argparse.Namespace) -> list[Setting]:
    """Return the settings of commands."""
    url, app = args.url or environment.URL.get(), args.app or environment.APP.explicit()
    prefix = environment.PREFIX.get() if args.prefix is None else args.prefix
    return [
        _url("server", url, "option" if args.url else environment.URL.source(), "--url, STREAMQ_URL"),
        _prefix(prefix, "option" if args.prefix is not None else environment.PREFIX.source()),
        Setting("app", app, "option" if args.app else environment.APP.source(), "--app, STREAMQ_APP"),
    ]


def _url(name: str, url: str, source: Source, by: str) -> Setting:
    try:
        return Setting(name, str(Address.parse(url, prefix=DEFAULT_PREFIX)), source, by)
    except InvalidURL as error:
        return Setting(name, HIDDEN, source, by, str(error))  # any part of it may be the password


def _prefix(prefix: str, source: Source) -> Setting:
    by = "--prefix, STREAMQ_PREFIX"
    try:
        return Setting("prefix", check_prefix(prefix), source, by)
    except InvalidOption as error:
        return Setting("prefix", prefix, source, by, str(error))


def _variables() -> list[Setting]:
    others = [one for one in environment.VARIABLES if one not in _CONNECTION]
    return [Setting(_short(one), _shown(one), one.source(), one.name, _fault(one)) for one in others]


def _shown(variable: Variable) -> str | None:
    return (HIDDEN if variable.secret else printable.masked(variable.get())) if variable.get() else None


def _fault(variable: Variable) -> str:
    """Return why the value of a variable cannot be used; '' if it can."""
    try:
        if variable is environment.METRICS_PORT and variable.explicit():
            listen.read_port(variable.get())
        if variable is environment.TRACING and variable.explicit():
            Tracer("app", cast("Tracing", variable.get()), {})
    except UsageError as error:
        return str(error)
    return ""


def _short(variable: Variable) -> str:
    return variable.name.removeprefix("STREAMQ_").lower()


def _processes() -> list[Setting]:
    """Return the defaults of worker and daemon."""
    found: list[Setting] = []
    kinds: tuple[tuple[str, WorkerOptions | DaemonOptions], ...] = (
        ("worker", WorkerOptions()), ("daemon", DaemonOptions()),
    )  # fmt: skip
    for kind, defaults in kinds:
        by = _flags(kind)
        for field in fields(defaults):
            value = getattr(defaults, field.name)
            option = f"streamq {kind} {by[field.name]}" if field.name in by else ""
            found.append(Setting(f"{kind}.{field.name}", value, "default", option))
    return found


def _flags(name: str) -> dict[str, str]:
    """Return the flag of each option of a command, by the name of its value."""
    actions = parser_of(name, load(name))._actions  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - no public way
    return {one.dest: one.option_strings[-1] for one in actions if one.option_strings}


def _of_code(args: argparse.Namespace) -> list[Setting]:
    """Return the settings in the app's code. Raise UsageError if it cannot be imported."""
    from streamq.worker.loading import load_app

    app: Any = load_app(args.code, imports(args))
    source: Source = getattr(app, "url_from", "code")
    source_of_prefix: Source = getattr(app, "prefix_from", "code")
    found = [
        Setting("code.app", app.registry.name, "code"),
        Setting("code.server", str(app.address), source, "StreamQ(url=…), STREAMQ_URL"),
        Setting("code.prefix", app.address.prefix, source_of_prefix, "StreamQ(prefix=…), STREAMQ_PREFIX"),
        Setting("code.shards", app.registry.shards, "code" if app.registry.shards != 1 else "default"),
    ]
    for name, handler in sorted(app.registry.handlers.items()):
        for field in fields(TaskOptions):
            value = _as_json(getattr(handler.options, field.name))
            origin: Source = "code" if field.name in handler.stated else "default"
            found.append(Setting(f"{name}.{field.name}", value, origin, "@app.task"))
    return found


def _as_json(value: Any) -> Any:
    """Return a value of a policy in a form that JSON has."""
    if isinstance(value, tuple):
        return [getattr(one, "__name__", str(one)) for one in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return f"{value.count}/{value.period:g}s" if hasattr(value, "count") else type(value).__name__

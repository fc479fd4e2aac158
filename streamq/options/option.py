"""How an option is declared: as a field of TaskOptions or CallOptions, with all that is known of it.

Owns the form of a declaration and how its fields become a table. Does not know which options exist.
"""

from __future__ import annotations

from dataclasses import field, fields
from importlib import import_module
from types import UnionType
from typing import Final, NamedTuple, TypeVar

from streamq.options.checks import Check, seconds, whole

T = TypeVar("T")


class Option(NamedTuple):
    """One option. doc: a one-line description; more: further details.

    policy: `@app.task(...)` takes it. per_call: `.options(...)`, `send` and `streamq enqueue` take it.
    stored: for an option that travels in the envelope's field `m` if it differs from the policy: its minimum
    and its type. field: the field of CallOptions, if it has another name. metavar, choices: its value on the
    command line, where a `flag` has none.
    """

    name: str
    check: Check
    doc: str
    more: str = ""
    policy: bool = True
    per_call: bool = False
    stored: tuple[float, type | UnionType] | None = None
    field: str = ""
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    flag: bool = False


_OPTION: Final = "option"


def option(
    default: T,
    check: Check,
    doc: str,
    more: str = "",
    *,
    name: str = "",
    per_call: bool = False,
    stored: tuple[float, type | UnionType] | None = None,
    metavar: str | None = None,
    choices: tuple[str, ...] | None = None,
    flag: bool = False,
) -> T:
    """Return a field of a dataclass that is an option. name: if callers know it by another one."""
    row = Option(
        name, check, doc, more, per_call=per_call, stored=stored, metavar=metavar, choices=choices, flag=flag
    )
    return field(default=default, metadata={_OPTION: row})


def declared(options: type, *, policy: bool) -> dict[str, Option]:
    """Return the options that a dataclass declares, by their names."""
    found: dict[str, Option] = {}
    for one in fields(options):
        row: Option | None = one.metadata.get(_OPTION)
        if row is not None:
            name = row.name or one.name
            found[name] = row._replace(name=name, policy=policy, field=one.name if row.name else "")
    return found


def descriptions(names: dict[str, Option]) -> str:
    """Return the options' descriptions, one paragraph each, for a docstring."""
    return "\n".join(
        f"    {one.name}: {one.doc}." + (f" {one.more}" if one.more else "") for one in names.values()
    )


def seconds_from(least: float) -> Check:
    """Return the check of a duration of at least so many seconds."""
    return lambda value, name: seconds(value, name, least=least)


def whole_from(least: int) -> Check:
    """Return the check of a whole number of at least this."""
    return lambda value, name: whole(value, name, least=least)


def loaded(module: str, name: str) -> Check:
    """Return a check of a module beside this one that is loaded when the option is first given: most programs
    never do."""

    def check(value: object, option: str) -> object:
        found: Check = getattr(import_module(f"streamq.options.{module}"), name)
        return found(value, option)

    return check

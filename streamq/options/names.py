"""Check the names that a program gives: of an app, a task type, a module.

Owns the errors for a name that cannot be used. What a name may be is in `model.task`.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamq.errors import InvalidOption
from streamq.model.task import NAME_PATTERN, TYPE_PATTERN


def check_name(name: str, what: str = "a task type") -> None:
    """Raise InvalidOption if the name cannot be part of a key."""
    pattern = TYPE_PATTERN if what == "a task type" else NAME_PATTERN
    if not isinstance(name, str) or not pattern.fullmatch(name):  # type: ignore[redundant-expr]
        if isinstance(name, str) and "://" in name:  # type: ignore[redundant-expr]
            # It may hold a password: it is not repeated.
            raise InvalidOption(f"a URL is not a valid name for {what}: the name comes first, then the URL")
        raise InvalidOption(
            f"{name!r:.120} is not a valid name for {what}: use letters, digits, _ - . (at most 100)"
        )


def check_imports(names: Iterable[str]) -> tuple[str, ...]:
    """Return module names without repetitions. Raises InvalidOption for a text that is not one."""
    if isinstance(names, str):
        raise InvalidOption(f"imports={names!r} must be a list of names: write [{names!r}]")
    found = tuple(dict.fromkeys(names))
    for name in found:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):  # type: ignore[redundant-expr]
            raise InvalidOption(f"{name!r:.120} is not the name of a module: write it as 'shop.tasks'")
    return found

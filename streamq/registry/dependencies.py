"""The dependencies of a handler: which of its parameters they are, and its signature without them.

Owns that reading. A dependency is no argument of the task: neither a call nor a payload has it.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from streamq.errors import InvalidDependency
from streamq.resources.declared import DependencyOverrides, Provider
from streamq.resources.depends import Dependency
from streamq.resources.parameters import of_parameter

if TYPE_CHECKING:
    from streamq.resources.plan import DependencyPlan


class Dependencies:
    """The dependencies of one handler, by parameter."""

    def __init__(self, declared: dict[str, Dependency], *, is_async: bool) -> None:
        self._declared, self._is_async = declared, is_async
        self._plan = self._compiled({})
        self._version = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters."""
        return tuple(self._declared)

    def plan(self, overrides: DependencyOverrides) -> DependencyPlan:
        """Return the plan with these overrides. Raises InvalidDependency."""
        if self._version != overrides.version:
            self._plan = self._compiled(overrides)
            self._version = overrides.version
        return self._plan

    def _compiled(self, overrides: Mapping[Provider, Callable[..., object]]) -> DependencyPlan:
        from streamq.resources.plan import compiled  # noqa: PLC0415 - most handlers have no dependency

        return compiled(self._declared, overrides, is_async=self._is_async)

    def unannotated(self, function: object) -> object:
        """Return an object with the function's annotations, but those of dependencies: the types of these may
        be known to type checkers only."""
        found = types.SimpleNamespace()
        names = getattr(function, "__annotations__", {}).items()
        found.__annotations__ = {name: hint for name, hint in names if name not in self._declared}
        inner = inspect.unwrap(function) if callable(function) else function
        found.__globals__ = getattr(inner, "__globals__", {})
        return found


def of(
    function: Callable[..., object], signature: inspect.Signature, *, is_async: bool
) -> Dependencies | None:
    """Return the dependencies of a handler; None if it has none. Raises InvalidDependency."""
    found: dict[str, Dependency] = {}
    for one in signature.parameters.values():
        marked = of_parameter(one, function)
        if marked is not None:
            _check(one, signature)
            found[one.name] = marked
        elif found and one.kind is one.POSITIONAL_OR_KEYWORD:
            raise InvalidDependency(
                f"parameter {one.name!r} follows the dependency {next(iter(found))!r}: put dependencies "
                "last, or after a `*`, so that positional arguments keep their places"
            )
    return Dependencies(found, is_async=is_async) if found else None


def _check(one: inspect.Parameter, signature: inspect.Signature) -> None:
    listed = any(other.kind is one.VAR_POSITIONAL for other in signature.parameters.values())
    if one.kind is one.KEYWORD_ONLY or (one.kind is one.POSITIONAL_OR_KEYWORD and not listed):
        return
    raise InvalidDependency(
        f"the dependency {one.name!r} is given by name: put it after the `*` or the `*args` of the handler"
    )


def without(signature: inspect.Signature, dependencies: Dependencies | None) -> inspect.Signature:
    """Return a signature without the dependencies."""
    if dependencies is None:
        return signature
    kept = [one for name, one in signature.parameters.items() if name not in dependencies.names]
    return signature.replace(parameters=kept)

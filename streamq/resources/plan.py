"""Compiles the dependencies of a handler into a plan: what is called, in which order, and where.

Owns that order, and what is refused when a handler is registered. Must not call a dependency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

from streamq.errors import InvalidDependency
from streamq.resources.declared import Provider
from streamq.resources.depends import Dependency, Scope
from streamq.resources.kinds import Kind, made
from streamq.resources.lifespan import Lifespan
from streamq.resources.parameters import Parameter, parameters

Key = tuple[object, object]
_ON_LOOP: Final = ("awaited", "async")


@dataclass(frozen=True, slots=True)
class Node:
    """One dependency. make: makes the value, or its context manager. needs: its parameters, and the node of
    each. context: the parameter that takes the Context. key: of a value that the process keeps."""

    name: str
    make: Callable[..., Any]
    kind: Kind
    scope: Scope
    needs: tuple[tuple[str, int], ...]
    context: str | None
    key: Key


class DependencyPlan:
    """The dependencies of one handler, each after those that it needs. arguments: the handler's parameters,
    and the node of each."""

    def __init__(self, nodes: list[Node], arguments: tuple[tuple[str, int], ...], *, is_async: bool) -> None:
        self.nodes: tuple[Node, ...] = tuple(nodes)
        self.arguments: tuple[tuple[str, int], ...] = arguments
        self.process: tuple[int, ...] = tuple(n for n, node in enumerate(nodes) if node.scope == "process")
        own = [n for n, node in enumerate(nodes) if node.scope == "attempt"]
        on_loop = set(own) if is_async else self._on_loop(own)
        self.on_loop: tuple[int, ...] = tuple(n for n in own if n in on_loop)
        self.in_thread: tuple[int, ...] = tuple(n for n in own if n not in on_loop)

    def _on_loop(self, numbers: Iterable[int]) -> set[int]:
        """Return what is made on the event loop for a `def` handler: async ones and all that they need."""
        found: set[int] = set()

        def add(number: int) -> None:
            found.add(number)
            for _, needed in self.nodes[number].needs:
                add(needed)

        for number in numbers:
            if self.nodes[number].kind in _ON_LOOP:
                add(number)
        return found

    @cached_property
    def keys(self) -> frozenset[Key]:
        """The keys of the values that the process keeps."""
        return frozenset(self.nodes[number].key for number in self.process)


def compiled(
    declared: Mapping[str, Dependency], overrides: Mapping[Provider, Callable[..., Any]], *, is_async: bool
) -> DependencyPlan:
    """Return the plan for the dependencies of a handler, by parameter. Raises InvalidDependency."""
    builder = _Builder(overrides)
    arguments = tuple((name, builder.add(one, "attempt", ())) for name, one in declared.items())
    return DependencyPlan(builder.nodes, arguments, is_async=is_async)


class _Builder:
    """Adds nodes, each dependency once unless it must not be shared."""

    def __init__(self, overrides: Mapping[Provider, Callable[..., Any]]) -> None:
        self.nodes: list[Node] = []
        self._overrides = overrides
        self._numbers: dict[Key, int] = {}

    def add(self, marked: Dependency, outer: Scope, trail: tuple[object, ...]) -> int:
        """Return the number of a dependency's node. outer: the scope of what needs it; trail: what that
        is."""
        wanted = marked.dependency
        if wanted is None:
            raise InvalidDependency(f"{_chain(trail)}: Depends() needs a function")
        provider = self._overrides.get(wanted, wanted)
        if provider in trail:
            raise InvalidDependency(f"dependencies need each other in a circle: {_chain((*trail, provider))}")
        scope: Scope = outer if marked.scope is None else marked.scope
        if isinstance(provider, Lifespan):
            scope = "process"
        if outer == "process" and scope == "attempt":
            raise InvalidDependency(
                f"{_chain((*trail, provider))}: a dependency of scope 'process' cannot need one of scope "
                "'attempt'"
            )
        key = (provider, scope)
        if marked.cached and key in self._numbers:
            return self._numbers[key]
        number = self._append(provider, scope, (*trail, provider))
        if marked.cached:
            self._numbers[key] = number
        return number

    def _append(self, provider: Provider, scope: Scope, trail: tuple[object, ...]) -> int:
        if isinstance(provider, Lifespan):
            self.nodes.append(
                Node(provider.name, provider.enter, "async", "process", (), None, (provider, scope))
            )
            return len(self.nodes) - 1
        found = parameters(provider, _chain(trail))
        needs = tuple(
            (one.name, self.add(one.dependency, scope, trail)) for one in found if one.dependency is not None
        )
        context = _context(found, scope, trail)
        kind, make = made(provider)
        self.nodes.append(Node(_named(provider), make, kind, scope, needs, context, (provider, scope)))
        return len(self.nodes) - 1


def _context(found: Iterable[Parameter], scope: Scope, trail: tuple[object, ...]) -> str | None:
    for one in found:
        if one.dependency is None:
            if scope == "process":
                raise InvalidDependency(
                    f"{_chain(trail)}: a dependency of scope 'process' cannot take a Context, which belongs "
                    "to an attempt"
                )
            return one.name
    return None


def _named(provider: object) -> str:
    inner = provider
    while isinstance(inner, partial):
        inner = inner.func
    return str(getattr(inner, "__qualname__", type(inner).__qualname__))


def _chain(trail: Iterable[object]) -> str:
    return " -> ".join(one.name if isinstance(one, Lifespan) else _named(one) for one in trail)

"""Reads which parameters of a function are dependencies.

Owns what a parameter may be, and the errors for what a worker cannot give: a request, above all. Annotations
are read as far as they are known when the function is registered: one may name a class further down.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, get_args, get_origin

from streamq.context import Context
from streamq.errors import InvalidDependency
from streamq.resources.depends import Dependency, marker

_OF_A_REQUEST: Final = ("fastapi", "starlette")
_FIX: Final = (
    "a worker has no request. Move what the task needs into a dependency of its own, and let that of the "
    "request call it"
)
_UNKNOWN: Final = object()


class Parameter(NamedTuple):
    """A parameter that gets a value. dependency: None for the Context of the attempt."""

    name: str
    dependency: Dependency | None


def parameters(function: Callable[..., object], chain: str) -> list[Parameter]:
    """Return the parameters of a dependency that get a value. Raises InvalidDependency for one that gets
    none. chain: how it is reached, for messages."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return []  # some classes that are written in C have none: they are called without arguments
    found: list[Parameter] = []
    for one in signature.parameters.values():
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue
        marked = of_parameter(one, function)
        if marked is not None:
            found.append(Parameter(one.name, marked))
        elif _evaluated(one.annotation, function) is Context and one.default is one.empty:
            found.append(Parameter(one.name, None))
        else:
            _check(one, function, chain)
        if marked is not None or one.default is one.empty:
            _check_kind(one, chain)
    return found


def of_parameter(one: inspect.Parameter, function: Callable[..., object]) -> Dependency | None:
    """Return the marker of a parameter: its default, or in its `Annotated`. None if it has none."""
    marked, annotation = marker(one.default), _UNKNOWN
    if marked is None and one.annotation is not one.empty:
        annotation = _evaluated(one.annotation, function)
        marked = next((found for part in _extras(annotation) if (found := marker(part)) is not None), None)
    if marked is None or marked.dependency is not None:
        return marked
    if annotation is _UNKNOWN:
        annotation = _evaluated(one.annotation, function)
    kind = get_args(annotation)[0] if _extras(annotation) else annotation
    if not callable(kind) or kind is inspect.Parameter.empty:
        raise InvalidDependency(
            f"parameter {one.name!r}: Depends() needs a class as annotation, or a function"
        )
    return Dependency(kind, None, cached=marked.cached)


def _check_kind(one: inspect.Parameter, chain: str) -> None:
    if one.kind is one.POSITIONAL_ONLY:
        raise InvalidDependency(f"{chain}: parameter {one.name!r} is given by name: leave out the `/`")


def _check(one: inspect.Parameter, function: Callable[..., object], chain: str) -> None:
    """Raise InvalidDependency for a parameter that nothing gives a value to."""
    annotation = _evaluated(one.annotation, function)
    kind = get_args(annotation)[0] if _extras(annotation) else annotation
    for value in (one.default, *_extras(annotation)):
        if _module(type(value)) in _OF_A_REQUEST:
            raise InvalidDependency(
                f"{chain}: parameter {one.name!r} is read from a request ({type(value).__name__}): {_FIX}"
            )
    if one.default is not one.empty:
        return
    if isinstance(kind, type) and _module(kind) in _OF_A_REQUEST:
        raise InvalidDependency(f"{chain}: parameter {one.name!r} needs a {kind.__name__}: {_FIX}")
    raise InvalidDependency(
        f"{chain}: parameter {one.name!r} has no value: give it a default, or write "
        f"{one.name} = Depends(...). A web framework would read it from the request; {_FIX}"
    )


def _module(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _extras(annotation: object) -> tuple[object, ...]:
    """Return what an `Annotated` adds to its type."""
    found = getattr(annotation, "__metadata__", None)
    return found if isinstance(found, tuple) and get_origin(annotation) is not None else ()


def _evaluated(annotation: object, function: Callable[..., object]) -> object:
    """Return an annotation; of a text that is a name or an `Annotated`, what it means now, if that is
    known."""
    if not isinstance(annotation, str):
        return annotation
    names = _globals(function)
    if all(part.isidentifier() for part in annotation.split(".")):
        first, *rest = annotation.split(".")
        found = names.get(first, _UNKNOWN)
        for part in rest:
            found = getattr(found, part, _UNKNOWN)
        return found
    if "Annotated[" not in annotation:
        return _UNKNOWN
    try:
        return eval(annotation, names)  # noqa: S307 # nosec B307 - the program's own annotation
    except Exception:  # noqa: BLE001 - it may name what is defined further down
        return _UNKNOWN


def _globals(function: Any) -> dict[str, object]:
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    inner = inspect.unwrap(inner)
    if not inspect.isroutine(inner):
        inner = getattr(*((inner, "__init__") if isinstance(inner, type) else (type(inner), "__call__")))
    inner = getattr(inner, "__func__", inner)
    found = getattr(inner, "__globals__", None)
    return found if isinstance(found, dict) else vars(sys.modules.get(inner.__module__, sys))

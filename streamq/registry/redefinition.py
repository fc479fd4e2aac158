"""Decides whether a handler that is registered again is the same function, or another under a taken name.

Owns that decision, and the source of a function whatever name its module runs under. A module may be executed
more than once: by `importlib.reload`, as `__main__` and by its own name, cell by cell in a notebook. A
definition at the same location replaces the one of an earlier run. Within one run only identical code is the
same.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

_UNBOUND = object()
_MAIN = ("__main__", "__mp_main__")


class Run:
    """One execution of a module or a cell: its code, and the name it runs under."""

    def __init__(self, code: CodeType, name: str) -> None:
        self.code: CodeType = code
        self.name: str = name

    def repeats(self, other: Run) -> bool:
        """Return whether this is another execution of the same source."""
        same_source = self.name == other.name or self.code.co_filename == other.code.co_filename
        return self.code is not other.code and same_source


def current_run() -> Run | None:
    """Return the module that is being executed now; None if there is none."""
    frame = inspect.currentframe()
    while frame is not None and not _at_top_level(frame):
        frame = frame.f_back
    return None if frame is None else Run(frame.f_code, str(frame.f_globals.get("__name__", "")))


def _at_top_level(frame: FrameType) -> bool:
    """Return whether this is the code of a module or a cell, not of a function or a class."""
    in_function = frame.f_code.co_flags & inspect.CO_NEWLOCALS
    return not in_function and frame.f_locals is frame.f_globals


def redefined(new: object, old: object, again: bool) -> bool:
    """Return whether `new` redefines `old`. again: its module has been executed since."""
    return (again and _same_location(new, old)) or _same(new, old, set())


def _same_location(new: object, old: object) -> bool:
    """Return whether both are defined at the same location in the source."""
    (one, its), (other, others) = _source(new), _source(old)
    names = one.__qualname__ == other.__qualname__
    return names and (one.__module__ == other.__module__ or (its is not None and its == others))


def _source(function: object) -> tuple[Any, str | None]:
    """Return the function or class of a handler, and its file."""
    inner = innermost(function)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    code = getattr(inner, "__code__", None)
    module = sys.modules.get(named.__module__)
    return named, code.co_filename if code is not None else getattr(module, "__file__", None)


def innermost(function: object) -> object:
    """Return the function in partials, bound methods and decorators that use functools.wraps."""
    seen: set[int] = set()
    while id(function) not in seen:
        seen.add(id(function))
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        else:
            function = getattr(function, "__wrapped__", function)
    return function


def _same(new: object, old: object, seen: set[tuple[int, int]]) -> bool:
    """Return whether two values are equal; functions are if their code, defaults and closures are."""
    if new is old or (id(new), id(old)) in seen or new is _UNBOUND or old is _UNBOUND:
        return True
    seen.add((id(new), id(old)))
    if isinstance(new, FunctionType) and isinstance(old, FunctionType):
        return _same_function(new, old, seen)
    if isinstance(new, partial) and isinstance(old, partial):
        one, other = ((value.func, value.args, _items(value.keywords)) for value in (new, old))
        return _same(one, other, seen)
    if isinstance(new, MethodType) and isinstance(old, MethodType):
        return _same(new.__func__, old.__func__, seen) and _same(new.__self__, old.__self__, seen)
    if isinstance(new, tuple | list) and isinstance(old, tuple | list) and type(new) is type(old):
        pairs: Iterable[tuple[object, object]] = zip(new, old, strict=False)
        if len(new) == len(old):
            return all(_same(one, other, seen) for one, other in pairs)
    return type(new) is type(old) and not isinstance(new, type) and _same_object(new, old, seen)


def _same_function(new: FunctionType, old: FunctionType, seen: set[tuple[int, int]]) -> bool:
    one, other = new.__code__, old.__code__
    return (
        one == other
        and one.co_filename == other.co_filename
        and _same(new.__defaults__, old.__defaults__, seen)
        and _same(_items(new.__kwdefaults__), _items(old.__kwdefaults__), seen)
        and _same(_enclosed(new), _enclosed(old), seen)
    )


def _items(values: dict[str, object] | None) -> tuple[object, ...]:
    return tuple(sorted((values or {}).items()))


def _enclosed(function: FunctionType) -> tuple[object, ...]:
    found: list[object] = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # bound when the decorator returns: the function
            found.append(_UNBOUND)
    return tuple(found)


def _same_object(new: object, old: object, seen: set[tuple[int, int]]) -> bool:
    try:
        if bool(new == old):
            return True
    except Exception:  # noqa: BLE001 - a value of the user's: who cannot say is different
        return False
    if hasattr(new, "__wrapped__"):  # a task type
        return _same(getattr(new, "__wrapped__", None), getattr(old, "__wrapped__", None), seen)
    plain = callable(new) and not hasattr(type(new), "__slots__")
    return plain and _same(_items(vars(new)), _items(vars(old)), seen)


def location(function: object) -> str:
    """Return file and line, for a message; '' if there are none."""
    code = getattr(innermost(function), "__code__", None)
    return "" if code is None else f"{Path(code.co_filename).name}:{code.co_firstlineno}"


def importable(reference: str) -> str:
    """Return `module:qualname`, with the module's own name if it runs as a program (`__main__`)."""
    module, colon, qualname = reference.partition(":")
    if module not in _MAIN:
        return reference
    return f"{_own_name(module)}{colon}{qualname}"


def _own_name(main: str) -> str:
    module = sys.modules.get(main)
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.name not in _MAIN:  # python -m
        return str(spec.name)
    file = getattr(module, "__file__", None)
    stem = Path(file).stem if file else ""
    return stem if stem.isidentifier() else main


def moved(before: str, now: str) -> bool:
    """Return whether a handler's reference names another function than before. `tasks:email` and
    `shop.tasks:email` are the same: a file run as a program does not know its package."""
    (one, _, its), (other, _, others) = before.rpartition(":"), now.rpartition(":")
    if its != others:
        return True
    shorter, longer = sorted((one, other), key=len)
    known = one not in _MAIN and other not in _MAIN
    return known and longer != shorter and not longer.endswith(f".{shorter}")

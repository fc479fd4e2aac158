"""Exports names of a package whose modules are imported only when a name is first used.

Owns a package's `__getattr__` (PEP 562), and imports while the program is ending. A command that only prints
its help, or a program that only enqueues, does not import the rest. Must not import anything of streamq by
itself.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module


def names(package: str, modules: Mapping[str, Sequence[str]]) -> tuple[list[str], Callable[[str], object]]:
    """Return a package's `__all__` and `__getattr__`, from the names in each of its modules."""
    home = {name: module for module, inside in modules.items() for name in inside}

    def load(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with allowed_at_exit():
            value: object = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return sorted(home), load


@contextmanager
def allowed_at_exit() -> Generator[None]:
    """Allow imports while the program is ending: in an exit handler, or in a thread that is still joined. The
    standard library's thread pools register an exit handler when they are imported, which fails by then; they
    have no threads yet that it would have to stop."""
    if not getattr(threading, "_SHUTTING_DOWN", False):
        yield
        return
    name = "_register_atexit"  # it has no public name
    register: object = getattr(threading, name)
    setattr(threading, name, lambda *_args, **_kwargs: None)
    try:
        yield
    finally:
        setattr(threading, name, register)

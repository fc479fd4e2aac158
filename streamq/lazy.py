"""Names that a package offers without loading the module they are in before somebody uses one.

Owns a package's `__getattr__` (PEP 562), and what a module that is loaded late may meet. A command line
that only prints its help, or a program that only enqueues, does not pay for the rest.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any


def names(package: str, modules: Mapping[str, Sequence[str]]) -> tuple[list[str], Callable[[str], object]]:
    """A package's `__all__` and `__getattr__`, from the names in each of its modules."""
    home = {name: module for module, inside in modules.items() for name in inside}

    def load(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with at_any_time():
            value: object = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return sorted(home), load


@contextmanager
def at_any_time() -> Generator[None]:
    """Let modules be loaded after the end of the program has begun: in an exit handler, or in a thread that
    is still waited for. The standard library's thread pools ask to be told of that end as they are loaded,
    and fail where it has been told already; they have no threads yet that it would concern."""
    module: Any = threading
    if not getattr(module, "_SHUTTING_DOWN", False):
        yield
        return
    register = module._register_atexit  # noqa: SLF001 - it has no public name
    module._register_atexit = lambda *_args, **_kwargs: None  # noqa: SLF001
    try:
        yield
    finally:
        module._register_atexit = register  # noqa: SLF001

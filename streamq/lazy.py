"""Names that a package offers without loading the module they are in before somebody uses one.

Owns a package's `__getattr__` (PEP 562), and nothing else. A command line that only prints its help, or
a program that only enqueues, does not pay for the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def names(package: str, modules: Mapping[str, Sequence[str]]) -> tuple[list[str], Callable[[str], Any]]:
    """A package's `__all__` and `__getattr__`, from the names in each of its modules."""
    home = {name: module for module, inside in modules.items() for name in inside}

    def load(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return sorted(home), load

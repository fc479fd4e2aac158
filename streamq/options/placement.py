"""Check where tasks may run: the queue of a type, pools of workers, what a task needs of a worker.

Owns their names and their syntax. Knows no worker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, cast

from streamq.errors import InvalidOption
from streamq.options.checks import whole

DEFAULT: Final = "default"
"""The queue of a type that names none, and the workers that serve no pool."""
Resources = tuple[tuple[str, int], ...]
"""How much of what: (("gpu", 1),)."""
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,49}")


def label(value: object, name: str) -> str:
    """Return the name of a queue, a pool or a resource. Raises InvalidOption."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidOption(f"{name}={value!r:.80}: use letters, digits, _ - . (at most 50)")
    return value


def labels(text: str, name: str) -> tuple[str, ...]:
    """Return the names in a text, each once: `media,default`. Raises InvalidOption."""
    found = tuple(dict.fromkeys(label(one.strip(), name) for one in text.split(",") if one.strip()))
    if not found:
        raise InvalidOption(f"{name}={text!r:.80}: name at least one")
    return found


def resources(value: object, name: str) -> Resources:
    """Return how much of what a task needs, or a worker has. Raises InvalidOption."""
    if isinstance(value, tuple):
        value = dict(cast("Resources", value))
    if not isinstance(value, Mapping):
        raise InvalidOption(f"{name}={value!r:.80}: must be a mapping of names to numbers: {{'gpu': 1}}")
    given = cast("Mapping[object, object]", value)
    return tuple(
        sorted(
            (label(one, name), whole(number, f"{name}[{one!r:.60}]", least=1))
            for one, number in given.items()
        )
    )


def resources_of(texts: Iterable[str], name: str) -> Resources:
    """Return the same from a command line: `gpu=2,licence=1`. Raises InvalidOption."""
    found: dict[str, int] = {}
    for part in ",".join(texts).split(","):
        one, mark, number = part.strip().partition("=")
        if not mark or not number.isdecimal():
            raise InvalidOption(f"{name}={part.strip()!r:.80}: write a name and a number, such as gpu=2")
        found[one] = int(number)
    return resources(found, name)

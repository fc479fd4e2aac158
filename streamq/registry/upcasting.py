"""Makes the arguments of an older version into those of this one, before they are decoded.

Owns the chains of upcasters, also those of results and memos, and `extra="ignore"`. Must not change what is
stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from streamq.errors import DecodeError
from streamq.options.task import TaskOptions

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes the arguments of a version, by name and as JSON data, into those of the next."""


ValueUpcaster = Callable[[Any], Any]
"""Makes the result of a version, as JSON data, into that of the next."""
MemoUpcaster = Callable[[str, Any], Any]
"""Makes what a step of this name has stored, as JSON data, into what the next version stores."""


def upcast_value(
    value: object, version: int, newest: int, upcasters: Mapping[int, ValueUpcaster], what: str
) -> object:
    """Return a value of a version as the newest one has it; one of a newer version as it is. Raises
    DecodeError if an upcaster fails."""
    for step in range(version, newest):
        upcaster = upcasters.get(step)
        try:
            value = value if upcaster is None else upcaster(value)
        except Exception as error:
            raise DecodeError(
                f"{what}: the upcaster from version {step} failed: {type(error).__name__}: {error}",
                reason="version",
            ) from error
    return value


def fitted(
    raw: bytes,
    version: int,
    options: TaskOptions,
    upcasters: Mapping[int, Upcaster],
    is_argument: Callable[[str], bool],
) -> bytes:
    """Return arguments of a version as the current one has them, both as JSON. Raises what an upcaster does,
    and DecodeError if one returns no arguments."""
    try:
        given: object = orjson.loads(raw)
    except ValueError:
        return raw  # whoever decodes it says what is wrong
    if not isinstance(given, dict):
        return raw
    for step in range(version, options.version):
        upcaster = upcasters.get(step)
        given = given if upcaster is None else upcaster(given)
        if not isinstance(given, dict):
            raise DecodeError(
                f"the upcaster from version {step} returned {type(given).__name__}, not arguments by name",
                reason="arguments",
            )
    if options.extra == "ignore":
        given = {name: value for name, value in given.items() if is_argument(name)}
    return orjson.dumps(given)

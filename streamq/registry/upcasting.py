"""Makes the arguments of an older version into those of this one, before they are decoded.

Owns the chain of upcasters and `extra="ignore"`. Must not change what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from streamq.errors import DecodeError
from streamq.options.task import TaskOptions

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes the arguments of a version, by name and as JSON data, into those of the next."""


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
        given: Any = orjson.loads(raw)
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

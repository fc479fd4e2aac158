"""The address of a trace in another tool, such as Grafana, Jaeger or Honeycomb.

Owns the form of the setting `trace_url`. Must not know pages.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from streamq.errors import InvalidOption

PLACE: Final = "{trace_id}"
"""Where the id of the trace goes, 32 hexadecimal digits."""


def check(pattern: str | None) -> str:
    """Return a pattern, '' for none. Raise InvalidOption if it is no address with a place for the id."""
    if pattern is None or pattern == "":
        return ""
    try:
        parts = urlsplit(pattern)
    except ValueError as error:
        raise InvalidOption(f"trace_url={pattern[:200]!r} is not an address: {error}. {_FIX}") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidOption(f"trace_url={pattern[:200]!r} is not an address of http or https. {_FIX}")
    if PLACE not in pattern:
        raise InvalidOption(f"trace_url={pattern[:200]!r} has no place for the id of a trace. {_FIX}")
    return pattern


_FIX: Final = "Write one such as 'https://grafana.example/explore?trace={trace_id}'"


def address_of(pattern: str, trace_id: str) -> str:
    """Return the address of a trace, '' without a pattern."""
    return pattern.replace(PLACE, trace_id)

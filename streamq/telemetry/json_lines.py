"""Log lines as JSON without structlog, for the supervisor, which runs no user code.

Owns their form, which is that of `logs` in every other process: structlog would take a third of the
supervisor's start. Must not be used where a user's code may configure logging.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson

from streamq import printable


class JsonLines:
    """A logger. level: the least that is written. fail: writes the exception that is being handled."""

    def __init__(self, level: int, fail: Callable[..., object], bound: Mapping[str, object]) -> None:
        self._level, self._fail, self._bound = level, fail, bound

    def bind(self, bound: Mapping[str, object]) -> JsonLines:
        """Return a logger with these fields in every line."""
        return JsonLines(self._level, self._fail, {**self._bound, **bound})

    def debug(self, event: str, **fields: object) -> None:
        self.log(logging.DEBUG, event, **fields)

    def info(self, event: str, **fields: object) -> None:
        self.log(logging.INFO, event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        self.log(logging.WARNING, event, **fields)

    def error(self, event: str, **fields: object) -> None:
        self.log(logging.ERROR, event, **fields)

    def critical(self, event: str, **fields: object) -> None:
        self.log(logging.CRITICAL, event, **fields)

    def exception(self, event: str, **fields: object) -> None:
        self._fail(event, **self._bound, **fields)

    def log(self, level: int, event: str, **fields: object) -> None:
        """Write a line. What cannot be written is dropped: a closed reader must not end a supervisor."""
        if level < self._level:
            return
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        about = {"event": event, "level": logging.getLevelName(level).lower(), "timestamp": now}
        with suppress(OSError, ValueError):
            sys.stderr.write(json_line({**self._bound, **fields, **about}) + "\n")
            sys.stderr.flush()


def json_line(event: Mapping[Any, object]) -> str:
    """Return an event as a line of JSON, whatever its values are: a log line must not fail a task."""
    try:
        raw = orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # lone surrogates, an integer of more than 64 bits, a key of no JSON type
        raw = orjson.dumps({_text(key): _text(value) for key, value in event.items()})
    return printable.json(raw.decode())


def _text(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "backslashreplace").decode()

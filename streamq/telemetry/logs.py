"""Logs: structlog, set up only in streamq's own processes, never in a user's.

Owns the log format (console on a terminal, JSON by orjson otherwise, always on stderr), and that every line
written while a handler runs, by whatever logger, names its task, type, attempt, worker and trace. A library
user who has structlog set up sees streamq's events through it.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any, Final, TextIO, cast

from streamq.context import CURRENT
from streamq.telemetry.traces import trace_id

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("auto", "console", "json")
_SETTINGS: list[tuple[str, str]] = []


def get_logger(**bound: Any) -> Any:
    """streamq's logger. structlog is imported here, at first use: a producer that never logs is spared."""
    import structlog  # noqa: PLC0415

    return structlog.get_logger("streamq", **bound)


def configure(level: str = "info", form: str = "auto") -> None:
    """Set logging up for a process of ours; the standard library's loggers go the same way."""
    import structlog  # noqa: PLC0415

    _SETTINGS[:] = [(level, form)]
    number = getattr(logging, level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        with_task,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render = _console() if form == "console" or (form == "auto" and sys.stderr.isatty()) else _json()
    structlog.configure(
        processors=[*shared, structlog.processors.StackInfoRenderer(), *render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Stderr())),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        foreign_pre_chain=shared,
    )
    handler = logging.StreamHandler(cast("TextIO", _Stderr()))
    handler.setFormatter(formatter)
    logging.basicConfig(level=max(number, logging.INFO), handlers=[handler], force=True)


def always(event: str, **about: Any) -> None:
    """Log at level info, whatever the level is: what programs wait for, as that a worker is ready.

    In a user's process, where logging is not ours, it is a line like any other.
    """
    import structlog  # noqa: PLC0415

    if not _SETTINGS:
        get_logger().info(event, **about)
        return
    logger = structlog.PrintLogger(cast("TextIO", _Stderr()))
    unfiltered = structlog.make_filtering_bound_logger(logging.INFO)
    structlog.wrap_logger(logger, wrapper_class=unfiltered).info(event, **about)


def settings() -> tuple[str, str] | None:
    """Level and format, where logging was set up here: for processes that we start."""
    return _SETTINGS[0] if _SETTINGS else None


def with_task(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """A structlog processor: adds the task that runs here. Asked for each line, so a task that logs nothing
    pays nothing; put it into your own configuration to have the same there."""
    context = CURRENT.get(None)
    if context is not None:
        event.setdefault("task", context.id)
        event.setdefault("type", context.type)
        event.setdefault("attempt", context.attempt)
        event.setdefault("worker", context.worker)
    if trace := trace_id():
        event.setdefault("trace_id", trace)
    return event


class _Stderr:
    """Standard error as it is at the moment. A reader that has gone must not end a worker: what cannot
    be written is dropped."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return sys.stderr.write(text)
        return 0

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def _console() -> list[Any]:
    import structlog  # noqa: PLC0415

    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]


def _plain(value: Any) -> str:
    """Text that JSON can hold, whatever a handler has logged: a log line must not fail its task."""
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "backslashreplace").decode()


def _json() -> list[Any]:
    import orjson  # noqa: PLC0415
    import structlog  # noqa: PLC0415

    def dumps(event: Any, **_: Any) -> str:
        try:
            return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # lone surrogates, an integer of more than 64 bits, a key of no JSON type
            return orjson.dumps({_plain(key): _plain(value) for key, value in event.items()}).decode()

    return [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(serializer=dumps)]

"""Logging with structlog, configured in streamq's own processes only, never in a user's process.

Owns the log format (console on a terminal, otherwise JSON by orjson, always on stderr). Adds the task, type,
attempt, worker and trace to every line that any logger writes while a handler runs. If a library user has
configured structlog, streamq's events go through that configuration.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager, suppress
from io import StringIO
from typing import TYPE_CHECKING, Final, Protocol, TextIO, cast

from streamq import printable
from streamq.context import CURRENT
from streamq.telemetry.json_lines import JsonLines, json_line
from streamq.telemetry.traces import trace_id

if TYPE_CHECKING:
    from structlog.typing import ExcInfo, Processor

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("auto", "console", "json")
_SETTINGS: list[tuple[str, str]] = []
_PLAIN: list[JsonLines] = []
_RECORDS: Final = "streamq.task"
"""The standard library logger that gets a record for each failed attempt."""
_LONGEST_LINE: Final = 200
_MARK: Final = "streamq_failure"


class Logger(Protocol):
    """The methods of a structlog logger that streamq calls: an event name, then its fields."""

    def debug(self, event: str, **fields: object) -> object: ...
    def info(self, event: str, **fields: object) -> object: ...
    def warning(self, event: str, **fields: object) -> object: ...
    def error(self, event: str, **fields: object) -> object: ...
    def exception(self, event: str, **fields: object) -> object: ...
    def critical(self, event: str, **fields: object) -> object: ...
    def log(self, level: int, event: str, **fields: object) -> object: ...


def get_logger(**bound: object) -> Logger:
    """Return streamq's logger; in a program that has not configured structlog, one of warnings and errors on
    stderr. structlog is imported on first use, not by a producer that never logs."""
    if _PLAIN:
        return _PLAIN[0].bind(bound)
    import structlog  # noqa: PLC0415

    if _SETTINGS or structlog.is_configured():
        logger: Logger = structlog.get_logger("streamq", **bound)
        return logger
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    printer = structlog.PrintLogger(cast("TextIO", _Stderr()))
    unconfigured: Logger = structlog.wrap_logger(printer, wrapper_class=quiet).bind(**bound)
    return unconfigured


def configure(level: str = "info", form: str = "auto") -> None:
    """Configure logging for one of streamq's own processes, the standard library's loggers included."""
    import structlog  # noqa: PLC0415

    _SETTINGS[:] = [(level, form)]
    _PLAIN.clear()
    number = getattr(logging, level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        with_task,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render = _console(tracebacks=level == "debug") if _on_console(form) else _json()
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
    handler.addFilter(_not_logged_yet)
    logging.basicConfig(level=max(number, logging.INFO), handlers=[handler], force=True)


@contextmanager
def supervising(level: str = "info", form: str = "auto") -> Generator[None]:
    """Log for a process that runs no user code: without structlog if it writes JSON."""
    if _on_console(form):
        configure(level, form)
        yield
        return

    def fail(event: str, **fields: object) -> None:
        configure(level, form)
        get_logger().exception(event, **fields)

    _SETTINGS[:] = [(level, form)]
    _PLAIN[:] = [JsonLines(getattr(logging, level.upper()), fail, {})]
    try:
        yield
    finally:
        _PLAIN.clear()


def _on_console(form: str) -> bool:
    return form == "console" or (form == "auto" and sys.stderr.isatty())


def always(event: str, **fields: object) -> None:
    """Log at level info regardless of the configured level, for lines that programs wait for, such as
    "worker ready".

    If streamq did not configure logging, the user's level applies.
    """
    import structlog  # noqa: PLC0415

    if not _SETTINGS:
        get_logger().info(event, **fields)
        return
    logger = structlog.PrintLogger(cast("TextIO", _Stderr()))
    unfiltered = structlog.make_filtering_bound_logger(logging.INFO)
    structlog.wrap_logger(logger, wrapper_class=unfiltered).info(event, **fields)


def settings() -> tuple[str, str] | None:
    """Return the level and format for child processes; None if streamq did not configure logging."""
    return _SETTINGS[0] if _SETTINGS else None


def with_task(
    _logger: object, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Add the running task to a log line: a structlog processor. It runs once per line, so a task that logs
    nothing pays nothing. Add it to your own configuration to get the same fields there."""
    context = CURRENT.get(None)
    if context is not None:
        event.setdefault("task", context.id)
        event.setdefault("type", context.type)
        event.setdefault("attempt", context.attempt)
        event.setdefault("worker", context.worker)
    if trace := trace_id():
        event.setdefault("trace_id", trace)
    return event


class RemoteError(Exception):
    """Represents an exception raised in another process; its cause holds the traceback as text."""


def debug_enabled() -> bool:
    """Return whether lines at debug level are written. They are not if no logging is configured."""
    import structlog  # noqa: PLC0415

    if _SETTINGS:
        return _SETTINGS[0][0] == "debug"
    if not structlog.is_configured():
        return logging.getLogger(_RECORDS).isEnabledFor(logging.DEBUG)
    is_enabled_for = getattr(structlog.get_logger(), "is_enabled_for", None)
    return bool(is_enabled_for(logging.DEBUG)) if is_enabled_for is not None else False


def log_failure(
    log: Logger,
    event: str,
    *,
    final: bool,
    exception: BaseException,
    traceback: str,
    fields: dict[str, object],
    worker: str,
    attempts: str,
) -> None:
    """Log a failed attempt: one line, and one standard library `logging` record with the exception, which
    error trackers read. Neither a log that raises nor an exception without a repr may end a worker."""
    level = logging.ERROR if final else logging.WARNING
    with suppress(BaseException):
        more: dict[str, object] = {}
        if _SETTINGS:
            more = {"traceback": _short(traceback)} if traceback else {}
        elif _own_structlog():
            more = {"exc_info": exception}
        log.log(level, event, **fields, **more)
    if _own_structlog() and _through_stdlib():
        return  # the line is already a standard library record
    with suppress(BaseException):
        _record(level, exception, fields, worker, attempts)


def _record(
    level: int, exception: BaseException, fields: dict[str, object], worker: str, attempts: str
) -> None:
    logger = logging.getLogger(_RECORDS)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())  # otherwise Python prints it if no logging is configured
    logger.log(
        level,
        "task %s failed in attempt %s: %s: %s",
        fields["task"], attempts, fields["error"], fields["message"],
        exc_info=(type(exception), exception, exception.__traceback__),
        extra={
            _MARK: True, "task_id": fields["task"], "task_type": fields["type"],
            "task_attempt": fields["attempt"], "task_worker": worker,
        },
    )  # fmt: skip


def _short(traceback: str) -> str:
    """Return a traceback with long lines cut: the log line holds the whole message."""
    return "\n".join(line[:_LONGEST_LINE] for line in traceback.split("\n"))


def _own_structlog() -> bool:
    import structlog  # noqa: PLC0415

    return not _SETTINGS and structlog.is_configured()


def _through_stdlib() -> bool:
    import structlog  # noqa: PLC0415

    return isinstance(structlog.get_config()["logger_factory"], structlog.stdlib.LoggerFactory)


def _not_logged_yet(record: logging.LogRecord) -> bool:
    """Return False for a record of a failed attempt, which streamq has already logged as a line."""
    return not hasattr(record, _MARK)


class _Stderr:
    """The current standard error. Drops what cannot be written: a closed reader must not end a worker."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return sys.stderr.write(text)
        return 0

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def _console(*, tracebacks: bool) -> list[Processor]:
    import structlog  # noqa: PLC0415

    render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_write_exception)

    def render_event(logger: object, name: str, event: MutableMapping[str, object]) -> str:
        """Return an event as one line, followed by a failed attempt's traceback if tracebacks are on."""
        traceback = event.pop("traceback", None)
        safe = {printable.line(str(key)): _printable(key, value) for key, value in event.items()}
        text = render(logger, name, safe)
        if not tracebacks or not isinstance(traceback, str):
            return text
        return f"{text}\n{printable.below(traceback.rstrip())}"

    return [render_event]


class _SafeRepr:
    """Wraps a value so that its repr, which the console prints, has no terminal control characters."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        return printable.line(repr(self._value))


def _printable(key: str, value: object) -> object:
    """Return a value that is safe on the console: a line break would start what looks like another event."""
    if key == "exc_info" or value is None or isinstance(value, int | float):
        return value
    if key in ("stack", "exception"):
        return printable.below(str(value))
    if key == "event":
        return printable.line(str(value))
    return value if isinstance(value, str) and printable.line(value) == value else _SafeRepr(value)


def _write_exception(out: TextIO, raised: ExcInfo) -> None:
    from structlog.dev import plain_traceback  # noqa: PLC0415

    text = StringIO()
    plain_traceback(text, raised)
    out.write(printable.below(text.getvalue()))


def _json() -> list[Processor]:
    import structlog  # noqa: PLC0415

    def dumps(event: dict[object, object], **_: object) -> str:
        return json_line(event)

    return [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(serializer=dumps)]
